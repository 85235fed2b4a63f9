//! What is held, what ends the holding, and what never leaves.

use super::*;

#[test]
fn an_answer_waits_for_its_commit_and_starts_the_upload() {
    let world = World::begin(|_| {});
    let (mut client, mut app) = world.connection();
    client.write_all(b"before").unwrap();
    assert_eq!(read(&mut app, 6), "before");
    app.write_all(b"nothing was committed").unwrap();
    assert_eq!(read(&mut client, 21), "nothing was committed");
    assert_eq!(world.ledger.requests.load(SeqCst), 0);
    world.ledger.commit();
    app.write_all(b"saved").unwrap();
    world.held(5);
    assert!(world.ledger.requests.load(SeqCst) >= 1 && world.view().oldest.is_some());
    client.write_all(b"requests go on").unwrap();
    assert_eq!(read(&mut app, 14), "requests go on");
    nothing_comes(&mut client);
    world.ledger.upload();
    assert_eq!(read(&mut client, 5), "saved");
    world.held(0);
    assert_eq!(world.view().times.iter().sum::<u64>(), 1);
    assert_eq!(world.view().oldest, None);
}

#[test]
fn what_follows_keeps_its_place() {
    let world = World::begin(|_| {});
    let (mut client, mut app) = world.connection();
    for (round, byte) in ["a", "b", "c"].iter().enumerate() {
        world.ledger.commit();
        app.write_all(byte.as_bytes()).unwrap();
        world.held(round as u64 + 1);
    }
    world.ledger.position.send_modify(|position| position.uploaded = 2);
    assert_eq!(read(&mut client, 2), "ab");
    world.held(1);
    nothing_comes(&mut client);
    world.ledger.upload();
    assert_eq!(read(&mut client, 1), "c");
}

#[test]
fn a_read_of_another_connection_waits_too() {
    let world = World::begin(|_| {});
    let ((mut writer, mut writing), (mut reader, mut reading)) = (world.connection(), world.connection());
    world.ledger.commit();
    writing.write_all(b"saved").unwrap();
    world.held(5);
    reading.write_all(b"shown").unwrap();
    world.held(10);
    nothing_comes(&mut reader);
    world.ledger.upload();
    assert_eq!((read(&mut writer, 5), read(&mut reader, 5)), ("saved".into(), "shown".into()));
}

#[test]
fn the_look_comes_after_the_read() {
    let world = World::begin(|_| {});
    let (mut client, mut app) = world.connection();
    // Right after a look that finds nothing, the app commits and answers. A gate that reads now sends that
    // answer.
    let ledger = Arc::clone(&world.ledger);
    let mut answering = app.try_clone().unwrap();
    after_the_next_look(&world, move || {
        ledger.commit();
        answering.write_all(b"saved").unwrap();
    });
    app.write_all(b"first").unwrap();
    assert_eq!(read(&mut client, 5), "first");
    world.held(5);
    nothing_comes(&mut client);
    world.ledger.upload();
    assert_eq!(read(&mut client, 5), "saved");
}

/// After the next look, which finds nothing, these things happen while the gate's thread waits.
fn after_the_next_look(world: &World, happens: impl FnOnce() + Send + 'static) {
    *world.ledger.after_look.lock().unwrap() = Some(Box::new(happens));
}

#[test]
fn a_look_covers_no_answer_of_another_connection_that_was_read_later() {
    let world = World::begin(|_| {});
    let ((mut first, mut first_app), (mut second, mut second_app)) = (world.connection(), world.connection());
    let ledger = Arc::clone(&world.ledger);
    after_the_next_look(&world, move || {
        ledger.commit();
        second_app.write_all(b"saved").unwrap();
    });
    first_app.write_all(b"first").unwrap();
    assert_eq!(read(&mut first, 5), "first");
    world.held(5);
    nothing_comes(&mut second);
    world.ledger.upload();
    assert_eq!(read(&mut second, 5), "saved");
}

#[test]
fn answers_that_come_together_share_a_look() {
    let world = World::begin(|_| {});
    let mut connections: Vec<_> = (0..8).map(|_| world.connection()).collect();
    let mut apps: Vec<TcpStream> = connections.iter().map(|(_, app)| app.try_clone().unwrap()).collect();
    after_the_next_look(&world, move || apps.iter_mut().for_each(|app| app.write_all(b"shared").unwrap()));
    let (mut client, mut app) = world.connection();
    app.write_all(b"first").unwrap();
    assert_eq!(read(&mut client, 5), "first");
    connections.iter_mut().for_each(|(client, _)| assert_eq!(read(client, 6), "shared"));
    assert_eq!(world.ledger.looks.load(SeqCst), 2);
}

#[test]
fn the_end_of_an_answer_waits_too() {
    let world = World::begin(|_| {});
    let (mut client, app) = world.connection();
    world.ledger.commit();
    app.shutdown(std::net::Shutdown::Write).unwrap();
    world.until("the end is held", |view| view.oldest.is_some());
    nothing_comes(&mut client);
    world.ledger.upload();
    ends(&mut client);
    // Half of the connection is open.
    let mut app = app;
    client.write_all(b"still").unwrap();
    assert_eq!(read(&mut app, 5), "still");
    drop(client);
    ends(&mut app);
    drop(app);
    world.until("the connection has ended", |view| view.connections == 0);
}

#[test]
fn a_reset_waits_too_and_stays_a_reset() {
    let world = World::begin(|_| {});
    let (mut client, mut app) = world.connection();
    world.ledger.commit();
    app.write_all(b"half an answer").unwrap();
    world.held(14);
    reset(app);
    nothing_comes(&mut client);
    world.ledger.upload();
    assert_eq!(read(&mut client, 14), "half an answer");
    is_reset(&mut client);
}

#[test]
fn a_client_that_gives_up_is_a_reset_for_the_app() {
    let world = World::begin(|_| {});
    let (client, mut app) = world.connection();
    world.ledger.commit();
    app.write_all(b"saved").unwrap();
    world.held(5);
    reset(client);
    is_reset(&mut app);
    world.until("nothing is left", |view| view.connections == 0 && view.held_bytes == 0);
}

#[test]
fn what_is_held_is_limited_and_the_app_waits() {
    let world = World::begin(|_| {});
    let (mut client, app) = world.connection();
    world.ledger.commit();
    const ALL: usize = 16 << 20;
    let sent: Vec<u8> = (0..ALL).map(|at| (at % 251) as u8).collect();
    let expected = sent.clone();
    let writing = std::thread::spawn(move || (&app).write_all(&sent));
    world.held(256 << 10);
    assert!(!writing.is_finished(), "the app is not read any more");
    world.ledger.upload();
    let mut found = vec![0; ALL];
    client.read_exact(&mut found).unwrap();
    assert!(found == expected);
    writing.join().unwrap().unwrap();
}

#[test]
fn without_a_proof_in_time_the_connection_is_closed_and_nothing_of_the_answer_was_sent() {
    let world = World::begin(|settings| settings.timeout = Duration::from_millis(50));
    let (mut client, mut app) = world.connection();
    world.ledger.commit();
    app.write_all(b"saved").unwrap();
    is_reset(&mut client);
    is_reset(&mut app);
    world.until_closed(Reason::Timeout, 1);
    // The next one is held again, and leaves when the proof is there.
    let (mut client, mut app) = world.connection();
    app.write_all(b"later").unwrap();
    world.held(5);
    world.ledger.upload();
    assert_eq!(read(&mut client, 5), "later");
}

#[test]
fn answers_pass_without_a_proof_if_the_configuration_says_so() {
    let world = World::begin(|settings| {
        (settings.timeout, settings.on_failure) = (Duration::from_millis(200), OnFailure::Pass);
    });
    let (mut client, mut app) = world.connection();
    world.ledger.commit();
    let begun = Instant::now();
    app.write_all(b"first").unwrap();
    assert_eq!(read(&mut client, 5), "first");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    // Until something is proven again, the others need not wait.
    let begun = Instant::now();
    for _ in 0..10 {
        app.write_all(b"other").unwrap();
        assert_eq!(read(&mut client, 5), "other");
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((world.view().unproven, world.closed(Reason::Timeout)), (11, 0));
    world.ledger.upload();
    app.write_all(b"y").unwrap();
    assert_eq!(read(&mut client, 1), "y");
    world.ledger.commit();
    app.write_all(b"again").unwrap();
    world.held(5);
    world.ledger.upload();
    assert_eq!(read(&mut client, 5), "again");
    assert_eq!(world.view().unproven, 11);
}

#[test]
fn a_replica_of_another_writer_closes_everything() {
    for by_ledger in [true, false] {
        let world = World::begin(|settings| settings.on_failure = OnFailure::Pass);
        let ((mut idle, _other), (mut client, mut app)) = (world.connection(), world.connection());
        world.ledger.commit();
        app.write_all(b"saved").unwrap();
        world.held(5);
        if by_ledger {
            world.ledger.fence()
        } else {
            world.gates.fenced()
        }
        is_reset(&mut client);
        is_reset(&mut idle);
        world.until("the port is closed", |view| view.shut.is_some());
        assert_eq!(TcpStream::connect(world.gate).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        world.until("all are counted", |_| world.closed(Reason::Fenced) == 2);
        world.until("nothing is left", |view| view.connections == 0);
    }
}

#[test]
fn uploads_are_requested_as_often_as_the_configuration_allows() {
    let interval = Duration::from_millis(300);
    let world = World::begin(|settings| settings.min_interval = interval);
    let (mut client, mut app) = world.connection();
    let begun = Instant::now();
    world.ledger.commit();
    for round in 1..=20 {
        app.write_all(b"x").unwrap();
        world.held(round);
    }
    let asked = world.ledger.requests.load(SeqCst);
    assert!(asked <= 1 + begun.elapsed().as_millis() as u64 / 300, "{asked} in {:?}", begun.elapsed());
    // What came in between is not forgotten.
    while world.ledger.requests.load(SeqCst) < 2 {
        assert!(begun.elapsed() < LIMIT);
        std::thread::yield_now();
    }
    assert!(begun.elapsed() >= interval);
    world.ledger.upload();
    assert_eq!(read(&mut client, 20), "x".repeat(20));
}

#[test]
fn a_panic_of_the_ledger_closes_the_gate() {
    struct Broken;
    impl DurabilityLedger for Broken {
        fn look(&self) -> Durability {
            panic!("a bug")
        }
        fn request_upload(&self) {}
        fn uploaded(&self, _: Ticket) -> Pin<Box<dyn Future<Output = Result<(), Fenced>> + Send + '_>> {
            Box::pin(std::future::pending())
        }
        fn unprovable(&self) -> Vec<(String, String)> {
            Vec::new()
        }
    }
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = free_address();
    let broken: Arc<dyn DurabilityLedger> = Arc::new(Broken);
    let gates = Gates::start(vec![settings(gate, app.local_addr().unwrap())], &broken).unwrap();
    gates.app_started();
    app.accept().unwrap();
    let world = World { ledger: ledger(), gates, app, gate };
    world.until("the gate is open", |view| view.shut.is_none());
    let ((mut other, _app), (mut client, mut app)) = (world.connection(), world.connection());
    app.write_all(b"saved").unwrap();
    is_reset(&mut client);
    is_reset(&mut other);
    world.until("the port is closed", |view| view.shut.as_deref() == Some("internal error"));
    assert!(TcpStream::connect(world.gate).is_err());
}

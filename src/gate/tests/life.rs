//! When the gate opens, how many it lets in, and how it ends.

use super::*;

fn opens(world: &World) {
    world.until("the gate is open", |view| view.shut.is_none());
}

fn refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn the_port_opens_when_the_app_accepts() {
    let address = free_address();
    let gate = free_address();
    let (ledger, gates) = start(settings(gate, address));
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = World { ledger, gates, app, gate };
    assert!(refused(gate));
    world.gates.app_started();
    world.until("the app is asked", |view| {
        view.shut.as_deref().is_some_and(|why| why.contains("does not accept"))
    });
    assert!(refused(gate));
    world.app = TcpListener::bind(address).unwrap();
    world.app.accept().unwrap();
    opens(&world);
    let (mut client, mut app) = world.connection();
    app.write_all(b"x").unwrap();
    assert_eq!(read(&mut client, 1), "x");
}

#[test]
fn an_early_gate_lets_its_connections_wait_for_the_app() {
    let address = free_address();
    let gate = free_address();
    let (ledger, gates) = start(GateSettings { accept: Accept::Early, ..settings(gate, address) });
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = World { ledger, gates, app, gate };
    opens(&world);
    let mut client = world.client();
    client.write_all(b"early").unwrap();
    world.until("it waits", |view| view.connections == 1);
    let gone = world.client();
    world.until("another waits", |view| view.connections == 2);
    reset(gone);
    world.until("it is gone", |view| view.connections == 1);
    world.gates.app_started();
    world.app = TcpListener::bind(address).unwrap();
    let (mut app, _) = world.app.accept().unwrap();
    assert_eq!(read(&mut app, 5), "early");
    app.write_all(b"answer").unwrap();
    assert_eq!(read(&mut client, 6), "answer");
}

#[test]
fn an_app_that_is_started_again_keeps_the_port() {
    let mut world = World::begin(|_| {});
    let (mut client, app) = world.connection();
    let address = world.app.local_addr().unwrap();
    drop(app);
    drop(std::mem::replace(&mut world.app, TcpListener::bind("127.0.0.1:0").unwrap()));
    ends(&mut client);
    // As without a gate: no process listens.
    is_reset(&mut world.client());
    world.until_closed(Reason::Unreachable, 1);
    world.app = TcpListener::bind(address).unwrap();
    world.gates.app_started();
    let (mut client, mut app) = world.connection();
    app.write_all(b"again").unwrap();
    assert_eq!(read(&mut client, 5), "again");
}

#[test]
fn connections_are_limited() {
    let world = World::begin(|settings| settings.max_connections = 2);
    let first = world.connection();
    let second = world.connection();
    let mut third = world.client();
    third.write_all(b"third").unwrap();
    world.until("two are in", |view| view.connections == 2);
    world.app.set_nonblocking(true).unwrap();
    assert!(world.app.accept().is_err(), "it waits in the kernel");
    world.app.set_nonblocking(false).unwrap();
    drop(first);
    let (app, _) = world.app.accept().unwrap();
    assert_eq!(read(&mut within_limit(app), 5), "third");
    assert_eq!(world.view().accepted, 3);
    drop(second);
}

#[test]
fn the_last_answer_leaves_after_the_last_flush() {
    let world = World::begin(|_| {});
    let (mut client, mut app) = world.connection();
    let (mut idle, other) = world.connection();
    world.ledger.commit();
    app.write_all(b"the last one").unwrap();
    world.held(12);
    // The app ends; its port is closed.
    drop((app, other));
    world.gates.flushing();
    world.until("the port is closed", |view| view.shut.is_some());
    assert!(refused(world.gate));
    nothing_comes(&mut client);
    world.ledger.upload();
    let begun = Instant::now();
    world.gates.finish(true, Deadline::after(LIMIT));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "it does not wait for the idle client: {:?}",
        begun.elapsed()
    );
    assert_eq!(read(&mut client, 12), "the last one");
    ends(&mut client);
    ends(&mut idle);
}

#[test]
fn what_the_last_flush_does_not_prove_is_not_sent() {
    for (on_failure, sent) in [(OnFailure::Close, false), (OnFailure::Pass, true)] {
        let world = World::begin(|settings| settings.on_failure = on_failure);
        let (mut client, mut app) = world.connection();
        world.ledger.commit();
        app.write_all(b"saved").unwrap();
        world.held(5);
        drop(app);
        world.gates.flushing();
        world.gates.finish(false, Deadline::after(LIMIT));
        if sent {
            assert_eq!(read(&mut client, 5), "saved");
            ends(&mut client);
        } else {
            is_reset(&mut client);
            assert_eq!(world.closed(Reason::Unflushed), 1);
        }
    }
}

#[test]
fn a_client_that_does_not_read_delays_the_end_for_a_limited_time() {
    let world = World::begin(|_| {});
    let (client, app) = world.connection();
    let sending = std::thread::spawn(move || (&app).write_all(&vec![7; 64 << 20]));
    world.until("it is sending", |_| client.peek(&mut [0; 1]).is_ok());
    world.gates.flushing();
    let begun = Instant::now();
    world.gates.finish(true, Deadline::after(Duration::from_millis(200)));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(sending.join().unwrap().is_err());
}

#[test]
fn idle_connections_cost_little() {
    const COUNT: usize = 200;
    let world = World::begin(|_| {});
    let open: Vec<_> = (0..COUNT).map(|_| world.connection()).collect();
    world.until("all are in", |view| view.connections == COUNT as u64);
    assert!(std::mem::size_of::<connection::Connection>() < 512);
    drop(open);
    world.until("all have ended", |view| view.connections == 0);
}

#[test]
fn a_port_that_is_taken_is_tried_again() {
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = taken.local_addr().unwrap();
    let (ledger, gates) = start(settings(gate, app.local_addr().unwrap()));
    gates.app_started();
    let world = World { ledger, gates, app, gate };
    world.until("it is taken", |view| view.shut.as_deref().is_some_and(|why| why.contains("cannot listen")));
    drop(taken);
    opens(&world);
}

//! Bytes pass unchanged, in both directions at once.

use super::*;
use crate::model::Crc64;

/// Sends a stream that is known by its seed, and ends it.
fn send(mut stream: impl Write, mut seed: u64, bytes: usize) -> u64 {
    let mut sum = Crc64::default();
    let mut left = bytes;
    while left > 0 {
        // xorshift: chunks of all sizes.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let chunk: Vec<u8> =
            (0..left.min(1 + seed as usize % 100_000)).map(|at| (seed >> (at % 57)) as u8).collect();
        stream.write_all(&chunk).unwrap();
        sum.update(&chunk);
        left -= chunk.len();
    }
    sum.value()
}

fn receive(mut stream: impl Read) -> (u64, usize) {
    let mut sum = Crc64::default();
    let mut bytes = 0;
    let mut buffer = vec![0; 100_000];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return (sum.value(), bytes),
            count => {
                sum.update(&buffer[..count]);
                bytes += count;
            }
        }
    }
}

#[test]
fn a_large_upload_and_a_large_download_at_once() {
    // LITEVISOR_GATE_MIB=1024: a longer one.
    let mib = std::env::var("LITEVISOR_GATE_MIB").ok().and_then(|mib| mib.parse().ok());
    let bytes = mib.unwrap_or(64_usize) << 20;
    let world = World::begin(|_| {});
    let (client, app) = world.connection();
    let sending = |stream: &TcpStream, seed| {
        let stream = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            let sum = send(&stream, seed, bytes);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            sum
        })
    };
    let receiving = |stream: &TcpStream| {
        let stream = stream.try_clone().unwrap();
        std::thread::spawn(move || receive(stream))
    };
    let up = sending(&client, 7);
    let down = sending(&app, 9);
    let up_end = receiving(&app);
    let down_end = receiving(&client);
    // Commits come and go meanwhile.
    for _ in 0..50 {
        world.ledger.commit();
        std::thread::yield_now();
        world.ledger.upload();
    }
    assert_eq!(up_end.join().unwrap(), (up.join().unwrap(), bytes));
    assert_eq!(down_end.join().unwrap(), (down.join().unwrap(), bytes));
    world.until("the connection has ended", |view| view.connections == 0);
}

#[test]
fn both_sides_speak_whenever_they_like() {
    let world = World::begin(|_| {});
    let (mut client, mut app) = world.connection();
    // The app speaks first; then as a WebSocket or HTTP/2 does it.
    app.write_all(b"hello").unwrap();
    assert_eq!(read(&mut client, 5), "hello");
    for round in 0..200_u32 {
        let text = format!("{round:04}");
        if round % 3 != 0 {
            client.write_all(text.as_bytes()).unwrap();
        }
        if round % 2 == 0 {
            world.ledger.commit();
            app.write_all(text.as_bytes()).unwrap();
            world.held(4);
            world.ledger.upload();
            assert_eq!(read(&mut client, 4), text);
        }
        if round % 3 != 0 {
            assert_eq!(read(&mut app, 4), text);
        }
    }
}

#[test]
fn a_client_that_ends_its_stream_gets_its_answer() {
    let world = World::begin(|_| {});
    let (mut client, mut app) = world.connection();
    client.write_all(b"request").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(receive(&app).1, 7);
    app.write_all(b"answer").unwrap();
    drop(app);
    assert_eq!(read(&mut client, 6), "answer");
    ends(&mut client);
}

#[test]
fn an_app_that_refuses_the_request_is_still_heard() {
    let world = World::begin(|_| {});
    let (mut client, mut app) = world.connection();
    app.write_all(b"413").unwrap();
    assert_eq!(read(&mut client, 3), "413");
    client.write_all(b"not read by the app").unwrap();
    world.until("it was sent on", |_| app.peek(&mut [0; 19]).unwrap() == 19);
    // Closed with unread bytes: the kernel resets it.
    drop(app);
    is_reset(&mut client);
}

#[test]
fn sockets_of_the_file_system() {
    use std::os::unix::net::{UnixListener, UnixStream};
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let app = dir.path().join("app");
    // Left over by a process that was killed.
    drop(UnixListener::bind(&gate).unwrap());
    let listener = UnixListener::bind(&app).unwrap();
    let settings = GateSettings::new(ListenAddress::Unix(gate.clone()), AppAddress::Unix(app));
    let (ledger, gates) = start(settings);
    gates.app_started();
    listener.accept().unwrap();
    let begun = Instant::now();
    let mut client = loop {
        match UnixStream::connect(&gate) {
            Ok(client) => break client,
            Err(error) => assert!(begun.elapsed() < LIMIT, "{error}"),
        }
    };
    let (mut app, _) = listener.accept().unwrap();
    client.write_all(b"request").unwrap();
    assert_eq!(read(&mut app, 7), "request");
    ledger.commit();
    app.write_all(b"answer").unwrap();
    while gates.statistics()[0].view().held_bytes != 6 {
        assert!(begun.elapsed() < LIMIT);
    }
    ledger.upload();
    assert_eq!(read(&mut client, 6), "answer");
    drop(app);
    ends(&mut client);
    drop(client);
    gates.finish(true, Deadline::after(LIMIT));
    assert!(!gate.exists(), "the name is free again");
}

#[test]
fn the_app_is_told_its_clients_address() {
    let world = World::begin(|settings| settings.proxy_protocol = true);
    let (mut client, mut app) = world.connection();
    client.write_all(b"GET").unwrap();
    let expected = proxy_header::of_client(client.local_addr().ok(), Some(world.gate));
    let mut found = vec![0; expected.len() + 3];
    app.read_exact(&mut found).unwrap();
    assert_eq!(found, [&expected[..], b"GET"].concat());
}

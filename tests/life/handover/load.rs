//! Rolling deploys under load, with the gate: clients behind a balancer that moves as a platform's does.

use super::*;
use crate::support::repository;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Instant;

const CLIENTS: usize = 4;
/// Of one request: a hand-over is shorter.
const PATIENCE: Duration = Duration::from_secs(30);

/// Deploys in one test; `LITEVISOR_DEPLOYS` for more.
fn deploys() -> usize {
    std::env::var("LITEVISOR_DEPLOYS").map_or(4, |text| text.parse().unwrap())
}

/// Copies each connection to the instance that has the traffic when it comes.
struct Balancer {
    port: u16,
    target: Arc<AtomicU16>,
}

impl Balancer {
    fn new(target: u16) -> Balancer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        let current = Arc::clone(&target);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = current.load(Ordering::Acquire);
                std::thread::spawn(move || forward(client, target));
            }
        });
        Balancer { port, target }
    }
}

fn forward(client: TcpStream, target: u16) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = std::io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Both);
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    acknowledged: Mutex<Vec<String>>,
    failed: AtomicU64,
    ended: AtomicBool,
}

pub(super) fn ask(port: u16, id: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("put {id}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line == format!("ok {id}\n"))
}

fn client(number: usize, port: u16, seen: &Seen) {
    for request in 0.. {
        if seen.ended.load(Ordering::Acquire) {
            return;
        }
        let id = format!("{number}-{request}");
        match ask(port, &id) {
            Ok(true) => seen.acknowledged.lock().unwrap().push(id),
            Ok(false) | Err(_) => {
                seen.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A machine with a gate, and its port.
fn machine(other: Option<&Machine>, accept: &str) -> (Machine, u16) {
    gated(other, "", accept)
}

/// `keys`: of [handover].
pub(super) fn machine_with(other: Option<&Machine>, keys: &str) -> (Machine, u16) {
    gated(other, keys, "ready")
}

fn gated(other: Option<&Machine>, keys: &str, accept: &str) -> (Machine, u16) {
    let (port, app) = (own_port(), own_port());
    let keys = format!(
        "{keys}[[gate]]\nlisten = \"127.0.0.1:{port}\"\napp = \"127.0.0.1:{app}\"\nset_port = true\naccept = \"{accept}\"\n"
    );
    (other.map_or_else(|| Machine::first(&keys), |other| Machine::next(other, &keys)), port)
}

pub(super) fn serve(machine: &Machine) -> Litevisor {
    let server = repository().join("tests/life/handover/server.py");
    let db = machine.site.db();
    machine.site.run(&["python3", "-S", server.to_str().unwrap(), db.to_str().unwrap()])
}

fn wait_until_serving(new: &Machine, runs: [&Litevisor; 2]) {
    let end = Instant::now() + PATIENCE;
    while new.ready().is_none_or(|(status, _)| status != 200) {
        let [old, new] = runs.map(Litevisor::log_text);
        assert!(Instant::now() < end, "not ready in time. The old one:\n{old}\nThe new one:\n{new}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns how many requests failed; every acknowledged one is in the replica.
fn roll(accept: &str) -> u64 {
    let (first, port) = machine(None, accept);
    let mut running = serve(&first);
    first.wait_until_ready(SOON);
    // The first one has the bucket.
    let mut machines = vec![first];
    let balancer = Balancer::new(port);
    let seen = Arc::new(Seen::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || client(number, balancer.port, &seen))
        })
        .collect();
    let count = |seen: &Seen| seen.acknowledged.lock().unwrap().len();
    for _ in 0..deploys() {
        let before = count(&seen);
        wait_until("answers before the deploy", SOON, || count(&seen) > before + 20);
        let (new, port) = machine(machines.first(), accept);
        let starting = serve(&new);
        wait_until_serving(&new, [&running, &starting]);
        balancer.target.store(port, Ordering::Release);
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{}", running.log_text());
        machines.push(new);
        running = starting;
    }
    let before = count(&seen);
    wait_until("answers after the last deploy", SOON, || count(&seen) > before + 20);
    seen.ended.store(true, Ordering::Release);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(running.stop().code, 0, "{}", running.log_text());
    let site = &machines[0].site;
    let out = site.path("judged.db");
    crate::support::litestream::restore(&site.replica, &out).unwrap();
    let connection = crate::support::bank::read_only(&out);
    let lost: Vec<String> =
        seen.acknowledged.lock().unwrap().iter().filter(|id| !is_there(&connection, id)).cloned().collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let failed = seen.failed.load(Ordering::Relaxed);
    println!("{accept}: {} acknowledged, {failed} failed", count(&seen));
    failed
}

pub(super) fn is_there(connection: &rusqlite::Connection, id: &str) -> bool {
    connection.query_row("SELECT count(*) FROM told WHERE id = ?", [id], |row| row.get::<_, i64>(0)).unwrap()
        == 1
}

#[test]
fn rolling_deploys_lose_nothing_when_the_port_opens_with_the_app() {
    roll("ready");
}

#[test]
fn rolling_deploys_fail_no_request_when_the_port_opens_at_once() {
    assert_eq!(roll("early"), 0, "requests failed");
}

//! Clients that take their time hold up nobody.

use crate::support::asking::Asked;
use crate::support::{SOON, wait_until};
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[test]
fn two_hundred_slow_clients_delay_neither_commits_nor_probes_nor_the_stop() {
    let asked = Asked::new("ops-crowd", "[shutdown]\ngrace = \"5s\"");
    let mut run = asked.site.run_bank(&["--rate", "100"]);
    asked.wait_until_ready();
    asked.site.wait_for_acks(20);
    let socket = asked.site.path("litevisor.sock");
    // Half of them never ask, half never read what they get.
    let begin =
        |n: usize| if n.is_multiple_of(2) { "GET /met" } else { "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" };
    let mut slow: Vec<Box<dyn Write>> = Vec::new();
    for n in 0..200 {
        let mut network = TcpStream::connect(("127.0.0.1", asked.port)).unwrap();
        network.write_all(begin(n).as_bytes()).unwrap();
        slow.push(Box::new(network));
        if let Ok(mut local) = UnixStream::connect(&socket) {
            let _ = local.write_all(begin(n).as_bytes());
            slow.push(Box::new(local));
        }
    }
    assert!(slow.len() >= 300, "{}", slow.len());
    let begun = Instant::now();
    assert_eq!(asked.http("GET", "/healthz").0, 200);
    assert_eq!(asked.ask(&["healthcheck"]).code, 0);
    let before = asked.site.acked();
    let (code, body) = asked.http("POST", "/sync?timeout=20s");
    assert_eq!(code, 200, "{body}");
    wait_until("commits to go on", SOON, || asked.site.acked() > before + 50);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let sent = run.signal(Signal::SIGTERM);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 0, "{}", run.log_text());
    assert!(ended.at - sent < Duration::from_secs(5), "{:?}", ended.at - sent);
    asked.site.assert_replica_holds_everything("after the stop");
    drop(slow);
}

//! `POST /sync` over TCP: however many ask, the store sees no more files than the interval allows; and a web
//! page cannot ask.

use super::place::site;
use crate::support::site::Site;
use crate::support::{SOON, wait_for, wait_until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn listening(mut site: Site, more: &str) -> (Site, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    site.settings = format!("{}listen = \"127.0.0.1:{port}\"\n{more}\n", site.settings);
    (site, port)
}

fn post(port: u16, target: &str, headers: &str) -> (u16, String) {
    let mut stream = wait_for("somebody who listens", SOON, || TcpStream::connect(("127.0.0.1", port)).ok());
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "POST {target} HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let code = text.split(' ').nth(1).unwrap_or_else(|| panic!("{text:?}")).parse().unwrap();
    (code, text)
}

/// Flood for `span`; how many were answered with 200.
fn flood(port: u16, span: Duration) -> usize {
    let (end, synced) = (Instant::now() + span, AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while Instant::now() < end {
                    let (code, text) = post(port, "/sync?timeout=20s", "Host: 127.0.0.1\r\n");
                    assert!(matches!(code, 200 | 503), "{text}");
                    synced.fetch_add(usize::from(code == 200), Ordering::Relaxed);
                }
            });
        }
    });
    synced.into_inner()
}

#[test]
fn a_flood_makes_no_more_files_than_the_interval_allows() {
    let (site, port) = listening(site(), "");
    let mut run = site.run_bank(&["--rate", "200"]);
    site.wait_for_acks(20);
    wait_until("/sync", SOON, || post(port, "/sync?timeout=20s", "Host: localhost\r\n").0 == 200);
    let (before, begun) = (site.replica.newest_txid(), Instant::now());
    let synced = flood(port, Duration::from_secs(4));
    let (files, seconds) = (site.replica.newest_txid() - before, begun.elapsed().as_secs());
    // One by the interval, one by the asks, in each second; and those at the edges.
    assert!(files <= 2 * (seconds + 2), "{files} files in {seconds} s");
    assert!(synced >= 8, "{synced} of the askers were answered");
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    site.assert_replica_holds_everything("after the flood");
}

#[test]
fn a_web_page_cannot_ask_and_a_token_is_asked_for() {
    let (mut site, port) = listening(site(), "");
    // Without a database a sync is never complete.
    crate::support::bank::seed(&site.db());
    let mut run = site.run(&["sleep", "600"]);
    for (headers, expected) in [
        ("Host: 127.0.0.1:9\r\n", 200),
        ("Host: app\r\n", 200),
        ("Host: rebound.example.com\r\n", 403),
        ("Host: 127.0.0.1\r\nOrigin: https://example.com\r\n", 403),
        ("Host: 127.0.0.1\r\nOrigin: null\r\n", 403),
    ] {
        let (code, text) = wait_for("replication", SOON, || {
            Some(post(port, "/sync?timeout=20s", headers)).filter(|(code, _)| *code != 503)
        });
        assert_eq!(code, expected, "{headers}: {text}");
    }
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    site.settings += "token = \"s3cret-word\"\n";
    let mut run = site.run(&["sleep", "600"]);
    for (headers, expected) in [
        ("Host: a.example.com\r\n", 401),
        ("Host: 127.0.0.1\r\nAuthorization: Bearer wrong\r\n", 401),
        ("Host: a.example.com\r\nAuthorization: Bearer s3cret-word\r\n", 200),
    ] {
        let (code, text) = wait_for("replication", SOON, || {
            Some(post(port, "/sync?timeout=20s", headers)).filter(|(code, _)| *code != 503)
        });
        assert_eq!(code, expected, "{headers}: {text}");
    }
    let (code, told) = super::place::said(&super::place::litevisor(&site.config(), &["sync"]));
    assert_eq!(code, 0, "over the socket as ever: {told}");
    let (_, told) = super::place::said(&super::place::litevisor(&site.config(), &["check"]));
    assert!(told.contains("token = \"***\"") && !told.contains("s3cret-word"), "{told}");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert!(!run.log_text().contains("s3cret-word"));
}

//! An app with `ready = "notify"`: its own word, with and without a service manager.

use super::*;
use crate::support::asking::free_port;
use crate::support::litevisor::As;
use nix::sys::signal::{Signal, kill};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

#[test]
fn its_word_makes_it_ready_with_a_manager() {
    let mut place = Talker::new("");
    let manager = Manager::at_path(&place.0);
    place.0.env = manager.env(Some(Duration::from_secs(60)));
    let mut run = place.run();
    let [pid, socket, usec, watchdog_pid] = place.env();
    assert_ne!(socket, manager.address);
    assert_eq!((usec.as_str(), watchdog_pid), ("60000000", pid));
    manager.wait_for_status("has not said READY=1");
    place.say("STATUS=loading\nMAINPID=1\nSTOPPING=1\nFDSTORE=1");
    manager.wait_for_status("app: loading");
    assert!(!manager.has("READY=1"), "{:?}", manager.lines());
    place.say("READY=1\nSTATUS=7 users");
    manager.wait_for("READY=1");
    manager.wait_for_status("running; app: 7 users");
    assert!(!manager.has("STOPPING=1") && manager.values("MAINPID").is_empty(), "{:?}", manager.lines());
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

/// In a container nobody else listens: /readyz and the gate do.
#[test]
fn its_word_makes_it_ready_without_a_manager() {
    let behind = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, app) = (free_port(), behind.local_addr().unwrap().port());
    let mut place = Talker::new(&format!(
        "restart = \"on-failure\"\nbackoff = {{ delay = \"10ms\" }}\n[[gate]]\nlisten = \"127.0.0.1:{port}\"\napp = \"{app}\""
    ));
    place.0.kind = As::Pid1;
    let mut run = place.run();
    for life in 0..2 {
        let [_, _, usec, watchdog_pid] = place.env();
        assert_eq!((usec, watchdog_pid), ("-".into(), "-".into()));
        wait_until("it says what it waits for", SOON, || place.ready().1.contains("has not said READY=1"));
        if life == 0 {
            assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the gate waits, too");
        }
        place.say("READY=1");
        wait_until("it is ready", SOON, || place.ready().0);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        std::fs::remove_file(place.home("env")).unwrap();
        if life == 0 {
            // The word of one life does not count in the next.
            kill(run.app(), Signal::SIGKILL).unwrap();
        }
    }
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

/// Anybody in the network namespace can send to the socket. Only the app's user and the app's processes
/// count.
#[test]
fn a_stranger_is_not_heard() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Talker::new("user = \"12345:12345\"");
    let mut run = place.run();
    let [_, socket, ..] = place.env();
    let send = |user: &str| {
        let script = "import socket, sys\nsocket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', '\\0' + sys.argv[1][1:])";
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            user,
            "--regid",
            user,
            "--clear-groups",
            python(),
            "-S",
            "-c",
            script,
            &socket,
        ]);
        assert!(command.status().unwrap().success());
    };
    send("12346");
    run.wait_for_log("a warning", SOON, |line| {
        line.contains("that is not the app's") && line.contains("12346")
    });
    assert!(!place.ready().0, "{}", place.ready().1);
    // Another process of the app's user could do anything to the app anyway.
    send("12345");
    wait_until("it is ready", SOON, || place.ready().0);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

/// litevisor reads a bounded number of messages, and what it does meanwhile is not delayed.
#[test]
fn a_flood_delays_nothing() {
    let mut place = Talker::new("");
    let manager = Manager::at_path(&place.0);
    place.0.env = manager.env(None);
    let flood = "import os, socket\nto = os.environ['NOTIFY_SOCKET']\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
                 s.connect('\\0' + to[1:])\nnumber = 0\nwhile True:\n  number += 1\n  s.send(b'READY=1\\nSTATUS=%d' % number)";
    let mut run = place.0.run(&[python(), "-S", "-c", flood]);
    manager.wait_for("READY=1");
    let told = manager.lines().len();
    let begun = Instant::now();
    wait_until("two more texts", SOON, || manager.values("STATUS").len() >= 4);
    let (more, seconds) = (manager.lines().len() - told, begun.elapsed().as_secs() as usize);
    assert!(more <= 4 + 2 * seconds, "{more} lines in {seconds} s");
    let begun = Instant::now();
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

//! What leaves and what does not: a silent store, the stop, another writer, an app that cannot be proven.

use super::{Client, Gated, held};
use crate::support::asking::{ask, http, status};
use crate::support::gate::Mood;
use crate::support::litevisor::Litevisor;
use crate::support::site::Site;
use crate::support::{SOON, wait_for, wait_until};
use nix::sys::signal::Signal;
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn closed(gated: &Gated, reason: &str) -> u64 {
    status(&gated.site.config())["gates"][0]["closed"][reason].as_u64().unwrap()
}

#[test]
fn a_silent_store_lets_neither_a_write_nor_a_read_out() {
    let (gated, road) = Gated::on_a_road("gate-silent", "");
    let mut run = gated.run();
    let mut writer = gated.client();
    let mut reader = gated.client();
    assert_eq!(writer.ask("put a").as_deref(), Some("ok a"));
    assert_eq!(reader.ask("get a").as_deref(), Some("yes"));
    road.set(Mood::Silent);
    writer.send("put b");
    held(&gated, 5);
    reader.send("get b");
    held(&gated, 9);
    assert!(writer.is_waiting() && reader.is_waiting());
    let told = ask(&gated.site.config(), &["status"]).out;
    assert!(told.contains("9 B held, the oldest for"), "{told}");
    road.set(Mood::Open);
    assert_eq!((writer.answer().as_deref(), reader.answer().as_deref()), (Some("ok b"), Some("yes")));
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

#[test]
fn after_the_timeout_the_client_knows_that_it_knows_nothing() {
    let (gated, road) = Gated::on_a_road("gate-timeout", "timeout = \"300ms\"");
    let mut run = gated.run();
    let mut client = gated.client();
    assert_eq!(client.ask("put a").as_deref(), Some("ok a"));
    road.set(Mood::Silent);
    assert_eq!(client.ask("put b"), None);
    run.wait_for_complaint("was not sent", SOON);
    assert_eq!(closed(&gated, "timeout"), 1);
    road.set(Mood::Open);
    // It was committed, and is told to those who ask when it is durable.
    wait_until("an answer", SOON, || gated.client().ask("get b").as_deref() == Some("yes"));
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

#[test]
fn with_pass_the_answers_leave_and_the_log_says_so() {
    let (gated, road) = Gated::on_a_road("gate-pass", "timeout = \"300ms\"\non_failure = \"pass\"");
    let mut run = gated.run();
    let mut client = gated.client();
    assert_eq!(client.ask("put a").as_deref(), Some("ok a"));
    road.set(Mood::Refusing);
    assert_eq!(client.ask("put b").as_deref(), Some("ok b"));
    run.wait_for_complaint("ANSWERS ARE SENT BEFORE THEY ARE DURABLE", SOON);
    road.set(Mood::Open);
    run.wait_for_log("the end of it", SOON, |line| line.contains("answers wait for the replica again"));
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

#[test]
fn the_answer_to_the_last_write_leaves_after_the_last_flush() {
    let (gated, road) = Gated::on_a_road("gate-stop", "");
    let mut run = gated.run_with(7);
    let mut client = gated.client();
    assert_eq!(client.ask("put a").as_deref(), Some("ok a"));
    road.set(Mood::Slow(Duration::from_millis(700)));
    client.send("put b");
    held(&gated, 5);
    run.signal(Signal::SIGTERM);
    assert_eq!(client.answer().as_deref(), Some("ok b"));
    assert_eq!(client.answer(), None, "the end of the app");
    assert_eq!(run.wait(SOON).code, 7, "{}", run.log_text());
}

#[test]
fn an_answer_that_the_last_flush_does_not_prove_is_not_sent() {
    let (mut gated, road) = Gated::on_a_road("gate-unflushed", "");
    gated.site.settings = gated.site.settings.replace("grace = \"10s\"", "grace = \"2s\"");
    let mut run = gated.run();
    let mut client = gated.client();
    assert_eq!(client.ask("put a").as_deref(), Some("ok a"));
    road.set(Mood::Silent);
    client.send("put b");
    held(&gated, 5);
    let sent = run.signal(Signal::SIGTERM);
    assert_eq!(client.answer(), None);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 74, "{}", run.log_text());
    assert!(ended.at - sent < Duration::from_secs(3), "within the grace: {:?}", ended.at - sent);
}

#[test]
fn the_port_opens_after_the_restore_and_after_the_app() {
    let (gated, road) = Gated::on_a_road("gate-ready", "");
    gated.run().stop();
    gated.site.wipe();
    road.set(Mood::Slow(Duration::from_millis(300)));
    let mut run = gated.run();
    let begun = Instant::now();
    let mut client = gated.client();
    assert!(begun.elapsed() > Duration::from_millis(300), "the restore takes two answers of the store");
    assert_eq!(client.ask("get nothing").as_deref(), Some("no"), "a client that gets in gets an answer");
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

#[test]
fn an_early_port_lets_clients_wait_for_the_restore() {
    let (gated, road) = Gated::on_a_road("gate-early", "accept = \"early\"");
    gated.run().stop();
    gated.site.wipe();
    road.set(Mood::Slow(Duration::from_millis(500)));
    let mut run = gated.run();
    let mut client = gated.client();
    assert_eq!(client.ask("put a").as_deref(), Some("ok a"));
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

/// Of two writers on one replica, the one that loses has acknowledged nothing that is missing.
#[test]
fn the_writer_that_loses_the_replica_has_acknowledged_nothing_that_is_missing() {
    let first = Gated::new(Site::in_s3("gate-fence"), "");
    let mut second = Gated::new(Site::in_s3("gate-fence"), "");
    second.site.replica = first.site.replica.clone();
    let mut runs = [first.run(), second.run()];
    let gates = [&first, &second];
    let mut told: [Vec<String>; 2] = Default::default();
    let mut clients = gates.map(Gated::client);
    let mut lost = None;
    for round in 0.. {
        for one in 0..2 {
            let key = format!("{one}-{round}");
            match clients[one].ask(&format!("put {key}")) {
                Some(_) => told[one].push(key),
                None => lost = Some(one),
            }
        }
        if lost.is_some() {
            break;
        }
    }
    let loser = lost.unwrap();
    assert_eq!(runs[loser].wait(SOON).code, 75, "{}", runs[loser].log_text());
    assert!(TcpStream::connect(("127.0.0.1", gates[loser].port)).is_err(), "its port is closed");
    let mut winner = gates[1 - loser].client();
    // What the loser has acknowledged before is part of the winner's history, or there was nothing.
    let missing = |key: &&String| winner.ask(&format!("get {key}")).as_deref() != Some("yes");
    let missing: Vec<&String> = told[1 - loser].iter().chain(&told[loser]).filter(missing).collect();
    assert_eq!(missing, [""; 0]);
    assert_eq!(runs[1 - loser].stop().code, 0, "{}", runs[1 - loser].log_text());
}

#[test]
fn a_database_that_cannot_be_looked_at_holds_the_gate_and_is_named() {
    let gated = Gated::new(Site::in_directory(), "timeout = \"300ms\"");
    let db = gated.site.db();
    let script = format!(
        "import os, socketserver, sqlite3\nc = sqlite3.connect({db:?}, isolation_level=None, check_same_thread=False)\n\
         c.execute('PRAGMA locking_mode = EXCLUSIVE')\nc.execute('PRAGMA journal_mode = WAL')\n\
         c.execute('CREATE TABLE t (x)')\n\
         class H(socketserver.StreamRequestHandler):\n def handle(self):\n  self.rfile.readline(); self.wfile.write(b'told\\n')\n\
         socketserver.TCPServer.allow_reuse_address = True\n\
         socketserver.TCPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()"
    );
    let run: Litevisor = gated.site.run(&["python3", "-S", "-c", &script]);
    let mut client = gated.client();
    assert_eq!(client.ask("x"), None, "nothing can be proven");
    run.wait_for_complaint("the gate cannot prove", SOON);
    let found = status(&gated.site.config());
    assert_eq!(found["gates"][0]["unprovable"][0]["database"], db.to_str().unwrap());
}

#[test]
fn the_metrics_count_what_was_held() {
    let gated = Gated::new(Site::in_directory(), "");
    let mut run = gated.run();
    let mut client: Client = gated.client();
    for key in 0..3 {
        assert_eq!(client.ask(&format!("put {key}")), Some(format!("ok {key}")));
    }
    // The client may have the answer before the gate has counted that it let it go.
    let text = wait_for("nothing to be held", SOON, || {
        let (code, text) = http(gated.status, "GET", "/metrics");
        assert_eq!(code, 200);
        text.lines()
            .any(|line| line.starts_with("litevisor_gate_held_bytes") && line.ends_with(" 0"))
            .then_some(text)
    });
    let value = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name) && !line.contains("le="))
            .unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(value("litevisor_gate_open"), 1.0);
    assert!(value("litevisor_gate_held_seconds_count") >= 1.0, "a commit was waited for");
    assert_eq!(value("litevisor_gate_connections{"), 1.0);
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

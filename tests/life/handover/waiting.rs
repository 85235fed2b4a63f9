//! Instances that wait, owners that look only after uploads, and instances that never ask.

use super::*;
use crate::support::bank;
use nix::sys::signal::Signal;
use std::fs;

const RATE: [&str; 2] = ["--rate", "100"];

/// `keys` in place of "enabled = true" and the short poll.
fn with_keys(mut machine: Machine, keys: &str) -> Machine {
    let settings = machine.site.settings.replace("enabled = true\npoll = \"100ms\"", keys);
    assert_ne!(settings, machine.site.settings);
    machine.site.settings = settings;
    machine
}

fn number(line: &str, key: &str) -> u64 {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line[key].as_u64().unwrap_or_else(|| panic!("{line}"))
}

/// After the release only what came since the last poll is left.
#[test]
fn what_comes_while_it_waits_is_applied_before_the_release() {
    let mut old = with_keys(Machine::first(""), "enabled = true\npoll = \"4s\"");
    old.site.replica_settings = "sync_interval = \"10ms\"\n".into();
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let new = Machine::next(&old, "wait = \"60s\"");
    let mut second = new.run_bank(&RATE);
    let line =
        second.wait_for_log("what was applied", SOON, |line| line.contains("caught up with the replica"));
    let (files, at_the_end) = (number(&line, "files"), number(&line, "at_the_end"));
    println!("{files} files while it waited, {at_the_end} after the release");
    assert!(files > 50 && at_the_end < files / 2, "{line}");
    new.site.wait_for_acks(20);
    old.wait_until_retired();
    assert_eq!(first.stop().code, 0, "{}", first.log_text());
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    new.site.assert_replica_holds_everything("after the hand-over");
}

/// A file of the replica that is damaged for a while ends no waiting: the database is restored at the end.
#[test]
fn a_fault_while_following_ends_no_waiting() {
    let old = Machine::first("");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    first.signal(Signal::SIGSTOP);
    let new = Machine::next(&old, "wait = \"60s\"");
    let mut second = new.run_bank(&RATE);
    new.wait_until_unready("waiting");
    // Its own copy changes under it: it cannot follow, and is restored when the replica is released.
    wait_until("the restored file", SOON, || new.site.db().exists());
    let mut image = fs::read(new.site.db()).unwrap();
    let last = image.len() - 1;
    image[last] ^= 1;
    fs::write(new.site.db(), image).unwrap();
    first.signal(Signal::SIGCONT);
    new.site.wait_for_acks(20);
    assert_eq!(first.stop().code, 0, "{}", first.log_text());
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    assert!(second.log_text().contains("not caught up, but restored"), "{}", second.log_text());
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    new.site.assert_replica_holds_everything("after the hand-over");
}

#[test]
fn an_owner_that_does_not_poll_looks_after_uploads() {
    let old = with_keys(Machine::first(""), "enabled = true\npoll = \"never\"");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let new = Machine::next(&old, "wait = \"60s\"");
    let mut second = new.run_bank(&RATE);
    new.site.wait_for_acks(20);
    old.wait_until_retired();
    assert!(!second.log_text().contains("fencing"), "{}", second.log_text());
    assert_eq!(first.stop().code, 0, "{}", first.log_text());
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    new.site.assert_replica_holds_everything("after the hand-over");
}

/// Canaries and tasks that run once: they do not take the replica from an owner.
#[test]
fn one_that_never_asks_does_not_start_beside_an_owner() {
    let old = Machine::first("");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let canary = with_keys(Machine::next(&old, ""), "enabled = \"never\"");
    let mut second = canary.run_bank(&RATE);
    let refused = assert_exit(&mut second, 75, "the canary");
    let text = second.log_text();
    assert!(
        text.contains("belongs to another instance") && text.contains("epoch 0000000000000001"),
        "{text}"
    );
    assert_eq!((canary.site.acked(), canary.site.db().exists()), (0, false), "{}: {text}", refused.code);
    assert_eq!(canary.names(), ["owner/0000000000000001.json"]);
    old.site.wait_for_acks(old.site.acked() + 20);
    assert_eq!(first.stop().code, 0, "{}", first.log_text());
    // The owner has stopped: it may run, and still claims nothing.
    let mut second = canary.run_bank(&RATE);
    canary.site.wait_for_acks(20);
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    bank::check(&canary.site.db(), &old.site.ack(), None).unwrap();
    assert_eq!(canary.names().len(), 2, "{:?}", canary.names());
}

/// Makes its database when it is told to, and says so by its content.
const LATE_APP: &str = r"
import os, signal, sqlite3, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
db, go, what = sys.argv[1:]
while not os.path.exists(go):
    time.sleep(0.02)
c = sqlite3.connect(db, isolation_level=None)
c.execute('PRAGMA journal_mode=wal')
c.execute('CREATE TABLE t(x)')
c.execute('INSERT INTO t VALUES (?)', [what])
signal.pause()
";

struct Late(Machine);

impl Late {
    fn start(&self, what: &str) -> Litevisor {
        let (db, go) = (self.0.site.db(), self.go());
        let words = ["python3", "-S", "-c", LATE_APP, db.to_str().unwrap(), go.to_str().unwrap(), what];
        self.0.site.run(&words)
    }

    fn go(&self) -> std::path::PathBuf {
        self.0.site.path("go")
    }

    fn has_begun(&self) -> bool {
        self.0.site.replica.objects().keys().any(|key| key.ends_with(".ltx"))
    }

    fn content(&self) -> String {
        let out = self.0.site.path("judged.db");
        crate::support::litestream::restore(&self.0.site.replica, &out).unwrap();
        let connection = bank::read_only(&out);
        connection.query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap()
    }

    fn is_retired_or_ended(&self, run: &mut Litevisor) -> bool {
        !run.is_running() || self.0.ready().is_some_and(|(_, text)| text.contains("retired"))
    }
}

fn end(run: &mut Litevisor) {
    if run.is_running() {
        run.stop();
    }
}

/// An owner that is frozen before its first upload, and its successor by force.
fn two_without_a_position() -> (Late, Litevisor, Late, Litevisor) {
    let old = Late(Machine::first(""));
    let first = old.start("old");
    old.0.wait_until_ready(SOON);
    first.signal(Signal::SIGSTOP);
    let new = Late(Machine::next(&old.0, "wait = \"1s\""));
    let second = new.start("new");
    new.0.wait_until_ready(SOON);
    assert!(second.log_text().contains("fencing"), "{}", second.log_text());
    assert!(!new.has_begun(), "there is nothing that a fence could stand behind");
    (old, first, new, second)
}

/// Nothing fences it, and so its first upload is refused.
#[test]
fn without_a_position_the_first_upload_fences() {
    let (old, mut first, new, mut second) = two_without_a_position();
    fs::write(old.go(), "").unwrap();
    fs::write(new.go(), "").unwrap();
    wait_until("the new one's first upload", SOON, || new.has_begun());
    first.signal(Signal::SIGCONT);
    wait_until("the old one to give up", SOON, || old.is_retired_or_ended(&mut first));
    assert!(
        second.is_running() && new.0.ready().is_some_and(|(status, _)| status == 200),
        "{}",
        second.log_text()
    );
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    assert_eq!(new.content(), "new");
    end(&mut first);
}

/// The one that was frozen uploads first: what it acknowledges stays, and its successor does not write beside
/// it.
#[test]
fn without_a_position_a_late_first_upload_is_not_overwritten() {
    let (old, mut first, new, mut second) = two_without_a_position();
    fs::write(old.go(), "").unwrap();
    wait_until("the old one's commit", SOON, || old.0.site.db().exists());
    first.signal(Signal::SIGCONT);
    wait_until("the old one's upload", SOON, || old.has_begun());
    wait_until("the old one to give up", SOON, || old.is_retired_or_ended(&mut first));
    fs::write(new.go(), "").unwrap();
    assert_exit(&mut second, 75, "the new one");
    assert_eq!(new.content(), "old");
    end(&mut first);
    // Its platform starts it again: with what the other one has uploaded.
    let mut again = new.start("new");
    new.0.wait_until_ready(SOON);
    let connection = bank::read_only(&new.0.site.db());
    assert_eq!(connection.query_row("SELECT x FROM t", [], |row| row.get::<_, String>(0)).unwrap(), "old");
    again.kill_everything();
}

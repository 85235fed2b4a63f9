//! Deploys that fail, and owners that cannot answer.

use super::*;
use crate::support::bank;
use crate::support::litestream;
use nix::sys::signal::Signal;

const RATE: [&str; 2] = ["--rate", "100"];

#[test]
fn the_old_one_serves_again_when_the_new_one_fails() {
    let old = Machine::first("");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let before = old.site.acked();
    let bad = Machine::next(&old, "");
    let mut second = bad.site.run(&["sh", "-c", "exit 3"]);
    assert_exit(&mut second, 3, "the app's own status");
    old.wait_until_ready(SOON);
    old.site.wait_for_acks(before + 50);
    // The next deploy is a deploy as any other.
    let good = Machine::next(&old, "");
    let mut third = good.run_bank(&RATE);
    old.wait_until_retired();
    good.site.wait_for_acks(20);
    first.stop();
    assert_exit(&mut first, 0, "retired again");
    assert_eq!(third.stop().code, 0, "{}", third.log_text());
    bank::check(&good.site.db(), &old.site.ack(), None).unwrap();
    good.site.assert_replica_holds_everything("after both");
}

/// A migration that fails in the new instance: the old one serves again, on the state before.
#[test]
fn the_old_one_serves_again_when_a_setup_fails() {
    let old = Machine::first("");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let setup = |machine: &mut Machine, end: &str| {
        let line = format!("sqlite3 {} 'create table migrated (x)'{end}", machine.site.db().display());
        machine.site.settings += &format!("[app]\nsetup = [[\"sh\", \"-ec\", {line:?}]]\n");
    };
    let mut bad = Machine::next(&old, "");
    setup(&mut bad, "; exit 5");
    let mut second = bad.run_bank(&RATE);
    assert_exit(&mut second, 5, "the setup's own status");
    assert!(
        bank::schema(&bad.site.db()).contains("migrated"),
        "the test tests nothing: {}",
        second.log_text()
    );
    assert_eq!(bad.site.acked(), 0, "its app was never started");
    old.wait_until_ready(SOON);
    old.site.wait_for_acks(old.site.acked() + 50);
    let out = old.site.path("judged.db");
    litestream::restore(&old.site.replica, &out).unwrap();
    for db in [old.site.db(), out] {
        assert!(!bank::schema(&db).contains("migrated"), "{}", db.display());
    }
    // On the disk of the failed one, mended.
    bad.site.settings = bad.site.settings.replace("; exit 5", "");
    let mut third = bad.run_bank(&RATE);
    old.wait_until_retired();
    bad.site.wait_for_acks(20);
    assert_eq!(first.stop().code, 0, "{}", first.log_text());
    assert_eq!(third.stop().code, 0, "{}", third.log_text());
    bank::check(&bad.site.db(), &old.site.ack(), None).unwrap();
    assert!(bank::schema(&bad.site.db()).contains("migrated"));
    bad.site.assert_replica_holds_everything("after both");
}

#[test]
fn an_app_that_never_answers_is_a_failed_deploy() {
    let old = Machine::first("");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let silent = own_port();
    let app = format!("trial = \"1s\"\n[app]\nready = \"tcp:{silent}\"");
    let bad = Machine::next(&old, &app);
    let mut second = bad.run_bank(&RATE);
    let ended = second.wait(SOON);
    assert_ne!(ended.code, 0, "{}", second.log_text());
    let before = old.site.acked();
    old.wait_until_ready(SOON);
    old.site.wait_for_acks(before + 20);
    assert_eq!(first.stop().code, 0, "{}", first.log_text());
    bank::check(&old.site.db(), &bad.site.ack(), None).unwrap();
    old.site.assert_replica_holds_everything("what both wrote");
}

/// A frozen CPU: it is fenced before it can upload anything again.
#[test]
fn a_frozen_owner_is_fenced() {
    let old = Machine::first("");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(50);
    let (main, bank_process) = (first.pid(), first.bank());
    for process in [bank_process, main] {
        nix::sys::signal::kill(process, Signal::SIGSTOP).unwrap();
    }
    let new = Machine::next(&old, "wait = \"1s\"");
    let mut second = new.run_bank(&RATE);
    new.site.wait_for_acks(20);
    let log = second.log_text();
    assert!(log.contains("fencing it"), "it says that it took the replica by force:\n{log}");
    for process in [bank_process, main] {
        nix::sys::signal::kill(process, Signal::SIGCONT).unwrap();
    }
    assert_exit(&mut first, 75, "the one that was frozen");
    new.site.wait_for_acks(new.site.acked() + 20);
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    new.site.assert_replica_holds_everything("what the new one wrote");
    let out = new.site.path("across.db");
    litestream::restore(&new.site.replica, &out).unwrap();
    assert_eq!(bank::dump(&out), bank::dump(&new.site.db()), "Litestream restores across the fence");
}

//! Deploys that go well: one after the other, several at once, after a crash, on one machine.

use super::*;
use crate::support::bank;
use crate::support::litestream;
use std::time::Instant;

const RATE: [&str; 2] = ["--rate", "100"];

#[test]
fn a_new_instance_gets_the_replica_from_the_old_one() {
    let old = Machine::first("");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(50);
    let new = Machine::next(&old, "");
    let mut second = new.run_bank(&RATE);
    old.wait_until_retired();
    new.site.wait_for_acks(50);
    new.wait_until_ready(SOON);
    assert!(first.is_running(), "it must not end by itself:\n{}", first.log_text());
    let before = old.site.acked();
    first.stop();
    assert_exit(&mut first, 0, "the retired one");
    assert_eq!(old.site.acked(), before, "its app runs no more");
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    new.site.assert_replica_holds_everything("after the hand-over");
    let out = new.site.path("all.db");
    litestream::restore(&new.site.replica, &out).unwrap();
    bank::check(&out, &old.site.ack(), None).unwrap();
    let names = new.names();
    assert!(names.iter().filter(|name| name.contains("released")).count() == 2, "{names:?}");
}

#[test]
fn after_a_stop_nobody_is_waited_for() {
    let old = Machine::first("wait = \"60s\"");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    assert_eq!(first.stop().code, 0, "{}", first.log_text());
    let new = Machine::next(&old, "wait = \"60s\"");
    let mut second = new.run_bank(&RATE);
    new.site.wait_for_acks(20);
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
}

/// It is waited for, then fenced; on its own disk it goes on at once.
#[test]
fn after_a_crash() {
    let old = Machine::first("wait = \"2s\"");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(50);
    first.kill_everything();
    let begun = Instant::now();
    let mut again = old.run_bank(&RATE);
    old.site.wait_for_acks(old.site.acked() + 5);
    let same_disk = begun.elapsed();
    again.kill_everything();
    let new = Machine::next(&old, "wait = \"2s\"");
    let begun = Instant::now();
    let mut second = new.run_bank(&RATE);
    new.site.wait_for_acks(5);
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(2), "it may still have been there: {waited:?}");
    assert!(!again.log_text().contains("asked"), "{}", again.log_text());
    assert!(same_disk < waited, "{same_disk:?} {waited:?}\n{}", again.log_text());
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    new.site.assert_replica_holds_everything("after the crash");
}

#[test]
fn of_several_at_once_one_runs() {
    let mut all = vec![Machine::first("wait = \"60s\"")];
    all.extend((0..3).map(|_| Machine::next(&all[0], "wait = \"60s\"")).collect::<Vec<_>>());
    let mut runs: Vec<Litevisor> = all.iter().map(|machine| machine.run_bank(&RATE)).collect();
    wait_until("one to run, and the others to be retired", SOON, || {
        let ready =
            all.iter().filter(|machine| machine.ready().is_some_and(|(status, _)| status == 200)).count();
        let retired =
            all.iter().filter(|machine| machine.ready().is_some_and(|(_, text)| text.contains("retired")));
        ready == 1 && retired.count() == all.len() - 1
    });
    // The owner last: within its trial its stop would make another one serve again.
    let is_owner = |at: usize| all[at].ready().is_some_and(|(status, _)| status == 200);
    let (owner, retired): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|at| is_owner(*at));
    for at in retired.into_iter().chain(owner) {
        assert_eq!(runs[at].stop().code, 0, "{}", runs[at].log_text());
    }
    let out = all[0].site.path("all.db");
    litestream::restore(&all[0].site.replica, &out).unwrap();
    for machine in all.iter().filter(|machine| machine.site.acked() > 0) {
        bank::check(&out, &machine.site.ack(), None).unwrap();
    }
}

#[test]
fn a_stop_while_it_waits_gives_the_claim_back() {
    let old = Machine::first("wait = \"60s\"");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    // The owner is frozen, so that the next one waits.
    first.signal(nix::sys::signal::Signal::SIGSTOP);
    let new = Machine::next(&old, "wait = \"60s\"");
    let mut second = new.run_bank(&RATE);
    new.wait_until_unready("waiting");
    assert_eq!(second.stop().code, 143, "{}", second.log_text());
    let names = new.names();
    assert!(names.iter().any(|name| name.contains("0000000000000002.released")), "{names:?}");
    assert_eq!(new.site.acked(), 0);
    first.signal(nix::sys::signal::Signal::SIGCONT);
    wait_until("the old one to see it", SOON, || {
        !first.is_running() || old.ready().is_some_and(|(status, _)| status == 200)
    });
    first.kill_everything();
}

#[test]
fn two_on_one_disk() {
    let old = Machine::first("");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let status = own_port();
    let config = std::fs::read_to_string(old.site.config()).unwrap();
    let config = config.replace(&format!("127.0.0.1:{}", old.status), &format!("127.0.0.1:{status}"));
    let other = old.site.path("second.toml");
    std::fs::write(&other, config.replace("litevisor.sock", "second.sock")).unwrap();
    let mut args: Vec<std::ffi::OsString> = vec!["--config".into(), other.into(), "--".into()];
    args.extend(old.site.bank_words(&RATE).iter().map(Into::into));
    let mut second = Litevisor::run(old.site.kind, &args);
    old.wait_until_retired();
    old.site.wait_for_acks(old.site.acked() + 50);
    first.stop();
    assert_exit(&mut first, 0, "the retired one");
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    old.site.assert_replica_holds_everything("after both");
}

//! The hand-over on an encrypted replica: the records of owners are plain, every segment is encrypted, that
//! of the fence, too.

use super::*;
use crate::support::age::{Key, key};
use crate::support::{bank, litevisor};
use nix::sys::signal::{Signal, kill};

const RATE: [&str; 2] = ["--rate", "100"];
const MAGIC: &[u8] = b"age-encryption.org/v1\n";

fn with_key(mut machine: Machine, key: &Key) -> Machine {
    machine.site.replica_settings = key.settings();
    machine
}

#[test]
fn a_deploy_a_fence_and_a_key_that_does_not_fit() {
    let (own, other) = (key(), key());
    let old = with_key(Machine::first(""), &own);
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);

    // Nobody is asked for a replica that cannot be read.
    let before = old.names();
    for key in [Some(&other), None] {
        let mut stranger = Machine::next(&old, "");
        stranger.site.replica_settings = key.map(Key::settings).unwrap_or_default();
        let mut run = stranger.run_bank(&RATE);
        assert_exit(&mut run, 78, "a key that does not fit");
        assert!(run.log_text().contains("age_identities"), "{}", run.log_text());
        assert_eq!((old.names(), stranger.site.acked()), (before.clone(), 0));
    }

    let new = with_key(Machine::next(&old, ""), &own);
    let mut second = new.run_bank(&RATE);
    old.wait_until_retired();
    new.site.wait_for_acks(20);
    assert_eq!(first.stop().code, 0, "{}", first.log_text());

    let (main, bank_process) = (second.pid(), second.bank());
    for process in [bank_process, main] {
        kill(process, Signal::SIGSTOP).unwrap();
    }
    let last = with_key(Machine::next(&old, "wait = \"1s\""), &own);
    let mut third = last.run_bank(&RATE);
    last.site.wait_for_acks(20);
    assert!(third.log_text().contains("fencing it"), "{}", third.log_text());
    for process in [bank_process, main] {
        kill(process, Signal::SIGCONT).unwrap();
    }
    assert_exit(&mut second, 75, "the one that was frozen");
    assert_eq!(third.stop().code, 0, "{}", third.log_text());

    bank::check(&last.site.db(), &old.site.ack(), None).unwrap();
    bank::check(&last.site.db(), &last.site.ack(), None).unwrap();
    let out = last.site.path("restored.db");
    let restored = litevisor::restore(&last.site.config(), &last.site.db(), &out);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(bank::dump(&out), bank::dump(&last.site.db()), "across the fence");
    for name in last.site.replica.objects().into_keys() {
        let sealed = last.site.replica.read(&name).starts_with(MAGIC);
        assert_eq!(sealed, name.ends_with(".ltx"), "{name}");
    }
}

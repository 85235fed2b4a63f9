//! The hand-over through S3, by the shipped program: a release, a forced takeover, a deploy that fails; and a
//! store that cannot have it.

use super::*;
use crate::support::bank;
use crate::support::litevisor::check_connect;
use crate::support::replica::Replica;
use crate::support::s3rver;
use nix::sys::signal::{Signal, kill};

const RATE: [&str; 2] = ["--rate", "50"];

fn first(bucket: &str) -> Machine {
    Machine::on(Site::in_s3(bucket), "")
}

#[test]
fn a_deploy_gets_the_replica_and_a_bad_one_gives_it_back() {
    let old = first("handover-deploy");
    let mut run = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let bad = Machine::next(&old, "");
    let mut failed = bad.site.run(&["sh", "-c", "exit 3"]);
    assert_exit(&mut failed, 3, "the app's own status");
    let before = old.site.acked();
    old.wait_until_ready(SOON);
    old.site.wait_for_acks(before + 20);
    let new = Machine::next(&old, "");
    let mut next = new.run_bank(&RATE);
    old.wait_until_retired();
    new.site.wait_for_acks(20);
    run.stop();
    assert_exit(&mut run, 0, "the retired one");
    assert_eq!(next.stop().code, 0, "{}", next.log_text());
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    new.site.assert_replica_holds_everything("after all three");
    let names = new.names();
    let claims = names.iter().filter(|name| name.matches('.').count() == name.matches(".db").count() + 1);
    assert_eq!(claims.count(), 4, "first, bad, resumed, new: {names:?}");
}

#[test]
fn a_frozen_owner_is_fenced() {
    let old = first("handover-frozen");
    let mut run = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let both = [run.bank(), run.pid()];
    both.iter().for_each(|process| kill(*process, Signal::SIGSTOP).unwrap());
    let new = Machine::next(&old, "wait = \"1s\"");
    let mut next = new.run_bank(&RATE);
    new.site.wait_for_acks(20);
    assert!(next.log_text().contains("fencing it"), "{}", next.log_text());
    both.iter().for_each(|process| kill(*process, Signal::SIGCONT).unwrap());
    assert_exit(&mut run, 75, "the one that was frozen");
    assert_eq!(next.stop().code, 0, "{}", next.log_text());
    new.site.assert_replica_holds_everything("what the new one wrote");
}

/// s3rver ignores `If-None-Match`. The start and `check --connect` say the same.
#[test]
fn a_store_that_ignores_conditions_is_refused() {
    let mut site = Site::in_directory();
    let (bucket, prefix) = (s3rver::BUCKET.to_owned(), "handover-refused".to_owned());
    site.replica = Replica::S3 { endpoint: s3rver::shared().endpoint(), bucket, prefix };
    let refused = Machine::on(site, "");
    let mut run = refused.run_bank(&RATE);
    let ended = run.wait(SOON);
    let told = "does not refuse to create an object that exists";
    assert_eq!(ended.code, 78, "{}", run.log_text());
    assert!(run.log_text().contains(told), "{}", run.log_text());
    assert_eq!(refused.site.acked(), 0, "its app was started");
    let (code, text) = check_connect(&refused.site.config());
    assert_eq!(code, 78, "{text}");
    assert!(text.contains(told) && text.contains("or set handover.enabled = false"), "{text}");
    // The records are in a store that can have them.
    let elsewhere = Machine::first("");
    let url = format!("url = \"{}\"", elsewhere.site.replica.url());
    let machine = Machine::next(&refused, &url);
    let (code, text) = check_connect(&machine.site.config());
    assert_eq!(code, 0, "{text}");
    let mut run = machine.run_bank(&RATE);
    machine.site.wait_for_acks(20);
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    assert!(elsewhere.names().iter().any(|name| name.contains("released")), "{:?}", elsewhere.names());
    // One that never claims needs no conditions.
    let mut never = Machine::next(&refused, "");
    never.site.settings = never.site.settings.replace("enabled = true", "enabled = \"never\"");
    let (code, text) = check_connect(&never.site.config());
    assert_eq!(code, 0, "{text}");
}

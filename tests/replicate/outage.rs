//! The store is refusing, failing or silent while the app runs: the app does not notice, the log does, a stop
//! keeps its budget and says so with 74, and a store that comes back gets everything.

use crate::support::gate::{Gate, Mood};
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use nix::sys::signal::Signal;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(5);
const BUDGET: &str = "[shutdown]\ngrace = \"5s\"\napp_timeout = \"3s\"\npre_sync_timeout = \"500ms\"";
/// What process start and end, and a busy machine, may add to a time that is measured from outside.
const SLACK: Duration = Duration::from_millis(700);
const TRANSFERS: usize = 8000;

fn behind_gate(bucket: &str) -> (Site, Gate) {
    let mut site = Site::in_s3(bucket).with_settings(BUDGET);
    let gate = Gate::before(&crate::support::seaweed::Seaweed::shared().endpoint(), Mood::Open);
    site.replica = site.replica.at(&gate.endpoint());
    (site, gate)
}

/// Milliseconds between the first and the last acknowledgement.
fn span_ms(ack: &std::path::Path) -> u64 {
    let text = std::fs::read_to_string(ack).unwrap();
    let at = |line: &str| line.split_once(' ').unwrap().1.parse::<u64>().unwrap();
    let (first, last) = (text.lines().next().unwrap(), text.lines().last().unwrap());
    (at(last) - at(first)).max(1)
}

/// The same load with nobody watching.
fn span_alone_ms() -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let ack = directory.path().join("ack");
    let mut alone = Command::new(bank::binary());
    alone
        .args(["run", "--rate", "max", "--count", &TRANSFERS.to_string(), "--db"])
        .arg(directory.path().join("a.db"));
    assert!(alone.arg("--ack").arg(&ack).status().unwrap().success());
    span_ms(&ack)
}

/// The app runs, then the store goes, then the load comes.
fn store_dies(bucket: &str, mood: Mood) {
    // One load at a time: what is compared is commit rates.
    static LOAD: Mutex<()> = Mutex::new(());
    let (site, gate) = behind_gate(bucket);
    let (go, done) = (site.path("go"), site.path("done"));
    let load = site.bank_line(&["--rate", "max", "--count", &TRANSFERS.to_string()]);
    let (go_at, done_at) = (go.display(), done.display());
    let app = format!(
        "until [ -e {go_at} ]; do sleep 0.02; done; {load}; touch {done_at}; while :; do sleep 0.05; done"
    );
    let mut run = site.run(&["sh", "-c", &app]);
    run.wait_for_app();
    {
        let _one = LOAD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let alone = span_alone_ms();
        gate.set(mood);
        std::fs::write(&go, "").unwrap();
        wait_until("the load to end", SOON, || done.exists());
        let supervised = span_ms(&site.ack());
        let allowed = alone * 5 / 2 + 300;
        assert!(supervised <= allowed, "{TRANSFERS} commits took {supervised} ms, alone {alone} ms");
    }
    run.wait_for_complaint(&site.replica.url(), Duration::from_secs(10));
    assert_eq!(site.acked(), TRANSFERS);
    let sent = run.signal(Signal::SIGTERM);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 74, "{}", run.log_text());
    assert!(ended.at - sent <= GRACE + SLACK, "took {:?}", ended.at - sent);
    let last = run.log().pop().unwrap();
    assert!(last.contains(site.db().to_str().unwrap()), "what is missing is not named: {last}");
    site.assert_disk_holds_everything("after the stop");
}

#[test]
fn a_refusing_store_stops_neither_commits_nor_the_stop() {
    store_dies("outage-refusing", Mood::Refusing);
}

#[test]
fn a_failing_store_stops_neither_commits_nor_the_stop() {
    store_dies("outage-failing", Mood::Failing);
}

#[test]
fn a_silent_store_stops_neither_commits_nor_the_stop() {
    store_dies("outage-silent", Mood::Silent);
}

#[test]
fn a_silent_store_stops_neither_commits_nor_the_stop_as_pid_1() {
    let (site, gate) = behind_gate("outage-pid1");
    let site = site.with_pid1();
    let mut run = site.run_bank(&["--rate", "200", "--on-term", "ignore"]);
    site.wait_for_acks(50);
    gate.set(Mood::Silent);
    let before = site.acked();
    site.wait_for_acks(before + 100);
    let sent = run.signal(Signal::SIGTERM);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 74, "{}", run.log_text());
    assert!(ended.at - sent <= GRACE + SLACK, "took {:?}", ended.at - sent);
}

#[test]
fn a_store_that_denies_stops_neither_commits_nor_the_stop() {
    store_dies("outage-denying", Mood::Answering(403, "AccessDenied"));
}

/// Away while the app writes, back before the stop. What was said of it.
fn store_comes_back(bucket: &str, mood: Mood) -> String {
    let (site, gate) = behind_gate(bucket);
    let mut run = site.run_bank(&["--rate", "200"]);
    site.wait_for_acks(100);
    gate.set(mood);
    let before = site.acked();
    site.wait_for_acks(before + 200);
    let said = run.wait_for_complaint(&site.replica.url(), Duration::from_secs(10));
    gate.set(Mood::Open);
    let back = crate::support::now_ms();
    wait_until("the outage's commits in the replica", Duration::from_secs(30), || {
        site.judge_replica(Some(back)).is_ok()
    });
    let ended = run.stop();
    assert_eq!(ended.code, 0, "{}", run.log_text());
    site.assert_replica_holds_everything("after the stop");
    assert_no_hole(&site);
    said
}

/// Every segment is there once, and what Litestream makes of them is what is on the disk.
fn assert_no_hole(site: &Site) {
    let mut raw: Vec<u64> = Vec::new();
    raw.extend(site.replica.ltx_files().into_keys().filter(|(level, ..)| *level == 0).map(|(.., max)| max));
    raw.sort_unstable();
    assert!(raw.windows(2).all(|pair| pair[1] == pair[0] + 1), "{raw:?}");
    assert_eq!(bank::dump(&site.path("judged.db")), bank::dump(&site.db()));
}

#[test]
fn a_store_that_denies_and_then_does_not_gets_everything() {
    let said = store_comes_back("back-denying", Mood::Answering(403, "AccessDenied"));
    assert!(said.contains("AccessDenied") && said.contains("access_key_id"), "{said}");
}

#[test]
fn a_store_that_finds_our_clock_wrong_gets_everything_later() {
    let said = store_comes_back("back-skew", Mood::Answering(403, "RequestTimeTooSkewed"));
    assert!(said.contains("clock"), "{said}");
}

#[test]
fn a_store_that_is_busy_gets_everything_later() {
    for (bucket, status, code) in [("back-503", 503, "SlowDown"), ("back-429", 429, "TooManyRequests")] {
        let said = store_comes_back(bucket, Mood::Answering(status, code));
        assert!(said.contains(&status.to_string()), "{said}");
    }
}

#[test]
fn a_store_whose_replies_get_lost_gets_everything_once() {
    store_comes_back("back-lost", Mood::LosingReplies);
}

#[test]
fn a_store_whose_replies_are_cut_gets_everything_once() {
    store_comes_back("back-cut", Mood::CuttingReplies);
}

#[test]
fn a_store_at_the_end_of_a_very_slow_line_gets_everything() {
    store_comes_back("back-trickle", Mood::Trickling);
}

#[test]
fn a_store_that_comes_and_goes_gets_everything_once() {
    let (site, gate) = behind_gate("flapping");
    let mut run = site.run_bank(&["--rate", "200"]);
    site.wait_for_acks(50);
    for mood in
        [Mood::Refusing, Mood::Open, Mood::LosingReplies, Mood::Silent, Mood::Open, Mood::Failing].repeat(3)
    {
        gate.set(mood);
        let before = site.acked();
        site.wait_for_acks(before + 60);
    }
    gate.set(Mood::Open);
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    site.assert_replica_holds_everything("after the stop");
    assert_no_hole(&site);
}

/// Nobody who may come to our help is hammered meanwhile.
#[test]
fn a_store_that_denies_is_not_asked_all_the_time() {
    let (site, gate) = behind_gate("denied-calmly");
    let mut run = site.run_bank(&["--rate", "50"]);
    site.wait_for_acks(50);
    gate.set(Mood::Answering(403, "InvalidAccessKeyId"));
    run.wait_for_complaint(&site.replica.url(), Duration::from_secs(10));
    let (before, acked) = (gate.requests(), site.acked());
    crate::support::wait_until("ten seconds of commits", SOON * 2, || site.acked() >= acked + 500);
    let asked = gate.requests() - before;
    assert!(asked <= 20, "{asked} requests in ten seconds");
    assert_eq!(run.stop().code, 74, "{}", run.log_text());
}

#[test]
fn a_refusing_store_that_comes_back_gets_everything() {
    store_comes_back("back-refusing", Mood::Refusing);
}

#[test]
fn a_failing_store_that_comes_back_gets_everything() {
    store_comes_back("back-failing", Mood::Failing);
}

#[test]
fn a_silent_store_that_comes_back_gets_everything() {
    store_comes_back("back-silent", Mood::Silent);
}

#[test]
fn a_store_that_comes_back_during_the_stop_is_used() {
    let (site, gate) = behind_gate("back-at-last");
    let site = site.with_settings("[shutdown]\ngrace = \"15s\"\npre_sync_timeout = \"300ms\"");
    let mut run = site.run_bank(&["--rate", "200"]);
    site.wait_for_acks(100);
    gate.set(Mood::Refusing);
    let before = site.acked();
    site.wait_for_acks(before + 50);
    let bank = run.bank();
    run.signal(Signal::SIGTERM);
    wait_until("the app to be gone", SOON, || !crate::support::process::is_alive(bank));
    gate.set(Mood::Open);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    site.assert_replica_holds_everything("after the stop");
}

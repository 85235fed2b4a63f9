//! Litestream 0.5.17 as judge and as partner: it restores what we write at any moment, we restore what it
//! writes, and a replica changes hands in both directions with nothing lost and no TXID used twice.

use crate::support::litestream::{self, Replicate, older};
use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::{SOON, bank, litevisor, now_ms, repository, wait_until};
use nix::sys::signal::{Signal, kill};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

type Files = BTreeMap<(u32, u64, u64), String>;

/// Steady writes, judged again and again.
fn judged_at_every_moment(site: &Site) {
    let mut run = site.run_bank(&["--rate", "300"]);
    site.wait_for_acks(1);
    wait_until("the first restorable state", SOON, || site.judge_replica(Some(0)).is_ok());
    let (mut verdicts, end) = (0, Instant::now() + Duration::from_secs(6));
    while Instant::now() < end {
        let two_seconds_ago = now_ms() - 2000;
        let verdict = site.judge_replica(Some(two_seconds_ago));
        verdict.unwrap_or_else(|wrong| panic!("verdict {verdicts}: {wrong}\n{}", run.log_text()));
        verdicts += 1;
    }
    assert!(verdicts >= 5, "only {verdicts} verdicts");
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    site.assert_replica_holds_everything("after the stop");
    let theirs = bank::dump(&site.path("judged.db"));
    let out = site.path("ours.db");
    let done = litevisor::restore(&site.config(), &site.db(), &out);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(bank::dump(&out), theirs, "both tools read the same");
    assert_eq!(bank::dump(&site.db()), theirs, "and what the app wrote");
}

#[test]
fn litestream_restores_our_directory_at_any_moment() {
    judged_at_every_moment(&Site::in_directory());
}

#[test]
fn litestream_restores_our_bucket_at_any_moment() {
    judged_at_every_moment(&Site::in_s3("judged"));
}

#[test]
fn litestream_restores_our_gs_bucket_at_any_moment() {
    judged_at_every_moment(&Site::in_gs("judged"));
}

#[test]
fn litestream_restores_our_container_at_any_moment() {
    judged_at_every_moment(&Site::in_abs("judged"));
}

#[test]
fn litestream_restores_what_we_wrote_over_sftp_at_any_moment() {
    judged_at_every_moment(&Site::in_sftp("judged"));
}

/// A bank with nobody above it.
fn start_bank(site: &Site, options: &[&str]) -> Process {
    let words = site.bank_words(options);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Process::start(command)
}

/// Litestream 0.5.16 gave pages flags. What earlier versions wrote is read and continued, and 0.5.16 and
/// later read the result; the earlier ones refuse what we write, as they refuse what Litestream writes today.
#[test]
fn what_earlier_versions_wrote_is_continued_and_they_refuse_what_follows() {
    for version in [older::FIRST, older::LAST] {
        let site = Site::in_directory();
        let peer = older::replicate(version, &site.replica, &site.db());
        let mut bank = start_bank(&site, &["--rate", "100", "--count", "100"]);
        assert_eq!(bank.wait(SOON).code, 0, "{}", bank.log_text());
        let out = site.path("theirs.db");
        wait_until("all of it in an earlier Litestream's replica", SOON, || {
            older::restore(version, &site.replica, &out)
                .and_then(|()| bank::check(&out, &site.ack(), None))
                .is_ok()
        });
        peer.stop();
        let done = litevisor::restore(&site.config(), &site.db(), &site.path("ours.db"));
        assert!(done.status.success(), "{version}: {}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(bank::dump(&site.path("ours.db")), bank::dump(&out), "{version}");
        site.wipe();
        let mut run = site.run_bank(&["--rate", "100", "--count", "50"]);
        assert_eq!(run.wait(SOON).code, 0, "{version}: {}", run.log_text());
        assert_eq!(site.acked(), 150);
        site.assert_replica_holds_everything(version);
        let said = older::restore(version, &site.replica, &out).unwrap_err();
        assert!(said.contains("no flags allowed"), "{version}: {said}");
    }
}

/// Litestream's way of running an app: it beside the app, the app stopped first.
fn run_with_litestream(site: &Site, transfers: usize) {
    let (newest, peer) = (site.replica.newest_txid(), Replicate::start(&site.replica, &site.db()));
    let mut bank = start_bank(site, &["--rate", "300"]);
    // It opens the database at its own pace; an app that comes and goes before is not seen.
    wait_until("Litestream to write", SOON, || site.replica.newest_txid() > newest);
    let before = site.acked();
    site.wait_for_acks(before + transfers);
    kill(bank.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(bank.wait(SOON).code, 0, "{}", bank.log_text());
    peer.stop();
    site.assert_replica_holds_everything("after Litestream's turn");
}

fn we_restore_what_litestream_writes(site: &Site) {
    let peer = Replicate::start(&site.replica, &site.db());
    let mut bank = start_bank(site, &["--rate", "300"]);
    let out = site.path("live.db");
    for round in 1..=3 {
        let newest = site.replica.newest_txid();
        wait_until("Litestream to write on", SOON, || site.replica.newest_txid() > newest);
        let done = litevisor::restore(&site.config(), &site.db(), &out);
        assert!(done.status.success(), "round {round}: {}", String::from_utf8_lossy(&done.stderr));
        bank::check(&out, &site.ack(), Some(0)).unwrap();
        std::fs::remove_file(&out).unwrap();
    }
    kill(bank.pid(), Signal::SIGTERM).unwrap();
    bank.wait(SOON);
    peer.stop();
    let done = litevisor::restore(&site.config(), &site.db(), &out);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    bank::check(&out, &site.ack(), None).unwrap();
    site.assert_replica_holds_everything("by Litestream's own restore");
    assert_eq!(bank::dump(&out), bank::dump(&site.path("judged.db")), "both tools read the same");
}

#[test]
fn we_restore_a_directory_that_litestream_is_writing() {
    we_restore_what_litestream_writes(&Site::in_directory());
}

#[test]
fn we_restore_what_litestream_is_writing_over_sftp() {
    we_restore_what_litestream_writes(&Site::in_sftp("theirs"));
}

#[test]
fn we_restore_a_bucket_that_litestream_is_writing() {
    we_restore_what_litestream_writes(&Site::in_s3("theirs"));
}

#[test]
fn we_restore_a_gs_bucket_that_litestream_is_writing() {
    we_restore_what_litestream_writes(&Site::in_gs("theirs"));
}

#[test]
fn we_restore_a_container_that_litestream_is_writing() {
    we_restore_what_litestream_writes(&Site::in_abs("theirs"));
}

/// What was published stays as it was (or is gone, merged into a higher level), and new raw files begin after
/// it.
fn assert_history_is_kept(before: &Files, after: &Files, whose: &str) {
    let newest = before.keys().map(|(_, _, max)| *max).max().unwrap();
    for (file, content) in before {
        assert!(after.get(file).is_none_or(|now| now == content), "{whose} turn rewrote {file:x?}");
    }
    let fresh: Vec<_> = after.keys().filter(|file| !before.contains_key(file)).collect();
    let reused = fresh.iter().find(|(level, min, _)| *level == 0 && *min <= newest);
    assert!(reused.is_none(), "{whose} turn used a TXID again: {reused:x?}, newest was {newest:x}");
    assert!(fresh.iter().any(|(level, ..)| *level == 0), "{whose} turn wrote nothing");
}

/// litevisor → Litestream → litevisor → Litestream. `between` is what happens to the disk at each change of
/// hands.
fn changes_hands(site: &Site, between: fn(&Site)) {
    let ours = |turn: &str| {
        let before = site.acked();
        let mut run = site.run_bank(&["--rate", "300"]);
        site.wait_for_acks(before + 150);
        assert_eq!(run.stop().code, 0, "{turn}:\n{}", run.log_text());
        site.assert_disk_holds_everything(turn);
        site.assert_replica_holds_everything(turn);
        site.replica.ltx_files()
    };
    let theirs = || {
        if !site.db().exists() {
            litestream::restore(&site.replica, &site.db()).unwrap();
        }
        run_with_litestream(site, 150);
        site.replica.ltx_files()
    };
    let first = ours("our first turn");
    between(site);
    let second = theirs();
    assert_history_is_kept(&first, &second, "Litestream's first");
    between(site);
    let third = ours("our second turn");
    assert_history_is_kept(&second, &third, "our second");
    between(site);
    let fourth = theirs();
    assert_history_is_kept(&third, &fourth, "Litestream's second");
    site.wipe();
    ours("our last turn");
}

fn disk_kept(_: &Site) {}

#[test]
fn a_directory_changes_hands_with_wiped_disks() {
    changes_hands(&Site::in_directory(), Site::wipe);
}

#[test]
fn a_directory_changes_hands_with_the_disk_kept() {
    changes_hands(&Site::in_directory(), disk_kept);
}

#[test]
fn a_bucket_changes_hands_with_wiped_disks() {
    changes_hands(&Site::in_s3("handover"), Site::wipe);
}

#[test]
fn a_bucket_changes_hands_with_the_disk_kept() {
    changes_hands(&Site::in_s3("handover-kept"), disk_kept);
}

#[test]
fn a_gs_bucket_changes_hands_with_wiped_disks() {
    changes_hands(&Site::in_gs("handover"), Site::wipe);
}

#[test]
fn a_gs_bucket_changes_hands_with_the_disk_kept() {
    changes_hands(&Site::in_gs("handover-kept"), disk_kept);
}

#[test]
fn a_container_changes_hands_with_wiped_disks() {
    changes_hands(&Site::in_abs("handover"), Site::wipe);
}

#[test]
fn a_container_changes_hands_with_the_disk_kept() {
    changes_hands(&Site::in_abs("handover-kept"), disk_kept);
}

#[test]
fn a_directory_behind_sftp_changes_hands_with_wiped_disks() {
    changes_hands(&Site::in_sftp("handover"), Site::wipe);
}

/// Merged and cleaned up by us in each of our turns.
fn compacted() -> Site {
    let settings = "levels = [\"100ms\", \"300ms\", \"1s\"]\nsnapshot = { interval = \"1s\" }\n\
                    retention = { snapshots = \"1s\", l0 = \"100ms\" }";
    Site::in_directory().with_database_settings(settings).with_replica_settings("sync_interval = \"100ms\"")
}

#[test]
fn a_compacted_directory_changes_hands_with_wiped_disks() {
    changes_hands(&compacted(), Site::wipe);
}

#[test]
fn a_compacted_directory_changes_hands_with_the_disk_kept() {
    changes_hands(&compacted(), disk_kept);
}

/// Samples whose newest data are of version 0.5.
const SAMPLES: [&str; 6] = [
    "s1-v05-tiny",
    "s2-v05-levels-ps512",
    "s3-v05-shrink-grow",
    "s4-v05-restarts",
    "s7-mixed-v05-newer",
    "s8-handmade-literal-lz4",
];

#[test]
fn we_restore_every_sample_as_litestream_did() {
    let directory = tempfile::tempdir().unwrap();
    for sample in SAMPLES {
        let sample_at: PathBuf = repository().join("tests/samples").join(sample);
        let out = directory.path().join(format!("{sample}.db"));
        let done = litevisor::restore_url(&format!("file://{}/replica", sample_at.display()), &out);
        assert!(done.status.success(), "{sample}: {}", String::from_utf8_lossy(&done.stderr));
        // The judged copy is opened elsewhere: looking at a database may leave side files.
        let theirs = directory.path().join(format!("{sample}-theirs.db"));
        std::fs::write(&theirs, std::fs::read(sample_at.join("restored.db")).unwrap()).unwrap();
        let dump = bank::dump(&out);
        assert!(!dump.is_empty(), "{sample} restored to nothing");
        assert_eq!(dump, bank::dump(&theirs), "{sample}");
    }
}

//! What the app finds at its start: the default file of the image, leftovers on the disk, a replica that is
//! empty, away, damaged or slow.

use crate::support::gate::{Gate, Mood};
use crate::support::litevisor::Litevisor;
use crate::support::replica::Replica;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

/// The replica is given up on after this long.
const IMPATIENT: &str = "[restore]\ntimeout = \"2s\"";

/// An app that does nothing but prove that it was started.
fn run_marker(site: &Site) -> Litevisor {
    site.run(&["touch", site.path("started").to_str().unwrap()])
}

fn started(site: &Site) -> bool {
    site.path("started").exists()
}

/// The plain files beside the database.
fn disk(site: &Site) -> BTreeMap<String, Vec<u8>> {
    let names = site.files_on_disk().into_iter();
    names.filter_map(|name| Some((name.clone(), std::fs::read(site.disk().join(name)).ok()?))).collect()
}

/// The start is refused with `code`, names `subject`, starts nothing and leaves the disk as it was.
fn refused(site: &Site, code: i32, subject: &str) {
    bank::seed(&site.db());
    let before = disk(site);
    let mut run = run_marker(site);
    assert_eq!(run.wait(SOON).code, code, "{}", run.log_text());
    assert!(run.log_text().contains(subject), "the log does not name {subject}:\n{}", run.log_text());
    assert!(!started(site), "the app was started");
    assert_eq!(before.keys().collect::<Vec<_>>(), disk(site).keys().collect::<Vec<_>>());
    assert!(before == disk(site), "the default file was changed");
}

fn gated(bucket: &str, mood: Mood) -> (Site, Gate) {
    let mut site = Site::in_s3(bucket);
    site.make_history(50);
    site.wipe();
    let gate = Gate::before(&crate::support::seaweed::Seaweed::shared().endpoint(), mood);
    site.replica = site.replica.at(&gate.endpoint());
    (site.with_settings(IMPATIENT), gate)
}

#[test]
fn the_default_file_is_kept_when_the_bucket_is_empty() {
    for site in [Site::in_directory(), Site::in_s3("empty-bucket").with_pid1()] {
        bank::seed(&site.db());
        let before = bank::dump(&site.db());
        let mut run = run_marker(&site);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        assert!(started(&site));
        assert_eq!(bank::dump(&site.db()), before);
        let out = site.path("judged.db");
        crate::support::litestream::restore(&site.replica, &out).unwrap();
        assert_eq!(bank::dump(&out), before, "what the app started from is in the replica");
    }
}

#[test]
fn the_default_file_gives_way_to_the_buckets_history() {
    for site in [Site::in_directory(), Site::in_s3("full-bucket").with_pid1()] {
        site.make_history(200);
        site.wipe();
        bank::seed(&site.db());
        let mut run = run_marker(&site);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        site.assert_disk_holds_everything("after the restore");
        assert!(!bank::schema(&site.db()).contains("image_default"));
        site.assert_replica_holds_everything("after the stop");
    }
}

#[test]
fn an_unreachable_replica_starts_nothing() {
    for (bucket, mood) in [("refusing", Mood::Refusing), ("silent", Mood::Silent), ("failing", Mood::Failing)]
    {
        let (site, _gate) = gated(bucket, mood);
        refused(&site, 69, &site.replica.url());
    }
}

#[test]
fn an_unreachable_replica_starts_nothing_as_pid_1() {
    let (site, _gate) = gated("refusing-pid1", Mood::Refusing);
    refused(&site.with_pid1(), 69, "s3://refusing-pid1/");
}

#[test]
fn a_wrong_secret_starts_nothing() {
    let site = Site::in_s3("wrong-secret").with_settings(IMPATIENT);
    site.make_history(50);
    site.wipe();
    let config = site.config();
    let text = std::fs::read_to_string(&config).unwrap();
    let wrong = text.replace(crate::support::seaweed::SECRET_KEY, "not-the-secret-at-all");
    assert_ne!(text, wrong);
    std::fs::write(&config, wrong).unwrap();
    let marker = site.path("started");
    let words = ["--config", config.to_str().unwrap(), "--", "touch", marker.to_str().unwrap()];
    let mut run = Litevisor::run(site.kind, &words.map(Into::into));
    assert_eq!(run.wait(SOON).code, 69, "{}", run.log_text());
    assert!(!marker.exists());
    assert!(!run.log_text().contains("not-the-secret-at-all"), "a secret in the log");
    assert!(disk(&site).is_empty(), "{:?}", site.files_on_disk());
}

/// History in a directory, and the newest file of a level. Several starts make several L0 files.
fn history_with_file(level: u32) -> (Site, std::path::PathBuf) {
    let site = Site::in_directory();
    for _ in 0..3 {
        site.make_history(50);
    }
    site.wipe();
    let files = site.replica.ltx_files();
    let of_level: Vec<_> = files.keys().filter(|(this, ..)| *this == level).collect();
    let (_, min, max) = of_level.get(of_level.len().saturating_sub(2)).expect("a file of that level");
    let file = site.path("bucket").join(format!("ltx/{level}/{min:016x}-{max:016x}.ltx"));
    (site, file)
}

#[test]
fn a_damaged_replica_starts_nothing_and_the_file_is_named() {
    for level in [0, 9] {
        let (site, file) = history_with_file(level);
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(&file, bytes).unwrap();
        refused(&site, 65, file.file_name().unwrap().to_str().unwrap());
    }
}

#[test]
fn a_truncated_file_starts_nothing_as_pid_1() {
    let (site, file) = history_with_file(0);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
    refused(&site.with_pid1(), 65, file.file_name().unwrap().to_str().unwrap());
}

#[test]
fn a_gap_in_the_replica_starts_nothing() {
    let (site, file) = history_with_file(0);
    std::fs::remove_file(&file).unwrap();
    refused(&site, 65, &site.replica.url());
}

#[test]
fn a_stale_wal_beside_a_missing_database_does_no_harm() {
    for site in [Site::in_directory(), Site::in_directory().with_pid1()] {
        site.make_history(100);
        site.wipe();
        // Frames of another database, not checkpointed: what a killed app leaves behind.
        let stranger = site.path("stranger.db");
        bank::seed(&stranger);
        let open = rusqlite::Connection::open(&stranger).unwrap();
        open.execute_batch(
            "PRAGMA journal_mode = wal; CREATE TABLE stranger (x); INSERT INTO stranger VALUES (1)",
        )
        .unwrap();
        for side in ["-wal", "-shm"] {
            let from = format!("{}{side}", stranger.display());
            std::fs::write(format!("{}{side}", site.db().display()), std::fs::read(from).unwrap()).unwrap();
        }
        let mut run = run_marker(&site);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        site.assert_disk_holds_everything("after the restore");
        assert!(!bank::schema(&site.db()).contains("stranger"));
        site.assert_replica_holds_everything("after the stop");
    }
}

#[test]
fn a_file_of_no_bytes_counts_as_absent() {
    let site = Site::in_directory();
    std::fs::write(site.db(), "").unwrap();
    site.make_history(50);
    site.wipe();
    std::fs::write(site.db(), "").unwrap();
    let mut run = run_marker(&site);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    site.assert_disk_holds_everything("after the restore");
}

/// A store that answers after 20 s.
fn stop_during_restore(site: &Site, gate: &Gate) {
    bank::seed(&site.db());
    let before = disk(site);
    let seen = gate.requests();
    let mut run = run_marker(site);
    wait_until("litevisor to ask the store", SOON, || gate.requests() > seen);
    let sent = run.signal(Signal::SIGTERM);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 143, "{}", run.log_text());
    assert!(ended.at - sent < Duration::from_millis(1500), "took {:?}\n{}", ended.at - sent, run.log_text());
    assert!(!started(site), "the app was started");
    assert!(before == disk(site), "the disk was changed: {:?}", site.files_on_disk());
}

#[test]
fn sigterm_during_a_slow_restore_ends_it_and_starts_nothing() {
    let (site, gate) = gated("slow", Mood::Slow(Duration::from_secs(20)));
    stop_during_restore(&site.with_settings(""), &gate);
}

#[test]
fn sigterm_during_a_slow_restore_ends_it_and_starts_nothing_as_pid_1() {
    let (site, gate) = gated("slow-pid1", Mood::Slow(Duration::from_secs(20)));
    stop_during_restore(&site.with_settings("").with_pid1(), &gate);
}

#[test]
fn a_replica_that_comes_in_time_is_waited_for() {
    let (site, gate) = gated("late", Mood::Refusing);
    let site = site.with_settings("[restore]\ntimeout = \"30s\"");
    let run = &mut run_marker(&site);
    run.wait_for_complaint(&site.replica.url(), SOON);
    gate.set(Mood::Open);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    assert!(started(&site));
    site.assert_disk_holds_everything("after the restore");
    assert!(matches!(site.replica, Replica::S3 { .. }));
}

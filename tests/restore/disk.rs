//! Disks that are too small, or fill up while the restore goes on: the file from before stays, and the error
//! says so.

use crate::support::disk::Tmpfs;
use crate::support::gate::{Gate, Mood};
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use nix::sys::signal::Signal;
use rusqlite::Connection;

/// A replica of so many MiB that cannot be compressed, and a gate before it. The disk is empty again.
pub fn large_replica(bucket: &str, mib: u32) -> (Site, Gate) {
    let mut site = Site::in_s3(bucket);
    let app = Connection::open(site.db()).unwrap();
    app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE big(x)").unwrap();
    for _ in 0..mib {
        app.execute("INSERT INTO big VALUES (randomblob(1048576))", []).unwrap();
    }
    drop(app);
    let mut run = site.run(&["true"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    site.wipe();
    let gate = Gate::before(&Seaweed::shared().endpoint(), Mood::Open);
    site.replica = site.replica.at(&gate.endpoint());
    gate.take_asked();
    (site, gate)
}

/// Refused by what the listing says of it; the default file is as it was.
#[test]
fn a_disk_that_is_too_small_is_refused_before_the_fetch() {
    let (site, gate) = large_replica("too-small", 24);
    let _disk = Tmpfs::mount(&site.disk(), 12 << 10);
    bank::seed(&site.db());
    let (before, marker) = (std::fs::read(site.db()).unwrap(), site.path("started"));
    let mut run = site.run(&["touch", marker.to_str().unwrap()]);
    assert_eq!(run.wait(SOON).code, 78, "{}", run.log_text());
    let log = run.log_text();
    assert!(log.contains("no space for") && log.contains("bank.db"), "{log}");
    assert!(!marker.exists());
    assert!(std::fs::read(site.db()).unwrap() == before);
    assert_eq!(site.files_on_disk(), ["bank.db"]);
    let gets: Vec<String> = gate
        .take_asked()
        .into_iter()
        .map(|asked| asked.line)
        .filter(|line| line.contains("/0009/"))
        .collect();
    assert!(gets.is_empty(), "something was fetched: {gets:#?}");
}

#[test]
fn a_disk_that_fills_up_on_the_way_leaves_the_previous_file() {
    let (site, gate) = large_replica("fills-up", 8);
    let disk = Tmpfs::mount(&site.disk(), 12 << 10);
    bank::seed(&site.db());
    let (before, marker) = (std::fs::read(site.db()).unwrap(), site.path("started"));
    gate.set(Mood::Dripping(128 << 10));
    let mut run = site.run(&["touch", marker.to_str().unwrap()]);
    // Room was asked for, and there was enough.
    wait_until("the first pages", SOON, || staged_bytes(&site) > 0);
    let filler = disk.fill();
    gate.set(Mood::Open);
    assert_eq!(run.wait(SOON).code, 78, "{}", run.log_text());
    let log = run.log_text();
    assert!(log.contains("no space for") && log.contains("bank.db"), "{log}");
    assert!(!marker.exists());
    assert!(std::fs::read(site.db()).unwrap() == before);
    assert_eq!(site.files_on_disk(), ["bank.db", "filler"]);
    // With room again the same start succeeds.
    std::fs::remove_file(filler).unwrap();
    let mut run = site.run(&["sleep", "600"]);
    run.wait_for_app();
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait(SOON).code, 143, "{}", run.log_text());
    assert!(bank::schema(&site.db()).contains("big"));
}

fn staged_bytes(site: &Site) -> u64 {
    let names = site.files_on_disk();
    let staged = names.iter().find(|name| name.contains(".litevisor-"));
    staged.and_then(|name| std::fs::metadata(site.disk().join(name)).ok()).map_or(0, |found| found.len())
}

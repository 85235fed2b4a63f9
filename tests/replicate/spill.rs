//! The store is away for so long that the WAL passes its limit: what is captured goes to files beside the
//! database, the WAL and the memory stay bounded, the app goes on, and everything arrives in order once the
//! store is back, whatever happened to the process meanwhile.

use crate::support::gate::{Gate, Mood};
use crate::support::litevisor::Litevisor;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const LIMITS: &str = "wal_limit = \"1MiB\"\ncheckpoint = { bytes = \"256KiB\" }";
/// Of the WAL, past a limit of 1 MiB: what a busy machine lets the app write between two looks.
const WAL_MOST: u64 = 24 << 20;
const MEMORY_MOST_KIB: u64 = 160 << 10;
/// Enough for the WAL to pass its limit many times over.
const TRANSFERS: usize = 3000;
const CAUGHT_UP: Duration = Duration::from_secs(20);

fn behind_gate(bucket: &str, limits: &str) -> (Site, Gate) {
    let budget = "[shutdown]\ngrace = \"5s\"\napp_timeout = \"3s\"\npre_sync_timeout = \"500ms\"";
    let mut site = Site::in_s3(bucket).with_settings(budget).with_database_settings(limits);
    let gate = Gate::before(&crate::support::seaweed::Seaweed::shared().endpoint(), Mood::Open);
    site.replica = site.replica.at(&gate.endpoint());
    (site, gate)
}

/// In `meta_dir`, if there is one.
fn spill(site: &Site) -> PathBuf {
    let meta = site.path("meta");
    let above = if meta.exists() { meta.join(site.disk().strip_prefix("/").unwrap()) } else { site.disk() };
    above.join(".bank.db-litevisor/spill")
}

fn in_meta_dir(site: Site) -> Site {
    let meta = format!("{LIMITS}\nmeta_dir = {:?}", site.path("meta"));
    site.with_database_settings(&meta)
}

/// Nothing of litevisor's is beside the database.
fn assert_disk_is_the_apps(site: &Site, log: &str) {
    let names = site.files_on_disk();
    assert!(names.iter().all(|name| !name.contains("litevisor")), "{names:?}\n{log}");
}

fn spilled(site: &Site) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(spill(site)) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn wal_bytes(site: &Site) -> u64 {
    std::fs::metadata(site.disk().join("bank.db-wal")).map_or(0, |meta| meta.len())
}

/// The bank runs, the store goes, and the bank goes on until a few segments are spilled.
fn into_the_outage(site: &Site, gate: &Gate, mood: Mood) -> Litevisor {
    let run = site.run_bank(&["--rate", "500"]);
    site.wait_for_acks(50);
    in_the_replica(&run, site);
    gate.set(mood);
    let before = site.acked();
    eventually(&run, "the outage to fill the spill directory", || spilled(site).len() >= 3);
    eventually(&run, "the app to go on", || site.acked() >= before + TRANSFERS);
    run
}

/// Segments of this run arrive: what an earlier one left on the disk is behind us, and so is the first
/// snapshot or the image that may follow, during which nothing can be numbered and nothing is spilled.
fn in_the_replica(run: &Litevisor, site: &Site) {
    eventually(run, "what waited on the disk to arrive", || spilled(site).is_empty());
    let acked = site.acked();
    site.wait_for_acks(acked + 1);
    let before = site.replica.newest_txid();
    eventually(run, "a segment in the replica", || site.replica.newest_txid() > before.max(1));
}

fn eventually(run: &Litevisor, what: &str, ready: impl Fn() -> bool) {
    let end = Instant::now() + CAUGHT_UP;
    while !ready() {
        assert!(Instant::now() < end, "waited in vain for {what}:\n{}", run.log_text());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The highest memory use so far, in KiB.
fn memory_most(run: &Litevisor) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn assert_caught_up(site: &Site, run: &mut Litevisor) {
    eventually(run, "the spill directory to be empty", || spilled(site).is_empty());
    let ended = run.stop();
    assert_eq!(ended.code, 0, "{}", run.log_text());
    assert_whole(site, &run.log_text());
}

/// Everything is in the replica, in order, and is what is on the disk.
fn assert_whole(site: &Site, log: &str) {
    site.assert_replica_holds_everything(log);
    site.assert_disk_holds_everything(log);
    assert_eq!(bank::dump(&site.path("judged.db")), bank::dump(&site.db()), "{log}");
    let mut raw: Vec<u64> = Vec::new();
    for (level, min, max) in site.replica.ltx_files().into_keys().filter(|(level, ..)| *level == 0) {
        assert_eq!((level, min), (0, max), "a raw file of more than one TXID");
        raw.push(max);
    }
    raw.sort_unstable();
    assert!(raw.windows(2).all(|pair| pair[1] == pair[0] + 1), "a hole: {raw:?}");
    assert!(spilled(site).is_empty());
}

fn comes_back(bucket: &str, mood: Mood) {
    let (site, gate) = behind_gate(bucket, LIMITS);
    let mut run = into_the_outage(&site, &gate, mood);
    let (wal, memory) = (wal_bytes(&site), memory_most(&run));
    assert!(wal <= WAL_MOST, "the WAL has {wal} bytes\n{}", run.log_text());
    assert!(memory <= MEMORY_MOST_KIB, "{memory} KiB");
    gate.set(Mood::Open);
    assert_caught_up(&site, &mut run);
    assert!(!run.log_text().contains("the whole database is uploaded"), "{}", run.log_text());
}

#[test]
fn a_store_that_refuses_gets_what_was_spilled() {
    comes_back("spill-refusing", Mood::Refusing);
}

#[test]
fn a_store_that_is_silent_gets_what_was_spilled() {
    comes_back("spill-silent", Mood::Silent);
}

/// Nothing can be numbered yet: the database itself is what waits.
#[test]
fn a_store_that_goes_before_the_first_snapshot_gets_everything() {
    let (site, gate) = behind_gate("spill-first", LIMITS);
    let mut run = site.run(&[
        "sh",
        "-c",
        &format!(
            "while [ ! -e {} ]; do sleep 0.02; done; exec {}",
            site.path("go").display(),
            site.bank_line(&["--rate", "500"])
        ),
    ]);
    run.wait_for_app();
    gate.set(Mood::Refusing);
    std::fs::write(site.path("go"), "").unwrap();
    eventually(&run, "the app to go on", || site.acked() >= TRANSFERS);
    let wal = wal_bytes(&site);
    assert!(wal <= WAL_MOST, "the WAL has {wal} bytes\n{}", run.log_text());
    gate.set(Mood::Open);
    assert_caught_up(&site, &mut run);
}

#[test]
fn killed_with_files_waiting_and_started_again_on_the_same_disk() {
    let (site, gate) = behind_gate("spill-killed", LIMITS);
    let mut run = into_the_outage(&site, &gate, Mood::Refusing);
    run.kill_everything();
    assert!(!spilled(&site).is_empty());
    gate.set(Mood::Open);
    let mut run = site.run_bank(&["--rate", "100"]);
    assert_caught_up(&site, &mut run);
    assert!(run.log_text().contains("it continues the replica"), "{}", run.log_text());
}

#[test]
fn what_waits_in_a_meta_dir_survives_a_kill() {
    let (site, gate) = behind_gate("spill-meta", LIMITS);
    let site = in_meta_dir(site);
    let mut run = into_the_outage(&site, &gate, Mood::Refusing);
    assert_disk_is_the_apps(&site, &run.log_text());
    run.kill_everything();
    assert!(!spilled(&site).is_empty());
    gate.set(Mood::Open);
    let mut run = site.run_bank(&["--rate", "100"]);
    assert_caught_up(&site, &mut run);
    assert!(run.log_text().contains("it continues the replica"), "{}", run.log_text());
    assert_disk_is_the_apps(&site, &run.log_text());
}

/// The record says how far the segments lead, and they are nowhere else.
#[test]
fn what_waits_beside_the_database_is_moved_to_a_new_meta_dir() {
    let (site, gate) = behind_gate("spill-moved", LIMITS);
    let mut run = into_the_outage(&site, &gate, Mood::Refusing);
    run.kill_everything();
    let is_whole = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "ltx");
    let waiting = spilled(&site).iter().filter(is_whole).count();
    assert!(waiting > 0);
    let site = in_meta_dir(site);
    gate.set(Mood::Open);
    let acked = site.acked();
    let mut run = site.run_bank(&["--rate", "100"]);
    site.wait_for_acks(acked);
    assert_caught_up(&site, &mut run);
    let log = run.log_text();
    assert!(log.contains(&format!("\"segments\":{waiting}")), "{log}");
    assert!(log.contains("was moved to `meta_dir`") && log.contains("it continues the replica"), "{log}");
    assert_disk_is_the_apps(&site, &log);
}

/// Killed again in the middle of the catching up, and once more with the store away for a second time.
#[test]
fn killed_again_and_again() {
    let (site, gate) = behind_gate("spill-again", LIMITS);
    for round in 0..3 {
        let mut run = into_the_outage(&site, &gate, Mood::Refusing);
        run.kill_everything();
        gate.set(Mood::Slow(Duration::from_millis(30)));
        let waiting = spilled(&site).len();
        let mut run = site.run_bank(&["--rate", "100"]);
        wait_until("some of the files to arrive", CAUGHT_UP, || spilled(&site).len() < waiting);
        run.kill_everything();
        assert!(!run.log_text().contains("replacing the local file"), "round {round}:\n{}", run.log_text());
        gate.set(Mood::Open);
    }
    let mut run = site.run_bank(&["--rate", "100"]);
    assert_caught_up(&site, &mut run);
}

#[test]
fn stopped_with_files_waiting_and_started_again() {
    let (site, gate) = behind_gate("spill-stopped", LIMITS);
    let mut run = into_the_outage(&site, &gate, Mood::Refusing);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait(SOON).code, 74, "{}", run.log_text());
    let last = run.log().pop().unwrap();
    assert!(last.contains("everything after"), "what is missing is not named: {last}");
    gate.set(Mood::Open);
    let mut run = site.run_bank(&["--count", "1"]);
    assert_eq!(run.wait(CAUGHT_UP).code, 0, "{}", run.log_text());
    assert_whole(&site, &run.log_text());
}

#[test]
fn with_the_disk_gone_the_replica_is_what_there_is() {
    let (site, gate) = behind_gate("spill-wiped", LIMITS);
    site.make_history(100);
    let mut run = into_the_outage(&site, &gate, Mood::Refusing);
    run.kill_everything();
    site.wipe();
    std::fs::remove_file(site.ack()).unwrap();
    gate.set(Mood::Open);
    let mut run = site.run_bank(&["--count", "1"]);
    assert_eq!(run.wait(CAUGHT_UP).code, 0, "{}", run.log_text());
    assert_whole(&site, &run.log_text());
}

/// Another writer's file stands where the first of the waiting ones belongs: nobody's is overwritten, nothing
/// is thrown away.
#[test]
fn a_replica_that_went_on_does_not_get_what_waited_here() {
    let (site, gate) = behind_gate("spill-moved-on", LIMITS);
    let mut run = into_the_outage(&site, &gate, Mood::Refusing);
    run.kill_everything();
    gate.set(Mood::Open);
    let mut other = Site::in_directory();
    other.replica = site.replica.clone();
    let mut winner = other.run_bank(&["--count", "5"]);
    assert_eq!(winner.wait(CAUGHT_UP).code, 0, "{}", winner.log_text());
    let waited = spilled(&site).len();
    std::fs::remove_file(site.ack()).unwrap();
    let objects = site.replica.objects();
    let mut run = site.run_bank(&["--count", "1"]);
    assert_eq!(run.wait(CAUGHT_UP).code, 0, "{}", run.log_text());
    let aside = spill(&site).with_file_name("spill-set-aside-1");
    assert_eq!(std::fs::read_dir(&aside).unwrap().count(), waited, "{}", run.log_text());
    assert!(run.log_text().contains(aside.to_str().unwrap()), "{}", run.log_text());
    for (key, content) in objects {
        assert_eq!(site.replica.objects().get(&key), Some(&content), "{key}");
    }
    assert_whole(&site, &run.log_text());
}

fn grows(run: &Litevisor) {
    run.wait_for_log("that the WAL grows", CAUGHT_UP * 2, |line| {
        line.contains("the WAL grows past wal_limit")
    });
}

#[test]
fn past_the_spill_limit_the_wal_grows() {
    let (site, gate) = behind_gate("spill-limit", &format!("{LIMITS}\nspill_limit = \"1MiB\""));
    let mut run = site.run_bank(&["--rate", "500"]);
    site.wait_for_acks(50);
    in_the_replica(&run, &site);
    gate.set(Mood::Refusing);
    grows(&run);
    let before = site.acked();
    site.wait_for_acks(before + TRANSFERS);
    let bytes: u64 = spilled(&site).iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    assert!(bytes <= 1 << 20, "{bytes} bytes are spilled");
    gate.set(Mood::Open);
    assert_caught_up(&site, &mut run);
}

/// A small file system for the spill directory alone.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Small {
        assert!(nix::unistd::geteuid().is_root(), "this test mounts a file system: run it as root");
        std::fs::create_dir_all(at).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).status().unwrap();
        assert!(mount.success(), "cannot mount a tmpfs");
        Small(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_the_wal_grows() {
    let (site, gate) = behind_gate("spill-full", LIMITS);
    let _small = Small::mount(&spill(&site));
    let mut run = site.run_bank(&["--rate", "500"]);
    site.wait_for_acks(50);
    in_the_replica(&run, &site);
    gate.set(Mood::Refusing);
    grows(&run);
    let before = site.acked();
    site.wait_for_acks(before + 1000);
    let torn: Vec<_> = spilled(&site).into_iter().filter(|path| path.extension().unwrap() == "tmp").collect();
    assert!(torn.is_empty(), "{torn:?}");
    gate.set(Mood::Open);
    assert_caught_up(&site, &mut run);
}

//! A write storm: an app that writes as fast as it can, many times the size of its database, with a store
//! that keeps up and with one that is slow from the first snapshot on. The WAL starts over in the middle of
//! the storm, litevisor says with the number that it has passed its limit, nothing is lost, and the WAL's
//! file is small again afterwards. How large it becomes depends on the build: an unoptimised litevisor takes
//! seconds for a step. `--nocapture` shows it. To judge an optimised build: `LITEVISOR_STORM_BINARY=…
//! LITEVISOR_STORM_MIB=2000 LITEVISOR_STORM_PART=8 cargo test --test replicate storm` writes so much, and
//! fails if the WAL was larger than an eighth of it.

use crate::support::gate::{Gate, Mood};
use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::{SOON, litestream, wait_until};
use nix::sys::signal::{Signal, kill};
use rusqlite::Connection;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LIMITS: &str = "wal_limit = \"4MiB\"\ncheckpoint = { bytes = \"1MiB\" }";
/// Rows of 100 kB, of which the database has 100.
const ROWS: i64 = 100;
const ROW_BYTES: i64 = 100_000;
/// Times that the WAL starts over before the storm ends, and what the app has written by then at most. Where
/// only a pause of the app lets the WAL start over, it never does.
const RESTARTS: u64 = 2;
const MOST_MIB: u64 = 2048;

fn binary() -> std::ffi::OsString {
    std::env::var_os("LITEVISOR_STORM_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_litevisor").into())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// The salt that a writer changes when it starts the WAL over. SQLite takes no lock on this file.
fn salt(wal: &Path) -> Option<[u8; 4]> {
    let mut salt = [0; 4];
    File::open(wal).ok()?.read_exact_at(&mut salt, 16).ok()?;
    Some(salt)
}

/// Writes each row again and again, without a pause; returns the bytes, and how often the WAL was started
/// over.
fn storm(app: &Connection, wal: &Path) -> (u64, u64) {
    app.execute_batch("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x BLOB)").unwrap();
    let mut replace = app.prepare("INSERT OR REPLACE INTO t VALUES (?1, randomblob(?2))").unwrap();
    let fixed = number("LITEVISOR_STORM_MIB");
    let commits = (fixed.unwrap_or(MOST_MIB) << 20) as i64 / ROW_BYTES;
    let (mut restarts, mut last) = (0, salt(wal));
    for commit in 0..commits {
        replace.execute((commit % ROWS, ROW_BYTES)).unwrap();
        let now = salt(wal);
        restarts += u64::from(now != last);
        last = now;
        // The first change may be the begin of the WAL.
        if fixed.is_none() && restarts > RESTARTS {
            return ((commit * ROW_BYTES) as u64, restarts);
        }
    }
    ((commits * ROW_BYTES) as u64, restarts)
}

fn open(site: &Site) -> Connection {
    let app = Connection::open(site.db()).unwrap();
    app.busy_timeout(SOON).unwrap();
    app.execute_batch("PRAGMA journal_mode=wal; PRAGMA synchronous=NORMAL").unwrap();
    app
}

fn digest(db: &Connection) -> Vec<(i64, Vec<u8>)> {
    let mut rows = db.prepare("SELECT id, substr(x, 1, 16) FROM t ORDER BY id").unwrap();
    rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

/// What the storm wrote, how often the WAL was started over, and the largest WAL meanwhile.
fn blow(site: &Site, app: &Connection) -> (u64, u64, u64) {
    let wal = site.disk().join("bank.db-wal");
    let (over, largest) = (AtomicBool::new(false), AtomicU64::new(0));
    let (written, restarts) = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                largest.fetch_max(std::fs::metadata(&wal).map_or(0, |meta| meta.len()), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let storm = storm(app, &wal);
        over.store(true, Ordering::Relaxed);
        storm
    });
    (written, restarts, largest.into_inner())
}

fn survives(site: &Site, what: &str, calm: impl FnOnce()) {
    let mut command = Command::new(binary());
    command.arg("run").arg("--config").arg(site.config()).args(["--", "sleep", "1000"]);
    let mut run = Process::start(command);
    run.wait_for_log("the app", SOON, |line| line.contains("the app is started"));
    let app = open(site);
    let begun = Instant::now();
    let (written, restarts, largest) = blow(site, &app);
    let took = begun.elapsed().as_secs_f64();
    let (mib, largest_mib) = (written >> 20, largest >> 20);
    println!(
        "{what}: {mib} MiB written in {took:.1} s, the WAL had {largest_mib} MiB at most, started over {restarts} times"
    );
    assert!(restarts > RESTARTS, "{what}: the WAL is not started over\n{}", run.log_text());
    if let Some(part) = number("LITEVISOR_STORM_PART") {
        assert!(largest <= written / part, "{what}: {largest} bytes of WAL\n{}", run.log_text());
    }
    assert!(run.log_text().contains("the WAL has passed wal_limit"), "{}", run.log_text());
    calm();
    let wal = site.disk().join("bank.db-wal");
    wait_until("a small WAL", 6 * SOON, || std::fs::metadata(&wal).unwrap().len() <= 8 << 20);
    let wanted = digest(&app);
    drop(app);
    kill(run.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(run.wait(3 * SOON).code, 143, "{}", run.log_text());
    let out = site.path("restored.db");
    litestream::restore(&site.replica, &out).unwrap();
    assert_eq!(digest(&Connection::open(&out).unwrap()), wanted, "{what}");
}

#[test]
fn a_write_storm_loses_nothing_and_leaves_a_small_wal() {
    let site = Site::in_directory().with_database_settings(LIMITS);
    survives(&site, "a store that keeps up", || {});
}

#[test]
fn a_write_storm_during_a_slow_first_snapshot_loses_nothing_and_leaves_a_small_wal() {
    let mut site = Site::in_s3("write-storm").with_database_settings(LIMITS);
    let gate = Gate::before(
        &crate::support::seaweed::Seaweed::shared().endpoint(),
        Mood::Slow(Duration::from_secs(3)),
    );
    site.replica = site.replica.at(&gate.endpoint());
    survives(&site, "a store that is slow from the first snapshot on", || gate.set(Mood::Open));
}

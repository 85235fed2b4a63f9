//! A write storm: an app that writes as fast as it can, many times the size of its database. The WAL stays a part of what was written,
//! with a store that keeps up and with one that is slow from the first snapshot on, and its file is small again afterwards. The test's
//! output has the figures (`--nocapture`).

use crate::support::gate::{Gate, Mood};
use crate::support::site::Site;
use crate::support::{SOON, litestream, wait_until};
use rusqlite::Connection;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LIMITS: &str = "wal_limit = \"16MiB\"\ncheckpoint = { bytes = \"1MiB\" }";
/// Rows of 100 kB, of which the database has 100.
const ROWS: i64 = 100;
const ROW_BYTES: i64 = 100_000;
/// The storm ends when so much was written, and so many times the largest WAL.
const AT_LEAST: u64 = 200 << 20;
const TIMES: u64 = 4;
const LONGEST: Duration = Duration::from_secs(120);

/// Writes each row again and again, without a pause, until much more was written than the WAL had at most; returns both.
fn storm(app: &Connection, largest: &AtomicU64) -> u64 {
    app.execute_batch("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x BLOB)").unwrap();
    let mut replace = app.prepare("INSERT OR REPLACE INTO t VALUES (?1, randomblob(?2))").unwrap();
    let begun = Instant::now();
    let mut written = 0;
    for commit in 0.. {
        replace.execute((commit % ROWS, ROW_BYTES)).unwrap();
        written += ROW_BYTES as u64;
        let enough = AT_LEAST.max(TIMES * largest.load(Ordering::Relaxed));
        if written >= enough || begun.elapsed() > LONGEST {
            break;
        }
    }
    written
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

/// What the storm wrote, and the largest WAL meanwhile.
fn blow(site: &Site, app: &Connection) -> (u64, u64) {
    let wal = site.disk().join("bank.db-wal");
    let (over, largest) = (AtomicBool::new(false), AtomicU64::new(0));
    let written = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                largest.fetch_max(std::fs::metadata(&wal).map_or(0, |meta| meta.len()), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let written = storm(app, &largest);
        over.store(true, Ordering::Relaxed);
        written
    });
    (written, largest.into_inner())
}

fn survives(site: &Site, what: &str, calm: impl FnOnce()) {
    let mut run = site.run(&["sleep", "1000"]);
    run.wait_for_app();
    let app = open(site);
    let begun = Instant::now();
    let (written, largest) = blow(site, &app);
    let took = begun.elapsed().as_secs_f64();
    println!("{what}: {} MiB written in {took:.1} s, the WAL had {} MiB at most", written >> 20, largest >> 20);
    assert!(written >= TIMES * largest, "{what}: {largest} bytes of WAL, {written} written\n{}", run.log_text());
    calm();
    let wal = site.disk().join("bank.db-wal");
    wait_until("a small WAL", 3 * SOON, || std::fs::metadata(&wal).unwrap().len() <= 8 << 20);
    let wanted = digest(&app);
    drop(app);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let out = site.path("restored.db");
    litestream::restore(&site.replica, &out).unwrap();
    assert_eq!(digest(&Connection::open(&out).unwrap()), wanted, "{what}");
}

#[test]
fn in_a_write_storm_the_wal_is_bounded() {
    let site = Site::in_directory().with_database_settings(LIMITS);
    survives(&site, "a store that keeps up", || {});
}

#[test]
fn in_a_write_storm_with_a_slow_first_snapshot_the_wal_is_bounded() {
    let mut site = Site::in_s3("write-storm").with_database_settings(LIMITS);
    let gate = Gate::before(&crate::support::seaweed::Seaweed::shared().endpoint(), Mood::Slow(Duration::from_secs(3)));
    site.replica = site.replica.at(&gate.endpoint());
    survives(&site, "a store that is slow from the first snapshot on", || gate.set(Mood::Open));
}

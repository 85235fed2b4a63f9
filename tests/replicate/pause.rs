//! What an app that never pauses costs us, and what we cost it: the WAL grows past the size from which
//! writers are kept out for a moment. The moment is told in the log (debug), and is short whatever the WAL's
//! size.

use crate::support::site::Site;
use crate::support::{SOON, litestream, wait_until};
use rusqlite::{Connection, ErrorCode};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Generous: two syncs of a little on a slow, shared disk. What it must not hold is the sync of the whole
/// WAL, which grows with `THRESHOLD`; and nobody may wait here for anything but the disk.
const LONGEST: Duration = Duration::from_secs(2);

/// Microseconds of each moment in the log.
fn moments(log: &str) -> Vec<u64> {
    let lines = log.lines().filter(|line| line.contains("writers were kept out"));
    let fields = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    fields.map(|fields| fields["micros"].to_string().trim_matches('"').parse().unwrap()).collect()
}

/// An app without a `busy_timeout`: it tries again at once. Returns its commits.
fn write_without_a_pause(db: &Path, ended: &AtomicBool) -> i64 {
    let app = Connection::open(db).unwrap();
    app.busy_timeout(Duration::ZERO).unwrap();
    let mut insert = app.prepare("INSERT INTO t VALUES (randomblob(2000))").unwrap();
    let mut written = 0;
    while !ended.load(Ordering::Relaxed) {
        match insert.execute([]) {
            Ok(_) => written += 1,
            Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::DatabaseBusy => {}
            Err(error) => panic!("{error}"),
        }
    }
    written
}

#[test]
fn an_app_that_never_pauses_is_kept_out_rarely_and_for_a_moment() {
    let site = Site::in_directory()
        .with_settings("[log]\nlevel = \"debug\"")
        .with_database_settings("[database.checkpoint]\nbytes = \"256KiB\"");
    let mut run = site.run(&["sleep", "1000"]);
    run.wait_for_app();
    let app = Connection::open(site.db()).unwrap();
    app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    let wal = site.disk().join("bank.db-wal");
    // Its salts, in bytes 16 to 24 of its header, are others when it was started over, although nobody
    // paused.
    let salts = || std::fs::read(&wal).unwrap()[16..24].to_vec();
    let (first, begun, mut largest) = (salts(), Instant::now(), 0_u64);
    let ended = AtomicBool::new(false);
    let written = std::thread::scope(|threads| {
        let writer = threads.spawn(|| write_without_a_pause(&site.db(), &ended));
        while begun.elapsed() < 3 * SOON && (moments(&run.log_text()).is_empty() || salts() == first) {
            std::thread::sleep(Duration::from_millis(20));
            largest = largest.max(std::fs::metadata(&wal).unwrap().len());
        }
        ended.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert_ne!(salts(), first, "the WAL has {largest} bytes:\n{}", run.log_text());
    let took = begun.elapsed();
    let moments = moments(&run.log_text());
    assert!(largest >= 16 * 256 * 1024, "it came before its time: {largest} bytes");
    assert!(moments.len() as u64 <= 8 * (took.as_secs() + 1), "they are tried all the time: {moments:?}");
    let longest = moments.iter().max().copied().unwrap_or(0);
    assert!(Duration::from_micros(longest) < LONGEST, "{moments:?}");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let out = site.path("restored.db");
    litestream::restore(&site.replica, &out).unwrap();
    let rows: i64 =
        Connection::open(&out).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, written);
}

//! The app checkpoints by itself, in the modes that wait for readers and lock writers out meanwhile. Our hold
//! is such a reader: it must get out of the way by itself at once, without losing a frame.

use crate::support::site::Site;
use crate::support::{SOON, litestream, wait_until};
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_checkpoint_of_the_app_in_a_waiting_mode_goes_through() {
    let site = Site::in_directory();
    let mut run = site.run(&["sleep", "1000"]);
    run.wait_for_app();
    let app = Connection::open(site.db()).unwrap();
    // Far longer than our hold may take; an app would see "busy" at its own, shorter, limit.
    app.busy_timeout(Duration::from_secs(60)).unwrap();
    app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    let mut written = 0;
    for mode in ["TRUNCATE", "RESTART", "FULL", "TRUNCATE"] {
        for _ in 0..50 {
            app.execute("INSERT INTO t VALUES (randomblob(2000))", []).unwrap();
            written += 1;
        }
        let begun = Instant::now();
        let busy: i64 =
            app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0)).unwrap();
        let took = begun.elapsed();
        assert_eq!(busy, 0, "{mode}");
        assert!(took < Duration::from_secs(15), "{mode} waited {took:?}:\n{}", run.log_text());
    }
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert_eq!(restored_rows(&site), written);
}

/// Frames that checkpoints have copied, of all processes (SQLite, "WAL-Mode File Format", section 2.2).
fn copied(db: &Path) -> u32 {
    let index = std::fs::read(format!("{}-shm", db.display())).unwrap_or_default();
    index.get(96..100).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().unwrap()))
}

/// A hold that was taken on an empty WAL lets checkpoints copy nothing, and each of them sorts all that has
/// come since. A busy app tries one after each commit.
#[test]
fn automatic_checkpoints_of_a_busy_app_copy_before_anything_is_uploaded() {
    let site = Site::in_directory().with_replica_settings("sync_interval = \"1h\"");
    std::fs::create_dir_all(site.db().parent().unwrap()).unwrap();
    let open = || {
        let app = Connection::open(site.db()).unwrap();
        app.execute_batch("PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=1").unwrap();
        app
    };
    open().execute_batch("CREATE TABLE t(x)").unwrap();
    let mut run = site.run(&["sleep", "1000"]);
    wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    let uploaded = site.replica.newest_txid();
    let app = open();
    let mut written = 0;
    wait_until("a checkpoint of the app that copies", SOON, || {
        app.execute("INSERT INTO t VALUES (randomblob(9000))", []).unwrap();
        written += 1;
        copied(&site.db()) > 0
    });
    assert_eq!(site.replica.newest_txid(), uploaded, "not by an upload");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert_eq!(restored_rows(&site), written);
}

fn restored_rows(site: &Site) -> i64 {
    let out = site.path("restored.db");
    litestream::restore(&site.replica, &out).unwrap();
    Connection::open(&out).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

/// A connection that looks for a lock every millisecond, so that only the other side's time counts.
fn patient(db: &Path) -> Connection {
    let mut app = Connection::open(db).unwrap();
    app.busy_handler(Some(|looks| {
        std::thread::sleep(Duration::from_millis(1));
        looks < 60_000
    }))
    .unwrap();
    app
}

/// Commits until it is told to stop.
fn writer(db: &Path, stop: &AtomicBool, written: &AtomicU64) {
    let app = patient(db);
    while !stop.load(Ordering::SeqCst) {
        app.execute("INSERT INTO t VALUES (randomblob(2000))", []).unwrap();
        written.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The quickest of a few tries must be quick: a slow disk makes a checkpoint slow, and a busy machine any.
fn steps_aside(interval: &str) {
    let site = Site::in_directory().with_replica_settings(&format!("sync_interval = \"{interval}\""));
    let mut run = site.run(&["sleep", "1000"]);
    run.wait_for_app();
    let app = patient(&site.db());
    app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2).map(|_| scope.spawn(|| writer(&site.db(), &stop, &written))).collect();
        for mode in ["RESTART", "TRUNCATE"] {
            let mut took = Vec::new();
            for _ in 0..5 {
                let before = written.load(Ordering::SeqCst);
                wait_until("commits", SOON, || written.load(Ordering::SeqCst) > before + 40);
                let begun = Instant::now();
                let sql = format!("PRAGMA wal_checkpoint({mode})");
                let busy: i64 = app.query_row(&sql, [], |row| row.get(0)).unwrap();
                took.push(begun.elapsed());
                assert_eq!(busy, 0, "{mode}");
            }
            took.sort();
            println!("{mode} at {interval}: {took:?}");
            assert!(
                took[0] < Duration::from_millis(50),
                "{mode} at {interval}: {took:?}\n{}",
                run.log_text()
            );
            assert!(took[4] < Duration::from_secs(1), "{mode} at {interval}: {took:?}\n{}", run.log_text());
        }
        stop.store(true, Ordering::SeqCst);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    drop(app);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert!(!run.log_text().contains("the database was compared"), "{}", run.log_text());
    assert_eq!(restored_rows(&site), written.load(Ordering::SeqCst) as i64);
}

#[test]
fn the_hold_steps_aside_at_once() {
    steps_aside("1s");
}

#[test]
fn the_hold_steps_aside_at_once_whatever_the_interval_is() {
    steps_aside("10s");
}

/// Each empties the WAL and counts its salts up; what follows is still known to continue what was captured.
#[test]
fn two_truncating_checkpoints_in_a_row_are_no_break() {
    let site = Site::in_directory();
    let mut run = site.run(&["sleep", "1000"]);
    run.wait_for_app();
    let app = patient(&site.db());
    app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    for _ in 0..5 {
        app.execute("INSERT INTO t VALUES (randomblob(2000))", []).unwrap();
        app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
    app.execute("INSERT INTO t VALUES (1)", []).unwrap();
    drop(app);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert!(!run.log_text().contains("was compared"), "{}", run.log_text());
    assert_eq!(restored_rows(&site), 6);
}

/// At the beginning litevisor reads the whole database under its hold, which takes as long as the disk needs.
/// A checkpoint does not wait for that.
#[test]
fn the_hold_steps_aside_while_the_whole_database_is_read() {
    let site = Site::in_directory();
    let app = patient(&site.db());
    app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    app.execute_batch(
        "INSERT INTO t SELECT zeroblob(2000000) FROM json_each('[' || replace(hex(zeroblob(49)), '00', '1,') || '1]')",
    )
    .unwrap();
    app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let run = site.run(&["sleep", "1000"]);
    run.wait_for_app();
    let (begun, mut took) = (Instant::now(), Vec::new());
    loop {
        assert!(begun.elapsed() < crate::support::SOON, "{}", run.log_text());
        app.execute("INSERT INTO t VALUES (1)", []).unwrap();
        let tried = Instant::now();
        let busy: i64 = app.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0)).unwrap();
        assert_eq!(busy, 0);
        // The first snapshot, which follows, is copied to the disk before a checkpoint goes through.
        if run.log_text().contains("\"replicating\"") {
            break;
        }
        took.push(tried.elapsed());
    }
    println!("{} checkpoints in {:?}, the longest took {:?}", took.len(), begun.elapsed(), took.iter().max());
    assert!(took.len() >= 10, "{took:?} in {:?}: {}", begun.elapsed(), run.log_text());
}

//! What an app, an administrator and a disk do to a database while it is replicated. In each case the app
//! goes on or is told, and a restore gives what the table in docs/databases.md says; Litestream is the judge.

mod disk;
mod exclusive;
mod first_start;
mod replaced;
mod tenants;

use crate::support::litevisor::Litevisor;
use crate::support::site::Site;
use crate::support::{SOON, litestream, wait_until};
use rusqlite::{Connection, ErrorCode};
use std::path::{Path, PathBuf};

fn open(db: &Path) -> Connection {
    let app = Connection::open(db).unwrap();
    app.busy_timeout(SOON).unwrap();
    app
}

/// A database of `rows` rows in the given mode, closed.
fn make(db: &Path, mode: &str, page_size: u32, rows: u32) {
    let app = open(db);
    let setup = format!("PRAGMA page_size={page_size}; PRAGMA journal_mode={mode}; CREATE TABLE t(x)");
    app.execute_batch(&setup).unwrap();
    insert(&app, rows);
}

fn insert(app: &Connection, rows: u32) {
    for _ in 0..rows {
        app.execute("INSERT INTO t VALUES (randomblob(2000))", []).unwrap();
    }
}

fn content(db: &Path) -> Vec<Vec<u8>> {
    let db = open(db);
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let mut rows = db.prepare("SELECT CAST(x AS BLOB) FROM t ORDER BY rowid").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn sides(db: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|side| PathBuf::from(format!("{}{side}", db.display())))
}

/// Both tools restore what the disk holds.
fn agrees(site: &Site, when: &str) {
    let wanted = content(&site.db());
    let out = site.path("theirs.db");
    litestream::restore(&site.replica, &out).unwrap();
    assert!(content(&out) == wanted, "{when}: Litestream restores something else");
    let out = site.path("ours.db");
    let _ = std::fs::remove_file(&out);
    let restore = crate::support::litevisor::restore_url(&site.replica.url(), &out);
    assert!(restore.status.success(), "{when}: {}", String::from_utf8_lossy(&restore.stderr));
    assert!(content(&out) == wanted, "{when}: we restore something else");
}

fn stopped(mut run: Litevisor, site: &Site, when: &str) -> String {
    assert_eq!(run.stop().code, 143, "{when}: {}", run.log_text());
    agrees(site, when);
    run.log_text()
}

fn running(site: &Site) -> Litevisor {
    let run = site.run(&["sleep", "1000"]);
    run.wait_for_app();
    run
}

fn replicating(site: &Site) -> Litevisor {
    let run = running(site);
    wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    run
}

/// Copies everything into the database file, so that a file that is moved or replaced now misses nothing.
fn settle(site: &Site) {
    let app = open(&site.db());
    wait_until("the WAL to be copied", SOON, || {
        let passive = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (frames, copied) = app.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], passive).unwrap();
        frames == copied
    });
}

#[test]
fn it_appears_after_the_start_in_a_mode_that_is_not_wal() {
    let site = Site::in_directory();
    let run = running(&site);
    make(&site.db(), "delete", 4096, 5);
    wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    insert(&open(&site.db()), 5);
    let log = stopped(run, &site, "made in delete mode");
    assert!(log.contains("switched the database to WAL mode"), "{log}");
}

#[test]
fn another_file_is_renamed_over_it() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 3);
    let run = replicating(&site);
    settle(&site);
    let new = site.disk().join("new.db");
    for (mode, page_size, rows) in [("delete", 4096, 7), ("wal", 8192, 9)] {
        make(&new, mode, page_size, rows);
        let before = site.replica.newest_txid();
        for side in &sides(&site.db())[1..] {
            let _ = std::fs::remove_file(side);
        }
        std::fs::rename(&new, site.db()).unwrap();
        wait_until("the other file to be uploaded", SOON, || site.replica.newest_txid() > before);
        insert(&open(&site.db()), 2);
    }
    let log = stopped(run, &site, "renamed over");
    assert!(log.contains("the database file was replaced or removed"), "{log}");
    stopped(running(&site), &site, "the next run");
}

/// SQLite applies the old `-wal` to the new file; we can only say so, loudly, and touch neither.
#[test]
fn another_file_is_renamed_over_it_and_the_wal_is_left() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 3);
    let mut run = replicating(&site);
    insert(&open(&site.db()), 2);
    let new = site.disk().join("new.db");
    make(&new, "delete", 4096, 7);
    let left = std::fs::read(&sides(&site.db())[1]).unwrap();
    std::fs::rename(&new, site.db()).unwrap();
    run.wait_for_complaint("but its -wal was left there", SOON);
    assert!(std::fs::read(&sides(&site.db())[1]).unwrap() == left);
    run.stop();
}

#[test]
fn the_app_throws_its_directory_away_and_begins_anew() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 3);
    let run = replicating(&site);
    site.wipe();
    make(&site.db(), "wal", 4096, 8);
    stopped(run, &site, "made again");
}

#[test]
fn it_is_deleted_and_the_next_start_restores_it() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 3);
    let before = content(&site.db());
    let mut run = replicating(&site);
    for file in sides(&site.db()) {
        let _ = std::fs::remove_file(file);
    }
    run.wait_for_complaint("was replaced or removed", SOON);
    assert_eq!(run.stop().code, 143, "nothing is left to flush: {}", run.log_text());
    let run = running(&site);
    assert!(content(&site.db()) == before);
    stopped(run, &site, "restored");
}

#[test]
fn it_is_renamed_away_and_back() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 3);
    let run = replicating(&site);
    let away = site.disk().join("away.db");
    for (from, to) in sides(&site.db()).iter().zip(sides(&away)) {
        std::fs::rename(from, to).unwrap();
    }
    insert(&open(&away), 1);
    run.wait_for_complaint("was replaced or removed", SOON);
    for (from, to) in sides(&away).iter().zip(sides(&site.db())) {
        if from.exists() {
            std::fs::rename(from, to).unwrap();
        }
    }
    insert(&open(&site.db()), 1);
    stopped(run, &site, "back again");
}

#[test]
fn it_shrinks_and_grows_again() {
    let site = Site::in_directory();
    let app = open(&site.db());
    app.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    let run = running(&site);
    insert(&app, 300);
    wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    app.execute_batch("DELETE FROM t WHERE rowid % 3; PRAGMA incremental_vacuum(50)").unwrap();
    let before = site.replica.newest_txid();
    wait_until("an upload of it", SOON, || site.replica.newest_txid() > before);
    app.execute_batch("VACUUM").unwrap();
    insert(&app, 100);
    app.execute_batch("DELETE FROM t; VACUUM").unwrap();
    insert(&app, 10);
    stopped(run, &site, "after VACUUM");
}

#[test]
fn every_page_size() {
    for page_size in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] {
        let site = Site::in_directory();
        make(&site.db(), "wal", page_size, 3);
        let run = replicating(&site);
        insert(&open(&site.db()), 40);
        stopped(run, &site, &format!("pages of {page_size}"));
    }
}

/// The page size cannot be changed in WAL mode, and WAL mode cannot be left under our hold; nor can anybody
/// have the database for himself. The app is told, and goes on.
#[test]
fn what_an_app_cannot_have_while_it_is_replicated() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 3);
    let run = replicating(&site);
    let app = Connection::open(site.db()).unwrap();
    let locked = |sql: &str| match app.query_row(sql, [], |row| row.get::<_, String>(0)) {
        Err(rusqlite::Error::SqliteFailure(error, _)) => error.code == ErrorCode::DatabaseBusy,
        _ => false,
    };
    app.busy_timeout(std::time::Duration::ZERO).unwrap();
    assert!(locked("PRAGMA journal_mode=delete"));
    app.execute_batch("PRAGMA page_size=8192; VACUUM").unwrap();
    insert(&app, 3);
    let alone = Connection::open(site.db()).unwrap();
    alone.busy_timeout(std::time::Duration::ZERO).unwrap();
    let refused = alone.execute_batch("PRAGMA locking_mode=EXCLUSIVE; INSERT INTO t VALUES (1)");
    assert!(refused.is_err());
    drop(alone);
    insert(&app, 3);
    drop(app);
    stopped(run, &site, "refused");
    // Between two runs it can.
    let app = open(&site.db());
    app.execute_batch("PRAGMA journal_mode=delete; PRAGMA page_size=8192; VACUUM").unwrap();
    drop(app);
    let run = running(&site);
    insert(&open(&site.db()), 3);
    let log = stopped(run, &site, "another page size");
    assert!(log.contains("the page size changed"), "{log}");
}

/// The first file of another page size holds the whole database, and its snapshot follows. A crash in between
/// leaves the replica without it: we restore it, Litestream does once the next run has uploaded it.
#[test]
fn a_new_page_size_whose_snapshot_is_missing() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 3);
    stopped(replicating(&site), &site, "pages of 4096");
    open(&site.db()).execute_batch("PRAGMA journal_mode=delete; PRAGMA page_size=8192; VACUUM").unwrap();
    let run = running(&site);
    insert(&open(&site.db()), 3);
    stopped(run, &site, "pages of 8192");
    let newest_snapshot = || {
        let objects = site.replica.objects().into_keys();
        let snapshots = objects.filter_map(|key| Some((crate::support::replica::parse(&key)?, key)));
        snapshots.filter(|((level, ..), _)| *level == 9).max().unwrap()
    };
    let ((_, _, with), key) = newest_snapshot();
    site.replica.remove(&key);
    let wanted = content(&site.db());
    site.wipe();
    let run = running(&site);
    assert!(content(&site.db()) == wanted, "{}", run.log_text());
    wait_until("the snapshot", SOON, || newest_snapshot().0.2 >= with);
    assert!(run.log_text().contains("another page size"), "{}", run.log_text());
    stopped(run, &site, "with a new snapshot");
}

/// Its end is when it can be read; if it does not end in time, that is no success.
#[test]
fn an_app_that_has_it_for_itself_is_replicated_at_its_end() {
    for ends in [true, false] {
        let site = Site::in_directory().with_settings("[shutdown]\ngrace = \"4s\"");
        let mut run = running(&site);
        let app = Connection::open(site.db()).unwrap();
        app.execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=wal; CREATE TABLE t(x)")
            .unwrap();
        insert(&app, 20);
        run.wait_for_complaint("the app locks the whole database", SOON);
        let kept = (!ends).then_some(app);
        assert_eq!(run.stop().code, if ends { 143 } else { 74 }, "{}", run.log_text());
        if ends {
            agrees(&site, "after its end");
        }
        drop(kept);
    }
}

#[test]
fn settings_of_the_app_that_are_not_ours() {
    for pragmas in [
        "PRAGMA mmap_size=268435456",
        "PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0",
        "PRAGMA wal_autocheckpoint=1",
        "PRAGMA cache_size=2; PRAGMA temp_store=MEMORY",
    ] {
        let site = Site::in_directory();
        make(&site.db(), "wal", 4096, 3);
        let run = replicating(&site);
        let app = Connection::open(site.db()).unwrap();
        // Not one of its writes may find our locks in the way: it would not wait for them.
        app.busy_timeout(std::time::Duration::ZERO).unwrap();
        app.execute_batch(pragmas).unwrap();
        insert(&app, 500);
        drop(app);
        stopped(run, &site, pragmas);
    }
}

#[test]
fn its_wal_is_removed_under_it() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 3);
    let mut run = replicating(&site);
    let app = open(&site.db());
    insert(&app, 2);
    std::fs::remove_file(&sides(&site.db())[1]).unwrap();
    run.wait_for_complaint("its -wal file was removed", SOON);
    insert(&app, 2);
    let wanted: i64 = app.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let out = site.path("theirs.db");
    litestream::restore(&site.replica, &out).unwrap();
    assert_eq!(content(&out).len() as i64, wanted);
}

/// Whoever has the `-shm` mapped and uses it is killed by the kernel. We must not be among them.
#[test]
fn its_shm_is_truncated_under_it() {
    let site = Site::in_directory().with_settings("[log]\nlevel = \"debug\"");
    make(&site.db(), "wal", 4096, 3);
    let mut run = replicating(&site);
    let shm = std::fs::File::options().write(true).open(&sides(&site.db())[2]).unwrap();
    let settled = |log: &str| log.matches("\"settled\":true").count();
    for _ in 0..2 {
        let before = settled(&run.log_text());
        // Opening the database makes a `-shm` whole again that is truncated.
        insert(&open(&site.db()), 2);
        wait_until("a checkpoint of it", SOON, || settled(&run.log_text()) > before);
        shm.set_len(0).unwrap();
    }
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    agrees(&site, "truncated at the stop");
}

//! `lag_bytes` and `wal_bytes` are true when they are asked for, compared with what the test itself has
//! written.

use crate::support::asking::{Asked, status};
use crate::support::gate::Mood;
use crate::support::wait_until;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes of one row, which fill pages of 4 KiB to more than a half.
const ROW: u64 = 3000;

fn write(db: &rusqlite::Connection, rows: u64) {
    for _ in 0..rows {
        db.execute("INSERT INTO t VALUES (randomblob(?1))", [ROW as i64]).unwrap();
    }
}

fn bytes(asked: &Asked, name: &str) -> u64 {
    let value = status(&asked.site.config());
    value["databases"][0][name].as_u64().unwrap_or_else(|| panic!("{name}: {value:#}"))
}

#[test]
fn the_bytes_that_are_missing_are_told_at_the_time() {
    let mut asked = Asked::new("ops-bytes", "");
    asked.site.replica_settings = "sync_interval = \"10m\"\n".to_owned();
    let mut run = asked.site.run(&["sleep", "600"]);
    asked.wait_until_ready();
    let db = rusqlite::Connection::open(asked.site.db()).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    wait_until("the first snapshot", crate::support::SOON, || asked.ask(&["sync"]).code == 0);
    let wal = || std::fs::metadata(asked.site.db().with_file_name("bank.db-wal")).unwrap().len();
    // Each commit writes its row's page, and some others.
    let between = |lag: u64, rows: u64| (rows * ROW..=rows * 6 * 4120 + 200_000).contains(&lag);
    for (mood, rows) in [(Mood::Open, 100), (Mood::Refusing, 300)] {
        asked.gate.set(mood);
        write(&db, rows);
        let (lag, told, there) = (bytes(&asked, "lag_bytes"), bytes(&asked, "wal_bytes"), wal());
        assert!(between(lag, rows), "{mood:?}: {lag} bytes behind after {rows} rows");
        assert_eq!(told, there, "{mood:?}");
        asked.gate.set(Mood::Open);
        assert_eq!(asked.ask(&["sync"]).code, 0, "{}", run.log_text());
        assert_eq!(bytes(&asked, "lag_bytes"), 0, "{mood:?}");
    }
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let db = rusqlite::Connection::open(asked.site.db()).unwrap();
            db.busy_timeout(crate::support::SOON).unwrap();
            db.execute_batch("PRAGMA synchronous = OFF").unwrap();
            while !stop.load(Ordering::SeqCst) {
                write(&db, 10);
                written.fetch_add(10, Ordering::SeqCst);
            }
        });
        for _ in 0..3 {
            let before = written.load(Ordering::SeqCst);
            wait_until("the storm", crate::support::SOON, || written.load(Ordering::SeqCst) > before + 500);
            let (least, shown) = (written.load(Ordering::SeqCst), bytes(&asked, "wal_bytes"));
            let lag = bytes(&asked, "lag_bytes");
            let most = (written.load(Ordering::SeqCst) + 10) * 6 * 4120 + 200_000;
            assert!((least * ROW..=most).contains(&lag), "{lag} bytes behind after {least} rows");
            assert!(shown <= wal() && shown >= least * ROW / 2, "{shown}, {}", wal());
        }
        stop.store(true, Ordering::SeqCst);
        storm.join().unwrap();
    });
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

//! The app checkpoints by itself, in the modes that wait for readers and lock writers out meanwhile. Our hold is such a
//! reader: it must get out of the way by itself, without losing a frame.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use rusqlite::Connection;
use std::time::{Duration, Instant};
use support::site::Site;
use support::{litestream, wait_until};

#[test]
fn a_checkpoint_of_the_app_in_a_waiting_mode_goes_through() {
    let site = Site::in_directory();
    let mut run = site.run(&["sleep", "1000"]);
    run.wait_for_app();
    let app = Connection::open(site.db()).unwrap();
    // Far longer than our hold may take; an app would see "busy" at its own, shorter, limit.
    app.busy_timeout(Duration::from_secs(60)).unwrap();
    app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    wait_until("the first snapshot", support::SOON, || site.replica.newest_txid() > 0);
    let mut written = 0;
    for mode in ["TRUNCATE", "RESTART", "FULL", "TRUNCATE"] {
        for _ in 0..50 {
            app.execute("INSERT INTO t VALUES (randomblob(2000))", []).unwrap();
            written += 1;
        }
        let begun = Instant::now();
        let busy: i64 = app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0)).unwrap();
        let took = begun.elapsed();
        assert_eq!(busy, 0, "{mode}");
        assert!(took < Duration::from_secs(15), "{mode} waited {took:?}:\n{}", run.log_text());
    }
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let out = site.path("restored.db");
    litestream::restore(&site.replica, &out).unwrap();
    let rows: i64 = Connection::open(&out).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, written);
}

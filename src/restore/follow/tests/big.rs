//! A large database with small steps: a step costs what it brings, not what the database has.

use super::site::{Site, WAYS, poll};
use super::*;

/// `LITEVISOR_FOLLOW_MIB=256` measures a larger one; with 1100 it shrinks and grows across the page that
/// SQLite locks.
#[tokio::test]
async fn a_step_costs_what_it_brings() {
    let mib = std::env::var("LITEVISOR_FOLLOW_MIB").map_or(16, |mib| mib.parse().unwrap());
    let mut site = Site::new("PRAGMA page_size=4096; PRAGMA auto_vacuum=FULL");
    site.run(&format!(
        "CREATE TABLE big(id INTEGER PRIMARY KEY, x BLOB);
         WITH RECURSIVE r(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM r WHERE i < {mib})
         INSERT INTO big SELECT i, randomblob(1048576) FROM r; PRAGMA wal_checkpoint(TRUNCATE)"
    ));
    site.replicate();
    site.flush().await;
    for way in WAYS {
        let copy = site.copy(&format!("{way:?}.db")).await;
        let begun = Instant::now();
        let mut follower = site.follow(&copy, way).await;
        let open = begun.elapsed();
        poll(&mut follower).await;
        let mut times = Vec::new();
        for _ in 0..20 {
            site.commit("INSERT INTO t(x) VALUES (1)").await;
            let begun = Instant::now();
            assert_eq!(poll(&mut follower).await.files, 1);
            times.push(begun.elapsed());
        }
        times.sort();
        eprintln!(
            "{mib} MiB, {way:?}: opened in {open:?}, a step of one row: median {:?}, most {:?}",
            times[10], times[19]
        );
        assert!(times[10] < Duration::from_millis(500), "{:?}", times[10]);
        let file = follower.copy.lock().unwrap().stand.pages;
        assert!(u64::from(file) * 4096 > mib << 20);
        if mib <= 64 {
            continue;
        }
        // At 1 GiB it passes the page that SQLite locks, and that no file has.
        for sql in
            ["DELETE FROM big WHERE id % 4 = 0", "INSERT INTO big SELECT id + 3, x FROM big WHERE id % 4 = 1"]
        {
            let txid = site.commit(sql).await;
            let begun = Instant::now();
            let Followed { bytes, position, .. } = poll(&mut follower).await;
            eprintln!("{way:?}: {} MiB in {:?}: {sql}", bytes >> 20, begun.elapsed());
            assert_eq!(position, txid);
            site.assert_same(&copy, way, txid).await;
        }
    }
    site.stop().await;
}

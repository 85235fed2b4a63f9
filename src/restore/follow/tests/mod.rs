//! Copies that follow a replica which the real `replicate` writes, compared with restores of the same
//! positions.

mod big;
mod crash;
mod exchange;
mod gone;
mod readers;
mod site;
mod together;

use super::*;
use crate::lineage::{Origin, state_file};
use crate::restore::Outcome;
use site::{Site, WAYS, poll, soon};

/// Small, and the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// What an app does that changes pages, grows or shrinks the database.
fn act(random: &mut Random) -> String {
    let bytes = random.below(9000) + 1;
    let part = random.below(3);
    match random.below(12) {
        0 | 1 => format!("INSERT INTO t(x) VALUES (randomblob({bytes}))"),
        2 => format!("INSERT INTO t(x) VALUES (randomblob({}))", bytes * 20),
        3 => format!("UPDATE t SET x = randomblob({bytes}) WHERE id % 3 = {part}"),
        4 => format!("DELETE FROM t WHERE id % 3 = {part}"),
        5 => "DELETE FROM t WHERE id > 2".into(),
        6 => "VACUUM".into(),
        7 => "PRAGMA incremental_vacuum(5)".into(),
        8 => format!(
            "CREATE TABLE IF NOT EXISTS u{part}(k INTEGER PRIMARY KEY, n); INSERT OR IGNORE INTO u{part} \
             VALUES (1, 2)"
        ),
        9 => format!("DROP TABLE IF EXISTS u{part}"),
        10 => "CREATE INDEX IF NOT EXISTS i ON t(x)".into(),
        _ => "DROP INDEX IF EXISTS i; PRAGMA wal_checkpoint(TRUNCATE)".into(),
    }
}

// Another thread moves the hold while the app checkpoints on this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_have_every_position_of_the_replica() {
    for (seed, pragmas) in [
        (1, "PRAGMA page_size=512"),
        (2, "PRAGMA page_size=1024; PRAGMA auto_vacuum=FULL"),
        (3, "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL"),
    ] {
        let mut random = Random(seed);
        let mut site = Site::new(pragmas);
        site.replicate();
        let mut at = site.flush().await;
        let copies = [site.copy("in-place.db").await, site.copy("through.db").await];
        let mut followers = Vec::new();
        for (way, copy) in WAYS.into_iter().zip(&copies) {
            followers.push(site.follow(copy, way).await);
        }
        let mut positions = 0;
        for step in 0..40 {
            let sql = act(&mut random);
            let txid = site.commit(&sql).await;
            let expected = site.restored(txid).await;
            for ((way, copy), follower) in WAYS.into_iter().zip(&copies).zip(&mut followers) {
                let followed = poll(follower).await;
                assert_eq!((followed.position, followed.behind()), (txid, 0), "{way:?} {seed}.{step}: {sql}");
                assert_eq!(followed.files as u64, txid.0 - at.0);
                site.assert_image(copy, way, expected.clone());
            }
            positions += txid.0 - at.0;
            at = txid;
        }
        assert!(positions > 20, "{positions}");
        site.stop().await;
    }
}

/// A copy that was brought further is continued by `replicate` like a restored one: without a snapshot of the
/// whole.
#[tokio::test]
async fn a_copy_is_continued_as_the_database() {
    for way in WAYS {
        let mut site = Site::new("PRAGMA page_size=4096");
        site.replicate();
        site.flush().await;
        let copy = site.copy("copy.db").await;
        let mut follower = site.follow(&copy, way).await;
        site.run(
            "INSERT INTO t(x) SELECT randomblob(3000) FROM t, (VALUES (1), (2), (3), (4), (5), (6), \
            (7), (8))",
        );
        let txid = site.commit("DELETE FROM t WHERE id = 1").await;
        site.stop().await;
        assert_eq!(follower.poll(Some(txid), soon()).await.unwrap().position, txid);
        drop(follower);
        if way == Way::ThroughSqlite {
            // Nobody reads it any more: it becomes the replica's state, byte by byte.
            site::killed(&copy);
            drop(site.follow(&copy, Way::InPlace).await);
        }
        site.assert_same(&copy, Way::InPlace, txid).await;
        assert_eq!(state_file::load(&copy).unwrap().unwrap().origin, Origin::Restored);
        site::killed(&copy);

        assert!(matches!(site.start(&copy).await.unwrap(), Outcome::KeptLocal { .. }), "{way:?}");
        let app = rusqlite::Connection::open(copy.as_path()).unwrap();
        app.execute_batch("PRAGMA synchronous=OFF; INSERT INTO t(x) VALUES (1)").unwrap();
        let handle = site::replicate(&copy, &site.store, &site.settings);
        let status = handle.flush(true).await.unwrap();
        assert_eq!((status.fenced, status.uploaded.0), (None, txid.next()), "{way:?}");
        let raw = std::fs::metadata(site.raw(txid.next())).unwrap().len();
        assert!(raw < 12_000, "{raw} bytes: only what was inserted");
        let snapshots = std::fs::read_dir(site.replica().join("ltx/9")).unwrap().count();
        assert_eq!(snapshots, 1);
    }
}

#[tokio::test]
async fn a_position_may_be_asked_for() {
    for way in WAYS {
        let mut site = Site::new("PRAGMA page_size=1024");
        site.replicate();
        let first = site.flush().await;
        let copy = site.copy("copy.db").await;
        let mut follower = site.follow(&copy, way).await;
        let half = site.commit("INSERT INTO t(x) VALUES (randomblob(5000))").await;
        let last = site.commit("DELETE FROM t").await;
        assert!(first < half && half < last);
        let followed = follower.poll(Some(half), soon()).await.unwrap();
        assert_eq!((followed.position, followed.newest, followed.behind()), (half, last, last.0 - half.0));
        site.assert_same(&copy, way, half).await;
        let again = follower.poll(Some(half), soon()).await.unwrap();
        assert_eq!((again.files, again.position), (0, half));
        // The replica does not reach it yet.
        let followed = follower.poll(Some(Txid(last.0 + 5)), soon()).await.unwrap();
        assert_eq!(followed.position, last);
        assert!(followed.time.is_some());
        site.assert_same(&copy, way, last).await;
        assert_eq!(followed.checksum, state_file::load(&copy).unwrap().unwrap().db_checksum.unwrap());
        site.stop().await;
    }
}

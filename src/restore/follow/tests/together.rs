//! Several files that are applied in one step.

use super::site::{Site, WAYS, poll, soon};
use super::*;
use crate::restore::follow::fault;

/// More than any step has.
const POINTS: u32 = 1 << 20;

/// The database grows, shrinks and is rebuilt between two polls.
// Another thread moves the hold while the app checkpoints on this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_files_become_one_step() {
    for (seed, pragmas) in [
        (4, "PRAGMA page_size=512; PRAGMA auto_vacuum=FULL"),
        (5, "PRAGMA page_size=1024; PRAGMA auto_vacuum=INCREMENTAL"),
        (6, "PRAGMA page_size=4096"),
    ] {
        let mut random = Random(seed);
        let mut site = Site::new(pragmas);
        site.replicate();
        site.flush().await;
        let copies = [site.copy("in-place.db").await, site.copy("through.db").await];
        let mut followers = Vec::new();
        for (way, copy) in WAYS.into_iter().zip(&copies) {
            followers.push(site.follow(copy, way).await);
        }
        let mut most = 0;
        for round in 0..8 {
            let mut done = Vec::new();
            let mut end = Txid::NONE;
            for _ in 0..=random.below(8) {
                let sql = act(&mut random);
                end = site.commit(&sql).await;
                done.push(sql);
            }
            let expected = site.restored(end).await;
            for ((way, copy), follower) in WAYS.into_iter().zip(&copies).zip(&mut followers) {
                let followed = poll(follower).await;
                assert_eq!(followed.position, end, "{way:?} {seed}.{round}: {done:?}");
                most = most.max(followed.files);
                site.assert_image(copy, way, expected.clone());
            }
        }
        assert!(most > 3, "{most}");
        site.stop().await;
    }
}

/// Many small files cost one record, one sync or one transaction; a step has at most 4 MiB.
#[tokio::test]
async fn many_files_cost_one_step() {
    let mut site = Site::new("PRAGMA page_size=4096");
    site.replicate();
    let start = site.flush().await;
    let (one_by_one, copies) =
        (site.copy("one-by-one.db").await, [site.copy("in-place.db").await, site.copy("through.db").await]);
    let mut end = start;
    while end.0 - start.0 < 339 {
        end = site.commit("INSERT INTO t(x) VALUES (randomblob(900))").await;
    }
    let mut follower = site.follow(&one_by_one, Way::InPlace).await;
    let begun = Instant::now();
    for at in start.0 + 1..=end.0 {
        follower.poll(Some(Txid(at)), soon()).await.unwrap();
    }
    eprintln!("{} files, a poll and a step for each: {:?}", end.0 - start.0, begun.elapsed());
    for (way, copy) in WAYS.into_iter().zip(&copies) {
        let mut follower = site.follow(copy, way).await;
        fault::arm(copy, POINTS);
        let begun = Instant::now();
        let followed = poll(&mut follower).await;
        eprintln!("{way:?}: {} files, {} bytes in {:?}", followed.files, followed.bytes, begun.elapsed());
        let passed = POINTS - fault::left(copy);
        fault::disarm(copy);
        assert_eq!((followed.position, followed.files as u64), (end, end.0 - start.0));
        if way == Way::ThroughSqlite {
            assert_eq!(passed, 3, "one step has three points");
        }
        site.assert_same(copy, way, end).await;
    }
    // Three files of 3 MiB: the second one fills a step.
    for _ in 0..3 {
        end = site.commit("INSERT INTO t(x) VALUES (randomblob(3000000))").await;
    }
    let mut follower = site.follow(&copies[1], Way::ThroughSqlite).await;
    fault::arm(&copies[1], POINTS);
    assert_eq!(poll(&mut follower).await.position, end);
    assert_eq!(POINTS - fault::left(&copies[1]), 6);
    fault::disarm(&copies[1]);
    site.assert_same(&copies[1], Way::ThroughSqlite, end).await;
    site.stop().await;
}

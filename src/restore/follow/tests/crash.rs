//! A follower that dies at each of its points, and one whose machine loses power between two pages.

use super::site::{Site, WAYS, killed, poll};
use super::*;
use crate::lineage::FollowMark;
use crate::restore::follow::fault;

const COMMITS: [&str; 4] = [
    "INSERT INTO t(x) VALUES (randomblob(9000))",
    "UPDATE t SET x = randomblob(700)",
    "DELETE FROM t WHERE id > 1; VACUUM",
    "CREATE TABLE u(x); INSERT INTO u VALUES (randomblob(4000))",
];

#[tokio::test]
async fn death_at_each_point() {
    for (way, together) in WAYS.into_iter().flat_map(|way| [(way, true), (way, false)]) {
        let mut site = Site::new("PRAGMA page_size=512; PRAGMA auto_vacuum=INCREMENTAL");
        site.replicate();
        let start = site.flush().await;
        let first = site.copy("first.db").await;
        let (image, record) =
            (std::fs::read(first.as_path()).unwrap(), state_file::load(&first).unwrap().unwrap());
        let mut end = start;
        for sql in COMMITS {
            end = site.commit(sql).await;
        }
        site.stop().await;
        let mut deaths = 0_u64;
        let mut torn = 0;
        for points in 1.. {
            let copy = DbPath::new(site.path(&format!("{points}.db")));
            std::fs::write(copy.as_path(), &image).unwrap();
            let record = crate::lineage::LocalState { file: None, ..record.clone() };
            state_file::store(&copy, &record).unwrap();
            let mut follower = site.follow(&copy, way).await;
            fault::arm(&copy, points);
            let mut ended = Ok(());
            for at in if together { end.0..=end.0 } else { start.0 + 1..=end.0 } {
                ended = ended.and(follower.poll(Some(Txid(at)), soon()).await.map(drop));
            }
            let died = fault::disarm(&copy);
            assert_eq!(ended.is_err(), died, "{ended:?}");
            drop(follower);
            killed(&copy);
            if died {
                deaths += 1;
                let found = state_file::load(&copy).unwrap().unwrap();
                torn += usize::from(found.torn().is_some());
                if found.torn().is_none() && way == Way::InPlace {
                    // What the record says of a file that is not torn is true.
                    site.assert_same(&copy, way, found.acked).await;
                }
            }
            let mut follower = site.follow(&copy, way).await;
            assert_eq!(poll(&mut follower).await.position, end, "{way:?} died at {points}");
            site.assert_same(&copy, way, end).await;
            drop(follower);
            killed(&copy);
            assert_eq!(state_file::load(&copy).unwrap().unwrap().torn(), None);
            if !died {
                break;
            }
        }
        // Three points of a step, and in place one of each page.
        let steps = if together { 1 } else { end.0 - start.0 };
        assert!(deaths >= 3 * steps && (deaths > 3 * steps) == (way == Way::InPlace), "{way:?}: {deaths}");
        assert!((torn > 10) == (way == Way::InPlace), "{way:?}: {torn} of {deaths}");
    }
}

/// After a power cut each page that was written may be there or not.
#[tokio::test]
async fn any_mixture_of_two_positions_is_made_whole() {
    let mut site = Site::new("PRAGMA page_size=512");
    site.replicate();
    site.commit("INSERT INTO t(x) SELECT randomblob(2000) FROM t, (VALUES (1), (2), (3), (4), (5), (6))")
        .await;
    let copy = site.copy("copy.db").await;
    let before = std::fs::read(copy.as_path()).unwrap();
    let record = state_file::load(&copy).unwrap().unwrap();
    let torn_to = site.commit("DELETE FROM t WHERE id > 3; INSERT INTO t(x) VALUES (randomblob(9000))").await;
    let after = site.restored(torn_to).await;
    let end = site.commit("UPDATE t SET x = randomblob(100)").await;
    site.stop().await;
    let mut random = Random(11);
    for round in 0..20 {
        let pages = before.len().max(after.len()) / 512;
        let mut mixed = Vec::new();
        for page in 0..pages {
            let range = page * 512..(page + 1) * 512;
            let (first, second) = (before.get(range.clone()), after.get(range));
            let which = if random.below(2) == 0 { first.or(second) } else { second.or(first) };
            mixed.extend_from_slice(which.unwrap());
        }
        mixed.truncate(mixed.len() - random.below(3) as usize * 512);
        std::fs::write(copy.as_path(), mixed).unwrap();
        let step = crate::lineage::FollowStep {
            txid: torn_to.0,
            in_place: true,
            commit_fields: None,
            db_checksum: 1 << 63,
            file_checksum: 1 << 63,
        };
        let origin = Origin::Following(FollowMark { step: Some(step), commit_fields: None });
        let record = crate::lineage::LocalState { origin, ..record.clone() };
        killed(&copy);
        state_file::remove(&copy).unwrap();
        state_file::store(&copy, &record).unwrap();
        // Not to be believed, nor to be read by others.
        assert!(site.try_follow(&copy, Way::ThroughSqlite).await.is_err());
        let mut follower = site.follow(&copy, Way::InPlace).await;
        let until = [None, Some(record.acked), Some(torn_to), Some(end)][round % 4];
        let at = follower.poll(until, soon()).await.unwrap().position;
        assert_eq!(at, if matches!(round % 4, 1 | 2) { torn_to } else { end }, "round {round}");
        site.assert_same(&copy, Way::InPlace, at).await;
        drop(follower);
        assert_eq!(state_file::load(&copy).unwrap().unwrap().origin, Origin::Restored);
    }
}

/// A start does not use a torn file: it restores, and refuses where there is nothing to restore.
#[tokio::test]
async fn a_torn_file_is_never_started_on() {
    let mut site = Site::new("PRAGMA page_size=512");
    site.replicate();
    site.flush().await;
    let copy = site.copy("copy.db").await;
    let end = site.commit(COMMITS[0]).await;
    site.stop().await;
    let mut follower = site.follow(&copy, Way::InPlace).await;
    fault::arm(&copy, 5);
    follower.poll(None, soon()).await.unwrap_err();
    assert!(fault::disarm(&copy));
    drop(follower);
    killed(&copy);
    assert!(state_file::load(&copy).unwrap().unwrap().torn().is_some());
    let hidden = site.path("hidden");
    std::fs::rename(site.replica(), &hidden).unwrap();
    let refused = site.start(&copy).await.unwrap_err().to_string();
    assert!(
        refused.contains("holds pages of both") && refused.contains("remove the local file"),
        "{refused}"
    );
    std::fs::rename(hidden, site.replica()).unwrap();
    assert!(matches!(site.start(&copy).await.unwrap(), Outcome::Restored { txid, .. } if txid == end));
    site.assert_same(&copy, Way::InPlace, end).await;
}

//! `--timestamp`: every moment of every sample gives the state that was the newest then, from directories
//! with the right times and from copies whose times say nothing.

use super::fixture::*;
use litevisor::testing::ltx::Header;
use litevisor::testing::model::{Moment, Txid};
use litevisor::testing::replica::Target;
use litevisor::testing::restore::{
    Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings, RestoredTo, restore_to,
};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

async fn restore(root: &Path, out: &Path, ms: i64) -> Result<RestoredTo, RestoreError> {
    let (store, settings) = (DirStore::new(root), RestoreSettings::default());
    let target = Target::Time(Moment(ms));
    restore_to(out, &store, target, &settings, &Owners::default(), true, &Progress::default()).await
}

fn sha256(path: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// As after `cp -r`, a checkout, or a move between buckets.
fn forget_times(root: &Path) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            forget_times(&path);
        } else {
            fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now()).unwrap();
        }
    }
}

#[tokio::test]
async fn every_moment_of_every_sample() {
    for name in ["s1-v05-tiny", "s2-v05-levels-ps512", "s3-v05-shrink-grow", "s4-v05-restarts"] {
        let (replica, copied) = (sample_replica(name), sample_replica(name));
        forget_times(copied.path());
        let (dir, expected) = (tempfile::tempdir().unwrap(), expected(name));
        let out = dir.path().join("out.db");
        let states = expected["restore_by_txid"].as_object().unwrap();
        let reachable =
            |txid: u64| states[&Txid(txid).to_string()].as_str().filter(|sha| !sha.starts_with("ERROR"));
        // When each position was committed: the oldest file that ends there.
        let mut positions = std::collections::BTreeMap::new();
        for file in expected["files"].as_array().unwrap() {
            let max = u64::from_str_radix(&file["name"].as_str().unwrap()[17..33], 16).unwrap();
            let time = file["timestamp_ms"].as_i64().unwrap();
            positions.entry(max).and_modify(|known: &mut i64| *known = time.min(*known)).or_insert(time);
        }
        let reached: Vec<(u64, i64)> =
            positions.into_iter().filter(|(txid, _)| reachable(*txid).is_some()).collect();
        for (nth, (txid, time)) in reached.iter().enumerate() {
            for root in [replica.path(), copied.path()] {
                let restored = restore(root, &out, *time).await.unwrap();
                assert_eq!((restored.txid, restored.time), (Txid(*txid), Moment(*time)), "{name} {txid:x}");
                assert_eq!(sha256(&out), reachable(*txid).unwrap(), "{name} {txid:x}");
                let before = restore(root, &out, time - 1).await;
                match nth.checked_sub(1) {
                    None => {
                        let error = before.unwrap_err();
                        assert_eq!(error.kind(), RestoreErrorKind::NothingThere, "{error}");
                        assert!(error.to_string().contains(&Moment(*time).to_string()), "{error}");
                    }
                    Some(earlier) => {
                        let (restored, (earlier, at)) = (before.unwrap(), reached[earlier]);
                        assert_eq!(
                            (restored.txid, restored.time),
                            (Txid(earlier), Moment(at)),
                            "{name} {txid:x}"
                        );
                        // Only a merged file hides what was there a millisecond before.
                        assert_eq!(restored.coarse.is_some(), earlier + 1 < *txid, "{name} {txid:x}");
                    }
                }
            }
        }
        let last = restore(replica.path(), &out, i64::MAX).await.unwrap();
        assert_eq!((last.txid.0, last.coarse), (reached.last().unwrap().0, None), "{name}");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_gives_nothing_newer() {
    let root = tempfile::tempdir().unwrap();
    let file = |txid: u64, time, listed| {
        let path = put(root.path(), 0, &Header { timestamp_ms: time, ..header(1, txid, txid) }, &[(1, 1)]);
        let listed = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(listed);
        fs::File::options().write(true).open(path).unwrap().set_modified(listed).unwrap();
    };
    let out = root.path().join("out.db");
    file(1, 100, 100);
    file(2, 900, 900);
    file(3, 300, 300);
    assert_eq!(restore(root.path(), &out, 500).await.unwrap().txid, Txid(1));
    assert_eq!(restore(root.path(), &out, 900).await.unwrap().txid, Txid(3));
    // The listing does not show it, and only the border was looked at: found out while it is restored.
    file(2, 900, 250);
    let error = restore(root.path(), &out, 500).await.unwrap_err();
    assert!(error.to_string().contains("a clock was set back"), "{error}");
}

//! The planner against every sample and by hand.

use super::*;
use crate::model::TxidRange;
use crate::store::layout::{Layout, Level};
use std::path::Path;

fn file(level: u8, min: u64, max: u64) -> RemoteFile {
    let (level, range) = (Level(level), TxidRange::new(Txid(min), Txid(max)).unwrap());
    RemoteFile { key: Layout::Directory.key(level, range), level, range, size: 200, modified_ms: max as i64 }
}

fn chain(files: &[RemoteFile], target: Target) -> Result<Vec<(u8, u64, u64)>, PlanError> {
    let plan = plan(files, target)?;
    assert_eq!(plan.files.last().unwrap().range.max, plan.end);
    Ok(plan.files.iter().map(|file| (file.level.0, file.range.min.0, file.range.max.0)).collect())
}

fn sample(name: &str) -> (Vec<RemoteFile>, serde_json::Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name).join("expected.json");
    let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let files = expected["files"].as_array().unwrap().iter().map(|entry| {
        let key = format!("ltx/{}/{}", entry["level"], entry["name"].as_str().unwrap());
        let (level, range) = Layout::Directory.parse(&key).unwrap();
        let (size, modified_ms) = (entry["size"].as_u64().unwrap(), entry["mtime_ms"].as_i64().unwrap());
        RemoteFile { key, level, range, size, modified_ms }
    });
    (files.collect(), expected)
}

#[test]
fn a_real_replica_with_levels() {
    let (files, _) = sample("s2-v05-levels-ps512");
    let txid = |t| chain(&files, Target::Txid(Txid(t)));
    for latest in [chain(&files, Target::Latest), txid(0x3c)] {
        assert_eq!(latest.unwrap(), [(9, 1, 0x30), (1, 0x31, 0x3c)]);
    }
    assert_eq!(txid(0x30).unwrap(), [(9, 1, 0x30)]);
    assert_eq!(txid(0x25).unwrap(), [(9, 1, 0xb), (2, 2, 0xe), (2, 0xf, 0x25)]);
    assert!(matches!(txid(0x1f), Err(PlanError::Unreachable { wanted: Txid(0x1f), .. })));
    assert!(matches!(txid(0x3d), Err(PlanError::Unreachable { reached: Txid(0x3c), .. })));
}

/// Reachable or not: as Litestream 0.5 decided for every TXID of every sample.
#[test]
fn the_same_txids_are_reachable_as_for_litestream() {
    let mut cases = 0;
    for name in [
        "s1-v05-tiny",
        "s2-v05-levels-ps512",
        "s3-v05-shrink-grow",
        "s4-v05-restarts",
        "s6-mixed-v03-newer",
        "s7-mixed-v05-newer",
        "s8-handmade-literal-lz4",
    ] {
        let (files, expected) = sample(name);
        for (txid, outcome) in expected["restore_by_txid"].as_object().unwrap() {
            let ours = plan(&files, Target::Txid(Txid::from_name(txid).unwrap()));
            assert_eq!(
                ours.is_err(),
                outcome.as_str().unwrap().starts_with("ERROR"),
                "{name} {txid}: {ours:?}"
            );
            cases += 1;
        }
    }
    assert!(cases >= 60, "{cases}");
}

#[test]
fn gaps_and_missing_starts_are_told_apart() {
    let gap = [file(9, 1, 4), file(0, 5, 5), file(0, 7, 7), file(1, 8, 9)];
    let error = chain(&gap, Target::Latest).unwrap_err();
    assert_eq!(error, PlanError::Gap { end: Txid(5), beyond: gap[2].key.clone() });
    assert!(
        error.to_string().contains("0000000000000005")
            && error.to_string().contains("ltx/0/0000000000000007")
    );
    assert_eq!(chain(&gap, Target::Txid(Txid(5))).unwrap(), [(9, 1, 4), (0, 5, 5)]);

    // On the snapshots' level, and none: nothing can be done with it, and the replica claims to go on to its
    // end.
    let claims_more = [file(9, 1, 4), file(0, 5, 5), file(9, 3, 8)];
    let beyond = claims_more[2].key.clone();
    assert_eq!(chain(&claims_more, Target::Latest), Err(PlanError::Gap { end: Txid(5), beyond }));

    let no_start = [file(0, 5, 5), file(9, 3, 5)];
    assert_eq!(chain(&no_start, Target::Latest), Err(PlanError::NoStart { first: no_start[1].key.clone() }));
    assert_eq!(
        chain(&no_start, Target::Txid(Txid(5))),
        Err(PlanError::Unreachable { wanted: Txid(5), reached: Txid(0) })
    );
}

#[test]
fn the_best_file_goes_on() {
    // Farthest first, then the widest, then the highest level, then the oldest.
    let files = [file(0, 2, 2), file(1, 2, 4), file(2, 1, 4), file(9, 1, 1)];
    assert_eq!(chain(&files, Target::Latest).unwrap(), [(9, 1, 1), (2, 1, 4)]);
    let files = [file(3, 2, 4), file(1, 2, 4), file(9, 1, 1)];
    assert_eq!(chain(&files, Target::Latest).unwrap(), [(9, 1, 1), (3, 2, 4)]);
    // Overlap is no gap.
    let files = [file(1, 1, 4), file(1, 3, 6)];
    assert_eq!(chain(&files, Target::Latest).unwrap(), [(1, 1, 4), (1, 3, 6)]);
    // A full image on a lower level is a start too.
    assert_eq!(chain(&[file(8, 1, 3)], Target::Latest).unwrap(), [(8, 1, 3)]);
    // A newer snapshot that begins elsewhere is not one, but it may show a gap.
    let files = [file(9, 1, 3), file(9, 5, 6)];
    assert!(matches!(chain(&files, Target::Latest), Err(PlanError::Gap { end: Txid(3), .. })));
}

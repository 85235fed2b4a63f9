//! Litestream 0.3's replicas: every state, damage, and what is not for us.

use crate::support::*;
use litevisor::model::Moment;
use litevisor::replica::Target;
use litevisor::restore::{Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings, RestoredTo, restore_to};
use std::fs;
use std::path::Path;

const SAMPLE: &str = "s5-v03";
const GENERATION: &str = "generations/21a5e296c131c7c0";

async fn restore(root: &Path, out: &Path, target: Target) -> Result<RestoredTo, RestoreError> {
    let (store, progress) = (DirStore::new(root), Progress::default());
    // Small requests, so that nothing depends on where one ends.
    let settings = RestoreSettings::default();
    let restored = restore_to(out, &store, target, &settings, &Owners::default(), true, &progress).await?;
    assert_eq!((progress.done(), progress.total()), (restored.bytes, restored.bytes));
    Ok(restored)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn the_latest_state_is_what_litestream_restored() {
    for name in [SAMPLE, "s6-mixed-v03-newer"] {
        let (replica, dir) = (sample_replica(name), tempfile::tempdir().unwrap());
        let out = dir.path().join("out.db");
        let restored = restore(replica.path(), &out, Target::Latest).await.unwrap();
        assert!(fs::read(&out).unwrap() == fs::read(samples().join(name).join("restored.db")).unwrap(), "{name}");
        assert_eq!(restored.generation.unwrap().to_string(), "21a5e296c131c7c0");
        assert_eq!((restored.files, restored.time), (13, Moment(1_795_327_054_867)));
        assert_eq!(names(dir.path()), ["out.db"], "{name}");
    }
}

/// Every moment at which a file was written: what came before is there, what came later is not.
#[tokio::test]
async fn any_moment() {
    let (replica, dir) = (sample_replica(SAMPLE), tempfile::tempdir().unwrap());
    let out = dir.path().join("out.db");
    let mut times: Vec<i64> = expected(SAMPLE)["v3_files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["mtime_ms"].as_i64().unwrap())
        .collect();
    times.sort();
    let mut rows_before = -1;
    for (nth, time) in times.iter().enumerate() {
        let restored = restore(replica.path(), &out, Target::Time(Moment(*time))).await.unwrap();
        assert!(restored.time <= Moment(*time), "file {nth}");
        let rows = rows(&out);
        assert!(rows >= rows_before, "file {nth}: {rows} rows after {rows_before}");
        rows_before = rows;
        let before = restore(replica.path(), &out, Target::Time(Moment(time - 1))).await;
        match nth {
            0 => assert_eq!(before.unwrap_err().kind(), RestoreErrorKind::NothingThere),
            _ => assert!(before.unwrap().time < Moment(*time)),
        }
    }
    assert_eq!(rows_before, 77);
    let later = restore(replica.path(), &out, Target::Time(Moment(i64::MAX))).await.unwrap();
    assert_eq!(later.time, Moment(*times.last().unwrap()));
    assert!(fs::read(&out).unwrap() == fs::read(samples().join(SAMPLE).join("restored.db")).unwrap());
}

/// Rows of all tables; -1 when there is none.
fn rows(db: &Path) -> i64 {
    let conn = rusqlite::Connection::open(db).unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let table = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_litestream%' ESCAPE '\\'";
    let found = conn.query_row(table, [], |row| row.get::<_, String>(0));
    found.map_or(-1, |name| conn.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0)).unwrap())
}

#[tokio::test]
async fn damage_is_named_and_never_restored() {
    let used: Vec<String> = {
        let keys = expected(SAMPLE)["v3_files"].as_array().unwrap().clone();
        let used = |key: &String| key.contains("00000002") || key.contains("00000003");
        keys.iter().map(|file| file["path"].as_str().unwrap().to_owned()).filter(used).collect()
    };
    assert_eq!(used.len(), 13);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.db");
    fs::write(&out, "mine").unwrap();
    for key in &used {
        for change in ["flip", "cut", "remove", "swap", "encrypt"] {
            let replica = sample_replica(SAMPLE);
            let path = replica.path().join(key);
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            match change {
                "flip" => bytes[middle] ^= 4,
                "cut" => bytes.truncate(middle),
                "swap" => {
                    bytes = fs::read(replica.path().join(GENERATION).join("wal/00000001_00002050.wal.lz4")).unwrap()
                }
                _ => bytes = b"age-encryption.org/v1\n-> X25519 abc\n".to_vec(),
            }
            if change == "remove" {
                fs::remove_file(&path).unwrap();
            } else {
                fs::write(&path, bytes).unwrap();
                fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            }
            // Without the second snapshot the first one and all of the WAL tell the same; the last segment of all is not
            // missed by anybody.
            let harmless =
                change == "remove" && (key.contains("snapshots") || key.ends_with("00000003_00001038.wal.lz4"));
            let restored = restore(replica.path(), &out, Target::Latest).await;
            if harmless {
                restored.unwrap();
                assert!(rows(&out) > 70);
                fs::write(&out, "mine").unwrap();
                continue;
            }
            let error = restored.unwrap_err();
            assert_eq!(error.kind(), RestoreErrorKind::Damaged, "{change} {key}: {error}");
            assert!(
                error.to_string().contains("00000002") || error.to_string().contains("00000003"),
                "{change} {key}: {error}"
            );
            assert_eq!(error.to_string().contains("encrypted with age"), change == "encrypt", "{error}");
            assert_eq!(fs::read(&out).unwrap(), b"mine", "{change} {key}");
            assert_eq!(names(dir.path()), ["out.db"], "{change} {key}");
        }
    }
}

#[tokio::test]
async fn a_txid_of_the_old_format_is_refused_with_its_reason() {
    let (replica, dir) = (sample_replica(SAMPLE), tempfile::tempdir().unwrap());
    let target = Target::Txid(litevisor::model::Txid(1));
    let error = restore(replica.path(), &dir.path().join("out.db"), target).await.unwrap_err();
    assert!(error.to_string().contains("counts no TXIDs"), "{error}");
}

//! `restore_to`: every state of every sample, as Litestream restored it.

use crate::support::*;
use litevisor::model::Txid;
use litevisor::replica::Target;
use litevisor::restore::{Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings, RestoredTo, restore_to};
use std::fs;
use std::path::Path;

async fn restore(root: &Path, out: &Path, target: Target, force: bool) -> Result<RestoredTo, RestoreError> {
    let (store, progress) = (DirStore::new(root), Progress::default());
    let settings = RestoreSettings::default();
    let restored = restore_to(out, &store, target, &settings, &Owners::default(), force, &progress).await?;
    assert_eq!((progress.done(), progress.total()), (restored.bytes, restored.bytes));
    Ok(restored)
}

fn sha256(path: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_latest_state_of_every_sample() {
    for name in [
        "s1-v05-tiny",
        "s2-v05-levels-ps512",
        "s3-v05-shrink-grow",
        "s4-v05-restarts",
        "s7-mixed-v05-newer",
        "s8-handmade-literal-lz4",
    ] {
        let (replica, dir) = (sample_replica(name), tempfile::tempdir().unwrap());
        let out = dir.path().join("out.db");
        restore(replica.path(), &out, Target::Latest, false).await.unwrap();
        assert!(fs::read(&out).unwrap() == fs::read(samples().join(name).join("restored.db")).unwrap(), "{name}");
        assert_eq!(sha256(&out), expected(name)["restores"]["v0.5.17 latest"].as_str().unwrap(), "{name}");
        assert_eq!(names(dir.path()), ["out.db"], "{name}");
    }
}

#[tokio::test]
async fn every_txid_of_every_sample() {
    let (mut restored, mut refused) = (0, 0);
    for name in [
        "s1-v05-tiny",
        "s2-v05-levels-ps512",
        "s3-v05-shrink-grow",
        "s4-v05-restarts",
        "s6-mixed-v03-newer",
        "s7-mixed-v05-newer",
        "s8-handmade-literal-lz4",
    ] {
        let (replica, dir) = (sample_replica(name), tempfile::tempdir().unwrap());
        let out = dir.path().join("out.db");
        for (txid, outcome) in expected(name)["restore_by_txid"].as_object().unwrap() {
            let target = Target::Txid(Txid::from_name(txid).unwrap());
            let ours = restore(replica.path(), &out, target, true).await;
            if outcome.as_str().unwrap().starts_with("ERROR") {
                assert_eq!(ours.unwrap_err().kind(), RestoreErrorKind::NothingThere, "{name} {txid}");
                refused += 1;
            } else {
                assert_eq!(Target::Txid(ours.unwrap().txid), target);
                assert_eq!(sha256(&out), outcome.as_str().unwrap(), "{name} {txid}");
                restored += 1;
            }
            assert_eq!(names(dir.path()), ["out.db"], "{name} {txid}");
        }
    }
    assert_eq!((restored, refused), (65, 6));
}

#[tokio::test]
async fn newer_data_in_the_old_format_is_not_passed_over() {
    let (replica, dir) = (sample_replica("s6-mixed-v03-newer"), tempfile::tempdir().unwrap());
    let out = dir.path().join("out.db");
    let error = restore(replica.path(), &out, Target::Latest, false).await.unwrap_err();
    assert!(matches!(error, RestoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("Litestream 0.3"), "{error}");
    fs::remove_dir_all(replica.path().join("ltx")).unwrap();
    let error = restore(replica.path(), &out, Target::Latest, false).await.unwrap_err();
    assert_eq!(error.kind(), RestoreErrorKind::Damaged, "{error}");
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn an_output_that_exists_is_replaced_only_by_force() {
    let (replica, dir) = (sample_replica("s1-v05-tiny"), tempfile::tempdir().unwrap());
    let out = dir.path().join("out.db");
    let wal = dir.path().join("out.db-wal");
    fs::write(&out, "mine").unwrap();
    fs::write(&wal, "mine too").unwrap();
    let error = restore(replica.path(), &out, Target::Latest, false).await.unwrap_err();
    assert_eq!(error.kind(), RestoreErrorKind::Local, "{error}");
    assert_eq!((fs::read(&out).unwrap(), fs::read(&wal).unwrap()), (b"mine".to_vec(), b"mine too".to_vec()));
    restore(replica.path(), &out, Target::Latest, true).await.unwrap();
    assert_eq!(names(dir.path()), ["out.db"]);
    assert_eq!(sha256(&out), expected("s1-v05-tiny")["restores"]["v0.5.17 latest"].as_str().unwrap());

    // An empty file is as good as none, and a side file without a database is nobody's.
    fs::write(&out, "").unwrap();
    fs::write(&wal, "stale").unwrap();
    restore(replica.path(), &out, Target::Latest, false).await.unwrap();
    assert_eq!(names(dir.path()), ["out.db"]);
}

#[tokio::test]
async fn nothing_there_is_told_apart_and_leaves_the_output_alone() {
    let (empty, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = dir.path().join("below/out.db");
    let error = restore(empty.path(), &out, Target::Latest, false).await.unwrap_err();
    assert_eq!(error.kind(), RestoreErrorKind::NothingThere, "{error}");
    assert!(names(dir.path()).is_empty());
    let replica = sample_replica("s1-v05-tiny");
    restore(replica.path(), &out, Target::Latest, false).await.unwrap();
    assert_eq!(names(&dir.path().join("below")), ["out.db"]);
}

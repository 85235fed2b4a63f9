//! `restore_to`: every state of every sample, as Litestream restored it.

use super::fixture::*;
use litevisor::testing::ltx::Header;
use litevisor::testing::model::{Crc64, Moment, PageSize, Txid, TxidRange};
use litevisor::testing::replica::Target;
use litevisor::testing::restore::{
    Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings, RestoredTo, restore_to,
};
use std::fs;
use std::io::Write;
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
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
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
        assert!(
            fs::read(&out).unwrap() == fs::read(samples().join(name).join("restored.db")).unwrap(),
            "{name}"
        );
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

/// A file as the first 0.5 versions wrote it: each page is an LZ4 frame, without its length.
fn framed(header: &Header, pages: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut crc, mut index) = (header.encode().unwrap().to_vec(), Crc64::default(), Vec::new());
    crc.update(&out);
    for (number, data) in pages {
        let (at, start) = (out.len() as u64, [&number.to_be_bytes()[..], &[0, 0]].concat());
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(
            lz4_flex::frame::FrameInfo::new().content_checksum(true),
            Vec::new(),
        );
        encoder.write_all(data).unwrap();
        out.extend(&start);
        out.extend(encoder.finish().unwrap());
        crc.update(&start);
        crc.update(data);
        for mut value in [u64::from(*number), at, out.len() as u64 - at] {
            while value > 0x7f {
                index.push(value as u8 | 0x80);
                value >>= 7;
            }
            index.push(value as u8);
        }
    }
    index.push(0);
    let length = index.len() as u64;
    for part in [&[0; 6][..], &index, &length.to_be_bytes(), &[0; 8]] {
        out.extend(part);
        crc.update(part);
    }
    out.extend(crc.flagged().to_be_bytes());
    out
}

#[tokio::test]
async fn pages_as_lz4_frames() {
    let sample = "s3-v05-shrink-grow";
    let database = fs::read(samples().join(sample).join("restored.db")).unwrap();
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pages: Vec<(u32, Vec<u8>)> = (1..).zip(database.chunks(4096).map(<[u8]>::to_vec)).collect();
    let size = PageSize::new(4096).unwrap();
    let header = |min, max| {
        let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
        Header::new(size, pages.len() as u32, range, 1_700_000_000_000 + max as i64)
    };
    let old: Vec<(u32, Vec<u8>)> = pages
        .iter()
        .map(|(number, data)| (*number, if *number > 2 { vec![*number as u8; 4096] } else { data.clone() }))
        .collect();
    put_bytes(root.path(), &key(9, &header(1, 1)), &framed(&header(1, 1), &old));
    put_bytes(root.path(), &key(0, &header(2, 2)), &framed(&header(2, 2), &pages[2..]));
    let out = dir.path().join("out.db");
    let restored = restore(root.path(), &out, Target::Latest, false).await.unwrap();
    assert_eq!((restored.txid, restored.time), (Txid(2), Moment(1_700_000_000_002)));
    assert!(fs::read(&out).unwrap() == database);
}

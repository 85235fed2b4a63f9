//! Litestream 0.3's replicas: every state, damage, and what is not for us.

use super::fixture::*;
use litevisor::testing::model::Moment;
use litevisor::testing::replica::Target;
use litevisor::testing::restore::{
    Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings, RestoredTo, restore_to,
};
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
        assert!(
            fs::read(&out).unwrap() == fs::read(samples().join(name).join("restored.db")).unwrap(),
            "{name}"
        );
        assert_eq!(restored.generation.unwrap().to_string(), "21a5e296c131c7c0");
        assert_eq!((restored.files, restored.time), (13, Moment(1_795_327_054_867)));
        assert_eq!(names(dir.path()), ["out.db"], "{name}");
    }
}

/// The scratch file for the WAL lies beside the database, where the app's user may have put a link.
#[tokio::test]
async fn links_in_the_way_are_not_followed() {
    let (replica, dir) = (sample_replica(SAMPLE), tempfile::tempdir().unwrap());
    let (out, victim) = (dir.path().join("out.db"), dir.path().join("victim"));
    fs::write(&victim, "mine").unwrap();
    for name in ["out.db.litevisor-staged", "out.db.litevisor-staged-wal"] {
        std::os::unix::fs::symlink(&victim, dir.path().join(name)).unwrap();
        restore(replica.path(), &out, Target::Latest).await.unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine", "{name}");
        assert!(fs::symlink_metadata(&out).unwrap().is_file(), "{name}");
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
    let table =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_litestream%' ESCAPE '\\'";
    let found = conn.query_row(table, [], |row| row.get::<_, String>(0));
    found.map_or(-1, |name| {
        conn.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0)).unwrap()
    })
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
                    bytes = fs::read(replica.path().join(GENERATION).join("wal/00000001_00002050.wal.lz4"))
                        .unwrap()
                }
                _ => bytes = b"age-encryption.org/v1\n-> X25519 abc\n".to_vec(),
            }
            if change == "remove" {
                fs::remove_file(&path).unwrap();
            } else {
                fs::write(&path, bytes).unwrap();
                fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            }
            // Without the second snapshot the first one and all of the WAL tell the same; the last segment of
            // all is not missed by anybody.
            let harmless = change == "remove"
                && (key.contains("snapshots") || key.ends_with("00000003_00001038.wal.lz4"));
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
    let target = Target::Txid(litevisor::testing::model::Txid(1));
    let error = restore(replica.path(), &dir.path().join("out.db"), target).await.unwrap_err();
    assert!(error.to_string().contains("counts no TXIDs"), "{error}");
}

/// As Litestream 0.3 packs its files.
fn pack(data: &[u8]) -> Vec<u8> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max4MB)
        .content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    std::io::Write::write_all(&mut encoder, data).unwrap();
    encoder.finish().unwrap()
}

/// A database of two pages of 4096 bytes, as a snapshot of a generation of its own.
fn small_generation(more: &[u8]) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("small.db");
    let connection = rusqlite::Connection::open(&db).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n)").unwrap();
    drop(connection);
    let bytes = fs::read(&db).unwrap();
    fs::remove_file(db).unwrap();
    assert_eq!(bytes.len(), 8192);
    put_bytes(
        dir.path(),
        &format!("{GENERATION}/snapshots/00000000.snapshot.lz4"),
        &pack(&[&bytes[..], more].concat()),
    );
    (dir, bytes)
}

/// A WAL of one frame, all of whose checksums are right: page 2, and a commit of so many pages.
fn wal_with_commit(commit: u32, page: &[u8]) -> Vec<u8> {
    use litevisor::testing::wal::format::Sums;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let mut wal = words(&[0x377f_0682, 3_007_000, 4096, 0, 1, 2]);
    let sums = Sums(0, 0).over(&wal, false);
    wal.extend(words(&[sums.0, sums.1]));
    let head = words(&[2, commit]);
    let sums = sums.over(&head, false).over(page, false);
    wal.extend(head);
    wal.extend(words(&[1, 2, sums.0, sums.1]));
    wal.extend(page);
    wal
}

/// A stream inflates to any size: what is behind the database's own end never reaches the disk.
#[tokio::test]
async fn a_snapshot_is_no_larger_than_its_first_page_says() {
    let (replica, bytes) = small_generation(&vec![0; 96 << 20]);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.db");
    restore(replica.path(), &out, Target::Latest).await.unwrap();
    assert!(fs::read(&out).unwrap() == bytes, "{} bytes", fs::metadata(&out).unwrap().len());
    let zeros = format!("{GENERATION}/snapshots/00000000.snapshot.lz4");
    put_bytes(replica.path(), &zeros, &pack(&vec![0; 96 << 20]));
    let error = restore(replica.path(), &out, Target::Latest).await.unwrap_err();
    assert_eq!(error.kind(), RestoreErrorKind::Damaged, "{error}");
    assert!(fs::read(&out).unwrap() == bytes, "what was there stays");
}

#[tokio::test]
async fn a_commit_of_more_pages_than_there_can_be_is_damage() {
    let (replica, bytes) = small_generation(&[]);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.db");
    let segment = format!("{GENERATION}/wal/00000000_00000000.wal.lz4");
    for commit in [u32::MAX, 100_000] {
        put_bytes(replica.path(), &segment, &pack(&wal_with_commit(commit, &bytes[4096..])));
        let error = restore(replica.path(), &out, Target::Latest).await.unwrap_err();
        assert_eq!(error.kind(), RestoreErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains(&format!("{commit} pages")), "{error}");
        assert_eq!(names(dir.path()), [""; 0], "{commit}");
    }
    put_bytes(replica.path(), &segment, &pack(&wal_with_commit(2, &bytes[4096..])));
    restore(replica.path(), &out, Target::Latest).await.unwrap();
    assert!(fs::read(&out).unwrap() == bytes);
}

/// The first page of a snapshot claims more than any disk has: nothing is written.
#[tokio::test]
async fn room_is_asked_for_before_anything_is_written() {
    let (replica, mut bytes) = small_generation(&[]);
    bytes[28..32].copy_from_slice(&u32::MAX.to_be_bytes());
    put_bytes(replica.path(), &format!("{GENERATION}/snapshots/00000000.snapshot.lz4"), &pack(&bytes));
    let dir = tempfile::tempdir().unwrap();
    let error = restore(replica.path(), &dir.path().join("out.db"), Target::Latest).await.unwrap_err();
    assert!(matches!(error, RestoreError::NoSpace { .. }), "{error}");
    assert_eq!(names(dir.path()), [""; 0]);
}

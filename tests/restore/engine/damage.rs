//! Damage anywhere is refused with the file named, and what was there before stays.

use super::fixture::*;
use litevisor::testing::model::{DbChecksum, PageNo, PageSize, page_checksum};
use litevisor::testing::replica::Target;
use litevisor::testing::restore::error::Damage;
use litevisor::testing::restore::{
    Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings, RestoredTo, restore_to,
};
use std::fs;
use std::path::Path;

async fn restore(root: &Path) -> Result<(RestoredTo, Vec<u8>), RestoreError> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.db");
    fs::write(&out, "before").unwrap();
    let settings = RestoreSettings::default();
    let restored = restore_to(
        &out,
        &DirStore::new(root),
        Target::Latest,
        &settings,
        &Owners::default(),
        true,
        &Progress::default(),
    )
    .await;
    let left = fs::read(&out).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    if restored.is_err() {
        assert_eq!(left, b"before");
    }
    Ok((restored?, left))
}

/// The damage that is found, and the key of the file that is blamed.
async fn damage(root: &Path) -> (Damage, String) {
    match restore(root).await {
        Err(RestoreError::Damaged { damage, file, .. }) => (damage, file),
        other => panic!("{other:?}"),
    }
}

fn sum(pages: &[(u32, u8)]) -> Option<DbChecksum> {
    let mut sum = DbChecksum::default();
    for (number, fill) in pages {
        sum.toggle(page_checksum(PageNo(*number), &page(*number, *fill)));
    }
    Some(sum)
}

#[tokio::test]
async fn each_byte_and_each_length_of_each_file_of_a_plan() {
    let replica = sample_replica("s1-v05-tiny");
    let (_, truth) = restore(replica.path()).await.unwrap();
    // The raw file of the first position holds what the snapshot holds: without it there is one way only.
    fs::remove_file(replica.path().join("ltx/0/0000000000000001-0000000000000001.ltx")).unwrap();
    for key in [
        "ltx/9/0000000000000001-0000000000000001.ltx",
        "ltx/0/0000000000000002-0000000000000002.ltx",
        "ltx/0/0000000000000003-0000000000000003.ltx",
    ] {
        let path = replica.path().join(key);
        let sound = fs::read(&path).unwrap();
        let mut accepted = 0;
        for at in (0..sound.len()).step_by(3) {
            let mut bad = sound.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).unwrap();
            match restore(replica.path()).await {
                // Another way to pack the same page.
                Ok((_, restored)) => {
                    assert!(restored == truth, "{key} byte {at}");
                    accepted += 1;
                }
                Err(RestoreError::Damaged { file, .. }) => assert_eq!(file, key),
                Err(other) => panic!("{key} byte {at}: {other}"),
            }
        }
        assert!(accepted < 4, "{key}: {accepted}");
        for length in (0..sound.len()).step_by(29) {
            fs::write(&path, &sound[..length]).unwrap();
            assert!(matches!(damage(replica.path()).await, (Damage::Format(_), file) if file == key));
        }
        fs::write(&path, [&sound[..], &[0]].concat()).unwrap();
        assert_eq!(damage(replica.path()).await.1, key);
        fs::write(&path, &sound).unwrap();
    }
    restore(replica.path()).await.unwrap();
}

#[tokio::test]
async fn swapped_renamed_and_removed_files() {
    let replica = tempfile::tempdir().unwrap();
    put(replica.path(), 9, &header(2, 1, 1), &[(1, 0), (2, 1)]);
    let two = put(replica.path(), 0, &header(2, 2, 2), &[(2, 2)]);
    let three = put(replica.path(), 0, &header(2, 3, 3), &[(2, 3)]);
    let (a, b) = (fs::read(&two).unwrap(), fs::read(&three).unwrap());
    fs::write(&two, &b).unwrap();
    fs::write(&three, &a).unwrap();
    assert_eq!(damage(replica.path()).await, (Damage::Name(header(2, 3, 3).range), key(0, &header(2, 2, 2))));

    fs::remove_file(&two).unwrap();
    fs::write(&three, &b).unwrap();
    let error = restore(replica.path()).await.unwrap_err();
    assert_eq!(error.kind(), RestoreErrorKind::Damaged);
    assert!(error.to_string().contains("0000000000000003-0000000000000003.ltx"), "{error}");

    fs::remove_dir_all(replica.path().join("ltx/9")).unwrap();
    let error = restore(replica.path()).await.unwrap_err();
    assert!(matches!(error, RestoreError::Incomplete { .. }), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_the_one_its_writer_meant() {
    let replica = tempfile::tempdir().unwrap();
    let mut first = header(3, 1, 1);
    first.db_checksum = sum(&[(1, 0), (2, 1), (3, 1)]);
    put(replica.path(), 9, &first, &[(1, 0), (2, 1), (3, 1)]);
    let mut second = header(2, 2, 2);
    second.db_checksum = sum(&[(1, 0), (2, 5)]);
    let path = put(replica.path(), 0, &second, &[(2, 5)]);
    assert_eq!(restore(replica.path()).await.unwrap().1, [page(1, 0), page(2, 5)].concat());

    // The same file, but the writer had another page in mind; the file itself is sound.
    put(replica.path(), 0, &second, &[(2, 6)]);
    let (found, file) = damage(replica.path()).await;
    assert!(matches!(found, Damage::Checksum { .. }) && file == key(0, &second), "{found}");

    // The file that began it is named, also when later ones say nothing, unless a later one makes it right.
    put(replica.path(), 0, &header(2, 3, 3), &[(2, 7)]);
    assert_eq!(damage(replica.path()).await.1, key(0, &second));
    let mut fourth = header(2, 4, 4);
    fourth.db_checksum = sum(&[(1, 0), (2, 8)]);
    put(replica.path(), 0, &fourth, &[(2, 8)]);
    restore(replica.path()).await.unwrap();
    fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn pages_that_are_nowhere() {
    let replica = tempfile::tempdir().unwrap();
    put(replica.path(), 9, &header(2, 1, 1), &[(1, 0), (2, 1)]);
    put(replica.path(), 0, &header(4, 2, 2), &[(4, 2)]);
    assert_eq!(damage(replica.path()).await.0, Damage::Missing(3));
    put(replica.path(), 0, &header(4, 3, 3), &[(3, 3)]);
    let (_, bytes) = restore(replica.path()).await.unwrap();
    assert_eq!(bytes, [page(1, 0), page(2, 1), page(3, 3), page(4, 2)].concat());
    // What was cut off does not come back when the database grows again.
    put(replica.path(), 0, &header(1, 4, 4), &[(1, 0)]);
    put(replica.path(), 0, &header(4, 5, 5), &[(2, 5), (4, 5)]);
    assert_eq!(damage(replica.path()).await.0, Damage::Missing(3));
}

#[tokio::test]
async fn sizes_that_cannot_be() {
    let replica = tempfile::tempdir().unwrap();
    put(replica.path(), 9, &header(1, 1, 1), &[(1, 0)]);
    put(replica.path(), 0, &header(u32::MAX, 2, 2), &[(u32::MAX, 2)]);
    assert_eq!(damage(replica.path()).await.0, Damage::Pages(u32::MAX));
    let mut other = header(1, 2, 2);
    other.page_size = PageSize::new(1024).unwrap();
    other.commit = 2;
    let large = [(1, [page(1, 0), page(2, 0)].concat())].into();
    put_bytes(replica.path(), &key(0, &other), &encode(&other, &large));
    // Without each of its pages it is nothing to begin with.
    assert_eq!(damage(replica.path()).await.0, Damage::PageSize { got: 1024, want: 512 });
}

#[tokio::test]
async fn what_is_no_sqlite_database() {
    let replica = tempfile::tempdir().unwrap();
    let head = header(1, 1, 1);
    put_bytes(replica.path(), &key(9, &head), &encode(&head, &[(1, vec![7; PAGE])].into()));
    assert!(matches!(damage(replica.path()).await, (Damage::NotSqlite(_), file) if file == key(9, &head)));
}

/// A file that other files can stand in for: whatever is wrong with it, the very same state comes back.
#[tokio::test]
async fn what_other_files_hold_as_well_is_gone_around() {
    let replica = tempfile::tempdir().unwrap();
    put(replica.path(), 9, &header(2, 1, 1), &[(1, 0), (2, 1)]);
    for txid in 2..6 {
        put(replica.path(), 0, &header(2, txid, txid), &[(2, txid as u8)]);
    }
    let merged = put(replica.path(), 1, &header(2, 2, 4), &[(2, 4)]);
    let snapshot = put(replica.path(), 9, &header(2, 1, 3), &[(1, 0), (2, 3)]);
    let truth = [page(1, 0), page(2, 5)].concat();
    assert_eq!(restore(replica.path()).await.unwrap().1, truth);
    for path in [&merged, &snapshot] {
        let sound = fs::read(path).unwrap();
        for at in 0..sound.len() {
            let mut bad = sound.clone();
            bad[at] ^= 0x40;
            fs::write(path, &bad).unwrap();
            assert_eq!(restore(replica.path()).await.unwrap().1, truth, "byte {at} of {}", path.display());
            fs::write(path, &sound[..at]).unwrap();
            assert_eq!(restore(replica.path()).await.unwrap().1, truth, "{at} bytes of {}", path.display());
        }
        fs::write(path, &sound).unwrap();
    }
    // Both of them, and then a raw file that is needed now.
    for path in [&merged, &snapshot] {
        fs::write(path, "no LTX file").unwrap();
    }
    assert_eq!(restore(replica.path()).await.unwrap().1, truth);
    let needed = replica.path().join(key(0, &header(2, 3, 3)));
    fs::write(&needed, "no LTX file").unwrap();
    assert_eq!(damage(replica.path()).await.1, key(0, &header(2, 3, 3)));
    fs::remove_file(&needed).unwrap();
    damage(replica.path()).await;
}

/// The newest position has one file: an older state is not what was asked for.
#[tokio::test]
async fn an_older_state_never_stands_in() {
    let replica = tempfile::tempdir().unwrap();
    put(replica.path(), 9, &header(2, 1, 1), &[(1, 0), (2, 1)]);
    put(replica.path(), 9, &header(2, 1, 2), &[(1, 0), (2, 2)]);
    let last = put(replica.path(), 0, &header(2, 3, 3), &[(2, 3)]);
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(damage(replica.path()).await.1, key(0, &header(2, 3, 3)));
}

/// A copy of a database beside a WAL that its older self left: SQLite works with it, and page 1 says another
/// size.
#[tokio::test]
async fn a_first_page_that_says_another_size_is_believed_only_with_proof() {
    let mut first = page(1, 0);
    first[28..32].copy_from_slice(&7u32.to_be_bytes());
    let pages = std::collections::BTreeMap::from([(1, first), (2, page(2, 5))]);
    let mut proof = DbChecksum::default();
    pages.iter().for_each(|(number, data)| proof.toggle(page_checksum(PageNo(*number), data)));
    let database = pages.values().cloned().collect::<Vec<_>>().concat();
    for (db_checksum, restorable) in [(Some(proof), true), (None, false)] {
        let replica = tempfile::tempdir().unwrap();
        let head = litevisor::testing::ltx::Header { db_checksum, ..header(2, 1, 1) };
        put_bytes(replica.path(), &key(9, &head), &encode(&head, &pages));
        if restorable {
            assert_eq!(restore(replica.path()).await.unwrap().1, database);
        } else {
            assert!(
                matches!(damage(replica.path()).await, (Damage::NotSqlite(_), file) if file == key(9, &head))
            );
        }
    }
}

/// A replica of which every file is needed: whatever happens to whichever of them, it is refused, and nothing
/// is replaced.
#[tokio::test]
async fn every_byte_every_length_and_every_other_place_of_files_that_are_needed() {
    let replica = tempfile::tempdir().unwrap();
    let files = [
        put(replica.path(), 9, &header(2, 1, 1), &[(1, 0), (2, 1)]),
        put(replica.path(), 0, &header(2, 2, 2), &[(2, 2)]),
        put(replica.path(), 0, &header(2, 3, 3), &[(2, 3)]),
    ];
    let truth = [page(1, 0), page(2, 3)].concat();
    assert_eq!(restore(replica.path()).await.unwrap().1, truth);
    let refused = async |what: &str| {
        let error = restore(replica.path()).await.expect_err(what);
        assert_eq!(error.kind(), RestoreErrorKind::Damaged, "{what}: {error}");
        error.to_string()
    };
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    for path in &files {
        let sound = fs::read(path).unwrap();
        for at in 0..sound.len() {
            let mut bad = sound.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(path, &bad).unwrap();
            match restore(replica.path()).await {
                // Another way to pack the same page.
                Ok((_, restored)) => assert!(restored == truth, "{} byte {at}", path.display()),
                Err(error) => assert!(error.to_string().contains(&name(path)), "byte {at}: {error}"),
            }
            fs::write(path, &sound[..at]).unwrap();
            assert!(refused("cut short").await.contains(&name(path)), "{at}");
        }
        fs::write(path, &sound).unwrap();
        // In the place of each other one, and under a name that nothing was written for.
        for other in files.iter().filter(|other| *other != path) {
            let kept = fs::read(other).unwrap();
            fs::write(other, &sound).unwrap();
            assert!(refused("another's content").await.contains(&name(other)), "{}", other.display());
            fs::write(other, &kept).unwrap();
        }
        let renamed = path.with_file_name("0000000000000004-0000000000000004.ltx");
        fs::rename(path, &renamed).unwrap();
        refused("renamed").await;
        fs::rename(&renamed, path).unwrap();
    }
    // Without its first file there is nothing to begin with; without one in the middle there is a gap.
    for path in &files[..2] {
        let sound = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        refused("removed").await;
        fs::write(path, &sound).unwrap();
    }
    assert_eq!(restore(replica.path()).await.unwrap().1, truth);
}

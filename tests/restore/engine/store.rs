//! What a store may do while a restore runs.

use super::fixture::*;
use litevisor::testing::replica::Target;
use litevisor::testing::restore::{
    Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings, RestoredTo, restore_to,
};
use litevisor::testing::store::StoreErrorKind;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

async fn restore(
    store: &DirStore,
    out: &Path,
    settings: RestoreSettings,
) -> Result<RestoredTo, RestoreError> {
    let progress = Progress::default();
    restore_to(out, store, Target::Latest, &settings, &Owners::default(), true, &progress).await
}

fn settings(timeout_ms: u64, parallelism: usize) -> RestoreSettings {
    RestoreSettings { timeout: Duration::from_millis(timeout_ms), parallelism, ..RestoreSettings::default() }
}

/// A chain of a snapshot and `raw` increments.
fn chain(raw: u64) -> tempfile::TempDir {
    let replica = tempfile::tempdir().unwrap();
    put(replica.path(), 9, &header(2, 1, 1), &[(1, 0), (2, 1)]);
    for txid in 2..2 + raw {
        put(replica.path(), 0, &header(2, txid, txid), &[(2, txid as u8)]);
    }
    replica
}

#[tokio::test]
async fn one_listing_and_one_request_a_file_side_by_side() {
    let (replica, dir) = (chain(25), tempfile::tempdir().unwrap());
    let store = DirStore::with(replica.path(), |_, _| Fate::Delayed(Duration::from_millis(20)));
    let out = dir.path().join("out.db");
    let restored = restore(&store, &out, settings(5000, 8)).await.unwrap();
    assert_eq!((restored.txid.0, restored.files), (26, 26));
    assert_eq!(fs::read(&out).unwrap(), [page(1, 0), page(2, 26)].concat());
    assert_eq!(store.log.lock().unwrap().len(), 27);
    assert_eq!(store.most_at_once.load(Ordering::SeqCst), 8);
}

/// What a start waits for, one after the other, counted in round trips: not in milliseconds.
#[tokio::test]
async fn a_listing_and_one_burst() {
    let late = |_: &str, _: usize| Fate::Delayed(Duration::from_millis(30));
    let (replica, dir) = (chain(25), tempfile::tempdir().unwrap());
    let store = DirStore::with(replica.path(), late);
    let out = dir.path().join("out.db");
    let restored = restore(&store, &out, RestoreSettings::default()).await.unwrap();
    assert_eq!(restored.files, 26);
    let counted = |store: &DirStore| (store.rounds.load(Ordering::SeqCst), store.log.lock().unwrap().len());
    assert_eq!(counted(&store), (2, 27));

    let empty = tempfile::tempdir().unwrap();
    let store = DirStore::with(empty.path(), late);
    let error = restore(&store, &out, RestoreSettings::default()).await.unwrap_err();
    assert_eq!((error.kind(), counted(&store)), (RestoreErrorKind::NothingThere, (1, 1)));
}

/// A large replica's levels are listed side by side, and of the raw files only those that are needed.
#[tokio::test]
async fn a_listing_of_many_pages() {
    let replica = chain(60);
    for from in (2..60).step_by(10) {
        put(replica.path(), 1, &header(2, from, from + 9), &[(2, from as u8 + 9)]);
    }
    let expected = [page(1, 0), page(2, 61)].concat();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.db");
    let mut store = DirStore::with(replica.path(), |_, _| Fate::Delayed(Duration::from_millis(30)));
    store.page = 20;
    let restored = restore(&store, &out, RestoreSettings::default()).await.unwrap();
    assert_eq!((restored.txid.0, restored.files), (61, 7));
    assert_eq!(fs::read(&out).unwrap(), expected);
    // The first page, the other levels, what is left of the raw files, the files.
    assert_eq!(store.rounds.load(Ordering::SeqCst), 4);
    let after = format!("list ltx/0/ {}", key(0, &header(2, 60, 60)));
    assert!(store.log.lock().unwrap().contains(&after), "{:?}", store.log.lock().unwrap());

    // A gap in the higher levels: then the raw files bridge it, all of them.
    fs::remove_file(replica.path().join(key(1, &header(2, 22, 31)))).unwrap();
    let mut store = DirStore::new(replica.path());
    store.page = 20;
    let restored = restore(&store, &out, RestoreSettings::default()).await.unwrap();
    assert_eq!((restored.txid.0, restored.files), (61, 16));
    assert_eq!(fs::read(&out).unwrap(), expected);
}

/// About 3 MiB that do not pack, in one file.
fn noise_replica() -> (tempfile::TempDir, Vec<u8>, usize) {
    let replica = tempfile::tempdir().unwrap();
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    let pages: BTreeMap<u32, Vec<u8>> = (1..=6000)
        .map(|number| (number, if number == 1 { page(1, 0) } else { (0..PAGE).map(|_| noise()).collect() }))
        .collect();
    let head = header(6000, 1, 1);
    let file = encode(&head, &pages);
    put_bytes(replica.path(), &key(9, &head), &file);
    (replica, pages.into_values().collect::<Vec<_>>().concat(), file.len())
}

#[tokio::test]
async fn what_came_before_the_line_broke_is_not_asked_for_again() {
    let (replica, database, bytes) = noise_replica();
    let dir = tempfile::tempdir().unwrap();
    let store =
        DirStore::with(replica.path(), |_, n| if n % 3 == 1 { Fate::Cut(100_000) } else { Fate::Served });
    let out = dir.path().join("out.db");
    restore(&store, &out, settings(20_000, 4)).await.unwrap();
    assert!(fs::read(&out).unwrap() == database);
    assert_eq!(store.bytes_served.load(Ordering::SeqCst), bytes, "every byte came once");
}

/// One request takes longer than the whole patience, but it is never silent.
#[tokio::test]
async fn a_slow_line_is_not_cut_off() {
    let (replica, database, bytes) = noise_replica();
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::with(replica.path(), |request, _| {
        if request.starts_with("list") {
            Fate::Served
        } else {
            Fate::Drips(16 << 10, Duration::from_millis(60))
        }
    });
    let out = dir.path().join("out.db");
    let begun = std::time::Instant::now();
    restore(&store, &out, settings(700, 4)).await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(700));
    assert!(fs::read(&out).unwrap() == database);
    assert_eq!(store.bytes_served.load(Ordering::SeqCst), bytes);
}

#[tokio::test]
async fn large_files_come_in_pieces() {
    let ((replica, database, _), dir) = (noise_replica(), tempfile::tempdir().unwrap());
    let store = DirStore::new(replica.path());
    let out = dir.path().join("out.db");
    restore(&store, &out, settings(5000, 3)).await.unwrap();
    assert!(fs::read(&out).unwrap() == database);
    let requests = store.log.lock().unwrap().len();
    assert!((5..20).contains(&requests), "{requests}");
    assert_eq!(store.most_at_once.load(Ordering::SeqCst).min(2), 1, "a directory answers at once");
}

#[tokio::test]
async fn every_second_request_fails() {
    let (replica, dir) = (chain(6), tempfile::tempdir().unwrap());
    let store = DirStore::with(replica.path(), |_, n| {
        if n % 2 == 0 { Fate::Fails(StoreErrorKind::Unreachable) } else { Fate::Served }
    });
    let restored = restore(&store, &dir.path().join("out.db"), settings(10_000, 2)).await.unwrap();
    assert_eq!(restored.txid.0, 7);
}

#[tokio::test]
async fn progress_prolongs_the_patience() {
    let (replica, dir) = (chain(8), tempfile::tempdir().unwrap());
    let store = DirStore::with(replica.path(), |_, _| Fate::Delayed(Duration::from_millis(120)));
    let begun = std::time::Instant::now();
    restore(&store, &dir.path().join("out.db"), settings(600, 1)).await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(600), "it took longer than the patience with silence");
}

#[tokio::test]
async fn silence_ends_it() {
    let (replica, dir) = (chain(8), tempfile::tempdir().unwrap());
    let store = DirStore::with(replica.path(), |_, n| if n < 4 { Fate::Served } else { Fate::Hangs });
    let begun = std::time::Instant::now();
    let error = restore(&store, &dir.path().join("out.db"), settings(400, 2)).await.unwrap_err();
    assert_eq!(error.kind(), RestoreErrorKind::Unavailable, "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Between the listing and the read, increments are merged into one file and removed.
#[tokio::test]
async fn files_that_are_merged_meanwhile_lead_to_a_new_plan() {
    let (replica, dir) = (chain(5), tempfile::tempdir().unwrap());
    let root = replica.path().to_owned();
    let store = DirStore::with(replica.path(), move |request, _| {
        if request.contains("0000000000000004") && root.join(request).exists() {
            put(&root, 1, &header(2, 2, 6), &[(2, 6)]);
            for txid in 2..6 {
                fs::remove_file(root.join(key(0, &header(2, txid, txid)))).unwrap();
            }
        }
        Fate::Served
    });
    let out = dir.path().join("out.db");
    let restored = restore(&store, &out, settings(5000, 1)).await.unwrap();
    assert_eq!((restored.txid.0, restored.files), (6, 2));
    assert_eq!(fs::read(&out).unwrap(), [page(1, 0), page(2, 6)].concat());
    let log = store.log.lock().unwrap();
    let asked = |what: &str| log.iter().filter(|request| *request == what).count();
    assert_eq!(asked("list"), 2);
    // It goes on where it was.
    assert_eq!(asked(&key(9, &header(2, 1, 1))), 1);
}

#[tokio::test]
async fn a_file_that_is_listed_and_never_found_ends_it() {
    let (replica, dir) = (chain(2), tempfile::tempdir().unwrap());
    let store = DirStore::with(replica.path(), |request, _| {
        if request.contains("0000000000000002") {
            Fate::Fails(StoreErrorKind::NotFound)
        } else {
            Fate::Served
        }
    });
    let error = restore(&store, &dir.path().join("out.db"), settings(5000, 2)).await.unwrap_err();
    assert!(matches!(error, RestoreError::Vanishing { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

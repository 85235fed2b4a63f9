//! Files that are taken away, pages that change, writers that come in between or give up.

use super::*;
use crate::replicate::capture::segment::Source;
use std::os::unix::fs::FileExt;

#[test]
fn the_files_must_stay_in_place() {
    for missing in [
        Missing::Database,
        Missing::DatabaseWithoutWal,
        Missing::Wal,
        Missing::WalForAnother,
        Missing::Shm,
        Missing::ShmForAnother,
    ] {
        let mut world = World::new(4096);
        world.act(0, 3000);
        assert_eq!(world.capture().missing(), None);
        let (db, wal, shm) = (world.path.as_path().to_owned(), world.path.wal(), world.path.shm());
        let path = match missing {
            Missing::Database | Missing::DatabaseWithoutWal => db,
            Missing::Wal | Missing::WalForAnother => wal.clone(),
            Missing::Shm | Missing::ShmForAnother => shm.clone(),
        };
        std::fs::rename(&path, world.path.as_path().with_extension("gone")).unwrap();
        if missing == Missing::Database {
            std::fs::remove_file(&wal).unwrap();
        }
        if missing == Missing::WalForAnother {
            std::fs::write(&wal, "another").unwrap();
        }
        if missing == Missing::ShmForAnother {
            std::fs::write(&shm, "another").unwrap();
        }
        assert_eq!(world.capture().missing(), Some(missing));
    }
}

/// Somebody wrote into the file behind SQLite's back, between the header and the pages: the header states
/// another database.
#[test]
fn a_page_that_changes_between_its_checksum_and_its_sending_is_refused() {
    for in_wal in [true, false] {
        let mut world = World::new(4096);
        world.act(0, 3000);
        let draft = if in_wal {
            world.capture().next().unwrap().unwrap()
        } else {
            assert!(world.checkpoint(CheckpointDecision::Gentle));
            world.act(8, 0);
            world.catch_up();
            world.capture().full_snapshot().unwrap()
        };
        let entry = *draft.pages.list.last().unwrap();
        let (path, at) = match entry.source {
            Source::Wal(at) => (world.path.wal(), at),
            Source::Database => (world.path.as_path().to_owned(), (u64::from(entry.page.0) - 1) * 4096),
        };
        assert_eq!(matches!(entry.source, Source::Wal(_)), in_wal);
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at + 4000).unwrap();
        file.write_all_at(&[!byte[0]], at + 4000).unwrap();
        let mut header =
            crate::ltx::Header::new(draft.pages.files.page_size, draft.commit, TxidRange::single(Txid(2)), 0);
        header.wal_offset = 32;
        let sent = draft.pages.encode(&header, 1 << 20, |_| panic!("nothing of it may be sent"));
        assert!(matches!(sent, Err(SegmentError::Changed { page }) if page == entry.page.0), "{sent:?}");
    }
}

/// The app has it open, and so have we: its commits go on arriving there.
#[test]
fn a_removed_wal_is_read_on_and_copied_into_the_database() {
    let mut world = World::new(4096);
    world.act(0, 3000);
    std::fs::remove_file(world.path.wal()).unwrap();
    world.act(0, 3000);
    world.agrees();
    assert!(world.checkpoint(CheckpointDecision::Gentle));
    assert_eq!(world.replica, std::fs::read(world.path.as_path()).unwrap());
}

/// What is asked between the two holds, and why: a commit came in between.
#[test]
fn a_commit_between_the_two_holds_is_noticed() {
    let mut world = World::new(4096);
    world.act(0, 3000);
    world.catch_up();
    let app = Connection::open(world.path.as_path()).unwrap();
    let late = || app.execute_batch("INSERT INTO t(x) VALUES ('late')").unwrap();
    let settled = world
        .capture()
        .checkpoint_with(CheckpointDecision::Gentle, |_| panic!("nothing is left"), late)
        .unwrap();
    assert!(!settled, "the late commit is not copied, and the WAL may not be called settled");
    world.agrees();
    assert!(world.checkpoint(CheckpointDecision::Gentle));
}

/// A writer was killed between its last frame and the index that makes it visible. The next one writes a
/// shorter transaction over it: the last frame that was captured still stands, the first one does not.
#[test]
fn a_transaction_that_nobody_saw_is_taken_back() {
    let mut world = World::new(512);
    world.act(0, 3000);
    world.catch_up();
    let sound = std::fs::read(world.path.wal()).unwrap();
    world.app.execute_batch("UPDATE t SET x = randomblob(3000)").unwrap();
    let phantom = std::fs::read(world.path.wal()).unwrap();
    world.catch_up();
    let path = world.path.wal();
    // As it would stand if the update had stayed unseen and a shorter transaction had come instead.
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("app.db");
    std::fs::write(&other, std::fs::read(world.path.as_path()).unwrap()).unwrap();
    std::fs::write(dir.path().join("app.db-wal"), &sound).unwrap();
    let shorter = Connection::open(&other).unwrap();
    shorter.execute_batch("UPDATE t SET x = 5 WHERE id = 1").unwrap();
    let over = std::fs::read(dir.path().join("app.db-wal")).unwrap();
    assert!(over.len() < phantom.len() && over[..sound.len()] == sound);
    let wal = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&wal, &over[sound.len()..], sound.len() as u64).unwrap();
    let looked = world.capture().next();
    assert!(matches!(looked, Err(CaptureError::Broken(_))), "{:?}", looked.map(|draft| draft.is_some()));
}

/// One that is written for long is not proven again from its beginning at each look, and whatever becomes of
/// it is seen.
#[test]
fn an_open_transaction_is_followed_given_up_and_committed() {
    let mut world = World::new(4096);
    // The pages of auto-vacuum are written again and again in place, which leaves nothing that could be
    // proven early.
    world.app.execute_batch("PRAGMA auto_vacuum=NONE; VACUUM; PRAGMA cache_size=5").unwrap();
    for end in ["ROLLBACK", "COMMIT", "ROLLBACK"] {
        world.catch_up();
        world.app.execute_batch("BEGIN").unwrap();
        let mut known = 0;
        for _ in 0..3 {
            world.app.execute("INSERT INTO t(x) VALUES (randomblob(300000))", []).unwrap();
            assert!(world.capture().next().unwrap().is_none());
            known = world.capture().tail.open.as_ref().map_or(0, |open| open.frames());
        }
        assert!(known > 100, "{known}");
        // Nothing came: the whole of it is looked at again.
        assert!(world.capture().next().unwrap().is_none());
        world.app.execute_batch(end).unwrap();
        // A shorter one in the place of what was given up.
        world.act(0, 300);
        world.agrees();
    }
}

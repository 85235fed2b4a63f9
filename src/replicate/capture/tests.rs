//! Capture against SQLite: whatever an app does, the segments applied in order make the app's database.

use super::*;
use crate::ltx::{Decoder, Event};
use crate::model::{DbPath, Txid, TxidRange, page_checksum};
use crate::replicate::capture::checkpoint::CheckpointDecision;
use crate::sqlite::Writers;
use proptest::prelude::*;
use rusqlite::Connection;

mod disturbed;
mod emptied;

struct World {
    _dir: tempfile::TempDir,
    path: DbPath,
    app: Connection,
    capture: Option<Capture>,
    replica: Vec<u8>,
    page_size: usize,
}

impl World {
    fn new(page_size: u32) -> World {
        let dir = tempfile::tempdir().unwrap();
        let path = DbPath::new(dir.path().join("app.db"));
        let app = Connection::open(path.as_path()).unwrap();
        app.busy_timeout(std::time::Duration::ZERO).unwrap();
        app.execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=wal;
             CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB); INSERT INTO t(x) VALUES (1)"
        ))
        .unwrap();
        let capture = Capture::scan_checksums(ReadHold::take(&path, Writers::None).unwrap()).unwrap();
        let page_size = capture.page_size().bytes();
        let mut world =
            World { _dir: dir, path, app, capture: Some(capture), replica: Vec::new(), page_size };
        let image = world.capture().full_snapshot().unwrap();
        world.apply(&image);
        world
    }

    fn capture(&mut self) -> &mut Capture {
        self.capture.as_mut().unwrap()
    }

    /// Encodes the draft, decodes it again, and applies it to the copy.
    fn apply(&mut self, draft: &Draft) {
        let mut header =
            crate::ltx::Header::new(draft.pages.files.page_size, draft.commit, TxidRange::single(Txid(2)), 0);
        header.wal_offset = 32;
        let mut file = Vec::new();
        draft
            .pages
            .encode(&header, 4096, |piece| {
                file.extend(piece);
                true
            })
            .unwrap();
        let mut decoder = Decoder::default();
        let mut rest = &file[..];
        self.replica.resize(draft.commit as usize * self.page_size, 0);
        while let Some(event) = decoder.next(&mut rest).unwrap() {
            if let Event::Page(page, data) = event {
                let at = (page.0 as usize - 1) * self.page_size;
                self.replica[at..at + self.page_size].copy_from_slice(data);
            }
        }
        decoder.finish().unwrap();
        let mut sum = DbChecksum::default();
        for (at, page) in self.replica.chunks(self.page_size).enumerate() {
            sum.toggle(page_checksum(PageNo(at as u32 + 1), page));
        }
        assert_eq!(sum, draft.db_checksum, "the segment states the database it leads to");
    }

    fn catch_up(&mut self) {
        loop {
            match self.capture().next() {
                Ok(None) => return,
                Ok(Some(draft)) => self.apply(&draft),
                // Several TRUNCATE checkpoints between two looks.
                Err(CaptureError::Broken(_)) => {
                    let draft = self.capture().compare().unwrap();
                    self.apply(&draft);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn checkpoint(&mut self, decision: CheckpointDecision) -> bool {
        self.catch_up();
        let mut rest = None;
        let done = self.capture().checkpoint(decision, |draft| {
            rest = Some(draft);
            Ok(())
        });
        if let Some(draft) = rest {
            self.apply(&draft);
        }
        done.unwrap()
    }

    fn agrees(&mut self) {
        self.catch_up();
        let copy = self.path.as_path().with_extension("copy");
        std::fs::write(&copy, &self.replica).unwrap();
        let ours = Connection::open(&copy).unwrap();
        let ok: String = ours.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(ok, "ok");
        assert_eq!(rows(&ours), rows(&self.app));
        drop(ours);
        for name in ["app.copy", "app.copy-wal", "app.copy-shm"] {
            let _ = std::fs::remove_file(copy.with_file_name(name));
        }
    }

    fn act(&mut self, act: u8, size: u16) {
        let app = &self.app;
        // Any of these may be refused (locked, busy): that is part of the game.
        let _ = match act % 13 {
            0..=3 => app.execute("INSERT INTO t(x) VALUES (randomblob(?1))", [size]).map(|_| ()),
            4 => app.execute("UPDATE t SET x = randomblob(?1) WHERE id % 3 = 0", [size]).map(|_| ()),
            5 => app.execute("DELETE FROM t WHERE id % 2 = 0 AND id > 1", []).map(|_| ()),
            6 => app.execute_batch("PRAGMA incremental_vacuum(5)"),
            7 => app.execute_batch("BEGIN; INSERT INTO t(x) VALUES (randomblob(9000)); ROLLBACK"),
            8 => app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"),
            9 => app.execute_batch("VACUUM"),
            10 => {
                self.checkpoint(CheckpointDecision::Gentle);
                Ok(())
            }
            11 => {
                self.checkpoint(CheckpointDecision::Locked);
                Ok(())
            }
            _ => {
                self.capture().raise_mark().unwrap();
                Ok(())
            }
        };
    }
}

fn rows(db: &Connection) -> Vec<(i64, Vec<u8>)> {
    let mut statement = db.prepare("SELECT id, CAST(x AS BLOB) FROM t ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_app_does_the_segments_make_its_database(
        page_size in prop::sample::select(vec![512u32, 4096, 65536]),
        acts in prop::collection::vec((any::<u8>(), 1u16..9000, prop::bool::ANY), 1..40),
    ) {
        let mut world = World::new(page_size);
        for (act, size, look) in acts {
            world.act(act, size);
            if look {
                world.catch_up();
            }
        }
        world.agrees();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// As long as the hold does not move, the app can do what it likes: its own checkpoints, a VACUUM, new
    /// WALs.
    #[test]
    fn a_snapshot_is_the_captured_state_whatever_the_app_does_meanwhile(
        page_size in prop::sample::select(vec![512u32, 4096, 65536]),
        before in prop::collection::vec((any::<u8>(), 1u16..9000), 0..20),
        during in prop::collection::vec((0u8..10, 1u16..9000), 0..20),
    ) {
        let mut world = World::new(page_size);
        for (act, size) in before {
            world.act(act, size);
        }
        world.catch_up();
        let at = world.replica.clone();
        let snapshot = world.capture().snapshot().unwrap().unwrap();
        for (act, size) in during {
            world.act(act, size);
        }
        world.replica = Vec::new();
        world.apply(&snapshot);
        prop_assert!(world.replica == at, "another state");
        prop_assert_eq!(snapshot.end, world.capture().cursor(), "nothing was captured by it");
        world.agrees();
    }
}

#[test]
fn the_wal_stays_small_under_checkpoints_of_ours() {
    let mut world = World::new(4096);
    let mut longest = 0;
    for round in 0..40 {
        for _ in 0..20 {
            world.act(0, 3000);
        }
        let decision = if round % 2 == 0 { CheckpointDecision::Gentle } else { CheckpointDecision::Locked };
        assert!(world.checkpoint(decision), "nobody is in the way");
        longest = longest.max(std::fs::metadata(world.path.wal()).unwrap().len());
    }
    assert!(longest < 60 * 3 * 4120, "{longest}");
    world.agrees();
}

#[test]
fn a_position_is_found_again_after_a_restart_of_ours() {
    let mut world = World::new(4096);
    world.act(0, 3000);
    world.catch_up();
    let at = world.capture().cursor().unwrap();
    world.act(0, 3000);
    world.capture = None;
    world.act(0, 3000);
    let mut capture = Capture::scan_checksums(ReadHold::take(&world.path, Writers::None).unwrap()).unwrap();
    assert_eq!(capture.on_chain(at.salts, at.offset).unwrap(), Some(at));
    assert_eq!(capture.on_chain(at.salts, at.offset + 1).unwrap(), None);
    assert_eq!(capture.on_chain(Salts(1, 1), at.offset).unwrap(), None);
    capture.rewind(at);
    world.capture = Some(capture);
    world.agrees();
}

/// The app may write before anybody has asked where the replica stands.
#[test]
fn a_file_that_is_the_replicas_state_is_continued_from_the_beginning_of_its_wal() {
    let mut world = World::new(4096);
    for _ in 0..50 {
        world.act(0, 3000);
    }
    assert!(world.checkpoint(CheckpointDecision::Gentle));
    let expected = world.capture().db_checksum();
    world.act(0, 300);
    world.act(0, 300);
    world.capture = None;
    let mut capture = Capture::scan_checksums(ReadHold::take(&world.path, Writers::None).unwrap()).unwrap();
    assert_ne!(capture.db_checksum(), expected);
    assert_eq!(capture.beginning_after(capture.db_checksum()).unwrap(), None);
    let start = capture.beginning_after(expected).unwrap().unwrap();
    capture.rewind(start);
    let draft = capture.next().unwrap().unwrap();
    assert!((1..6).contains(&draft.pages.list.len()), "{} pages", draft.pages.list.len());
    world.capture = Some(capture);
    world.apply(&draft);
    world.agrees();
}

/// More than one draft's worth behind the position: each segment must state the database that *it* leads to,
/// or a restore of what arrived before the next kill would find the replica damaged.
#[test]
fn what_is_behind_a_found_position_may_be_long() {
    let mut world = World::new(4096);
    world.app.execute_batch("CREATE TABLE u(x); INSERT INTO u VALUES (1)").unwrap();
    world.catch_up();
    let at = world.capture().cursor().unwrap();
    world.capture = None;
    world.app.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap();
    for _ in 0..6 {
        world.app.execute("INSERT INTO t(x) VALUES (randomblob(3000000))", []).unwrap();
    }
    // A page that only the last draft would hold.
    world.app.execute("UPDATE u SET x = 2", []).unwrap();
    let mut capture = Capture::scan_checksums(ReadHold::take(&world.path, Writers::None).unwrap()).unwrap();
    assert_eq!(capture.on_chain(at.salts, at.offset).unwrap(), Some(at));
    capture.rewind(at);
    world.capture = Some(capture);
    world.agrees();
    world.act(0, 3000);
    world.agrees();
}

/// What follows the found position may be in the database file already: then nothing keeps the WAL from being
/// started over.
#[test]
fn what_is_behind_a_found_position_may_leave_the_wal_before_it_is_captured() {
    for empty in [false, true] {
        let mut world = World::new(4096);
        world.act(0, 3000);
        world.catch_up();
        let at = world.capture().cursor().unwrap();
        world.capture = None;
        world.act(0, 3000);
        world.app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        let mut capture =
            Capture::scan_checksums(ReadHold::take(&world.path, Writers::None).unwrap()).unwrap();
        assert_eq!(capture.on_chain(at.salts, at.offset).unwrap(), Some(at));
        capture.rewind(at);
        world.capture = Some(capture);
        if empty {
            world.act(8, 0);
        }
        world.act(0, 300);
        world.agrees();
    }
}

/// Only what is not in the file yet would be missed if the WAL got lost.
#[test]
fn the_file_is_complete_when_every_captured_frame_is_copied() {
    let mut world = World::new(4096);
    world.act(0, 3000);
    world.catch_up();
    assert!(!world.capture().copied());
    assert!(world.checkpoint(CheckpointDecision::Gentle));
    assert!(world.capture().copied());
    world.act(8, 0);
    assert!(world.capture().copied(), "the WAL is empty");
    world.act(0, 3000);
    world.catch_up();
    assert!(!world.capture().copied());
    // The app's own checkpoint, up to where the hold has moved.
    world.capture().compare().unwrap();
    world.app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
    assert!(world.capture().copied());
}

#[test]
fn checkpoints_of_the_app_that_empty_the_wal_lose_nothing_and_cost_no_image() {
    let mut world = World::new(4096);
    for _ in 0..3 {
        world.act(0, 3000);
        assert!(world.checkpoint(CheckpointDecision::Gentle));
        for _ in 0..3 {
            world.act(8, 0);
            assert_eq!(std::fs::metadata(world.path.wal()).unwrap().len(), 0);
            world.catch_up();
        }
    }
    world.act(0, 3000);
    world.agrees();
}

/// Without a look in between: the salts count on, and nothing was written meanwhile.
#[test]
fn several_truncating_checkpoints_between_two_looks_are_no_break() {
    let mut world = World::new(4096);
    for times in [1, 2, 5] {
        world.act(0, 3000);
        assert!(world.checkpoint(CheckpointDecision::Gentle));
        for _ in 0..times {
            world.act(8, 0);
        }
        world.act(0, 3000);
        let draft = world.capture().next().unwrap().unwrap();
        world.apply(&draft);
    }
    world.agrees();
}

#[test]
fn what_was_skipped_is_found_by_a_comparison() {
    let mut world = World::new(4096);
    for _ in 0..100 {
        world.act(0, 3000);
    }
    world.catch_up();
    for _ in 0..20 {
        world.act(0, 9000);
    }
    world.capture().skip();
    assert!(world.capture().skipped_bytes() > 20 * 9000);
    assert!(world.capture().let_go().unwrap());
    assert!(world.capture().truncate().unwrap());
    world.act(0, 3000);
    assert!(matches!(world.capture().next(), Err(CaptureError::Broken(_))));
    let draft = world.capture().compare().unwrap();
    assert!(draft.pages.list.len() < draft.commit as usize, "only what changed");
    world.apply(&draft);
    assert_eq!(world.capture().skipped_bytes(), 0);
    world.act(0, 3000);
    world.agrees();
}

#[test]
fn a_wal_that_is_truncated_by_force_breaks_the_chain() {
    let mut world = World::new(4096);
    world.act(0, 3000);
    world.catch_up();
    let wal = std::fs::OpenOptions::new().write(true).open(world.path.wal()).unwrap();
    wal.set_len(0).unwrap();
    world.act(0, 3000);
    assert!(matches!(world.capture().next(), Err(CaptureError::Broken(_))));
}

#[test]
fn after_a_break_only_what_changed_is_captured() {
    let mut world = World::new(4096);
    for _ in 0..50 {
        world.act(0, 3000);
    }
    assert!(world.checkpoint(CheckpointDecision::Gentle));
    world.act(8, 0);
    world.act(0, 300);
    world.capture().skip();
    assert!(matches!(world.capture().next(), Err(CaptureError::Broken(_))));
    let draft = world.capture().compare().unwrap();
    assert!((1..6).contains(&draft.pages.list.len()), "{} pages", draft.pages.list.len());
    world.apply(&draft);
    world.act(0, 300);
    world.agrees();
}

/// SQLite never writes the page at 1 GiB, where its locks are; no file of the replica may hold it. The
/// database is a hole but for its ends.
#[test]
fn the_lock_page_is_in_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    let path = DbPath::new(dir.path().join("app.db"));
    let app = Connection::open(path.as_path()).unwrap();
    app.execute_batch("PRAGMA page_size=65536; CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
    drop(app);
    // 16383 pages: the next but one is the lock page.
    let file = std::fs::OpenOptions::new().write(true).open(path.as_path()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &16383u32.to_be_bytes(), 28).unwrap();
    file.set_len(16383 * 65536).unwrap();
    let lock = PageNo(16385);
    let mut capture = Capture::scan_checksums(ReadHold::take(&path, Writers::None).unwrap()).unwrap();
    let app = Connection::open(path.as_path()).unwrap();
    app.execute_batch("INSERT INTO t VALUES (zeroblob(200000))").unwrap();
    let draft = capture.next().unwrap().unwrap();
    let pages: Vec<u32> = draft.pages.list.iter().map(|entry| entry.page.0).collect();
    assert!(pages.contains(&16384) && pages.contains(&16386) && !pages.contains(&lock.0), "{pages:?}");
    assert!(draft.commit > lock.0, "{}", draft.commit);
    let image = capture.full_snapshot().unwrap();
    assert_eq!(image.pages.list.len() as u32, image.commit - 1);
    assert!(image.pages.list.iter().all(|entry| entry.page != lock));
    assert_eq!(image.db_checksum, draft.db_checksum);
}

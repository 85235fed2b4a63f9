//! WALs that are emptied, and begun again by one connection or another.

use super::*;

/// The first to write after one that another connection has made begins the WAL with salts of its own making,
/// if it has never started one over itself.
#[test]
fn a_new_writer_after_a_truncating_checkpoint_is_no_break() {
    let mut world = World::new(4096);
    for spills in [false, true] {
        world.act(0, 3000);
        assert!(world.checkpoint(CheckpointDecision::Gentle));
        let before = world.capture().cursor().unwrap();
        world.act(8, 0);
        let other = Connection::open(world.path.as_path()).unwrap();
        if spills {
            let spill = "PRAGMA cache_size=2; BEGIN;
                         INSERT INTO t(x) SELECT randomblob(4000) FROM json_each('[1,2,3,4,5,6,7,8,9]')";
            other.execute_batch(spill).unwrap();
            assert!(std::fs::metadata(world.path.wal()).unwrap().len() > 4096);
            assert!(world.capture().next().unwrap().is_none(), "nothing is committed");
            other.execute_batch("COMMIT").unwrap();
        } else {
            other.execute_batch("INSERT INTO t(x) VALUES (2)").unwrap();
        }
        let header = frames::header(&world.capture().hold).unwrap().unwrap();
        assert_eq!(before.state_in(&header), CursorState::Lost, "what this test is about");
        let draft = world.capture().next().unwrap().unwrap();
        world.apply(&draft);
    }
    world.agrees();
}

/// The app may empty the WAL and begin it anew at any moment of a look.
#[test]
fn a_wal_that_is_emptied_and_begun_all_the_time_is_no_break() {
    let mut world = World::new(4096);
    let app = Connection::open(world.path.as_path()).unwrap();
    app.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let write = "INSERT INTO t(x) VALUES (2); PRAGMA wal_checkpoint(TRUNCATE)";
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || (0..200).all(|_| app.execute_batch(write).is_ok()));
        // Without the hold the writer comes to its end after a panic, too.
        let mut capture = world.capture.take().unwrap();
        while !writer.is_finished() {
            capture.step_aside(|_| Ok(())).unwrap();
        }
    });
}

/// A transaction that spills into a fresh WAL and is rolled back has written the header. The next writer
/// writes it again: with the same salts, and with its own count of checkpoints.
#[test]
fn a_header_that_is_written_twice_hides_nothing() {
    let mut world = World::new(4096);
    let other = Connection::open(world.path.as_path()).unwrap();
    other.execute_batch("INSERT INTO t(x) VALUES (2)").unwrap();
    for _ in 0..3 {
        assert!(world.checkpoint(CheckpointDecision::Gentle));
        world.app.execute_batch("INSERT INTO t(x) VALUES (3)").unwrap();
    }
    assert!(world.checkpoint(CheckpointDecision::Gentle));
    other.execute_batch("INSERT INTO t(x) VALUES (4)").unwrap();
    assert!(world.checkpoint(CheckpointDecision::Gentle));
    let spill = "PRAGMA cache_size=2; BEGIN;
                 INSERT INTO t(x) SELECT randomblob(4000) FROM json_each('[1,2,3,4,5,6,7,8,9]'); ROLLBACK";
    world.app.execute_batch(spill).unwrap();
    world.capture = None;
    let capture = Capture::scan_checksums(ReadHold::take(&world.path, Writers::None).unwrap()).unwrap();
    assert_eq!(capture.cursor().map(|cursor| cursor.offset), Some(crate::wal::HEADER));
    world.capture = Some(capture);
    other.execute_batch("INSERT INTO t(x) VALUES (5)").unwrap();
    let draft = world.capture().next().unwrap();
    world.apply(&draft.expect("the commit is found"));
    world.agrees();
}

/// Under the hold, too: the wal-index knows nothing of it.
#[test]
fn another_wal_in_the_same_file_is_a_break() {
    let mut other = World::new(4096);
    other.act(0, 3000);
    let theirs = std::fs::read(other.path.wal()).unwrap();
    let mut world = World::new(4096);
    world.act(0, 3000);
    world.catch_up();
    std::fs::write(world.path.wal(), theirs).unwrap();
    assert!(world.capture().in_force());
    let next = world.capture().next();
    assert!(matches!(next, Err(CaptureError::Broken(REPLACED))), "{:?}", next.err());
}

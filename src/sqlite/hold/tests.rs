//! The facts about SQLite on which the hold rests, tried on SQLite. "The app" is another connection; where another
//! process matters (POSIX locks), the tests of the shipped binary have one.

use super::*;
use crate::wal::{Cursor, Place, WalHeader};
use std::time::Duration;

type Answer = Result<bool, SqliteError>;
use rusqlite::Connection;

fn header(hold: &ReadHold) -> Option<WalHeader> {
    let mut bytes = [0; 32];
    let got = hold.read_wal(0, &mut bytes).unwrap();
    WalHeader::parse(&bytes[..got])
}

struct Case {
    _dir: tempfile::TempDir,
    path: DbPath,
    app: Connection,
}

impl Case {
    fn new() -> Case {
        let dir = tempfile::tempdir().unwrap();
        let path = DbPath::new(dir.path().join("app.db"));
        let app = Connection::open(path.as_path()).unwrap();
        app.busy_timeout(Duration::ZERO).unwrap();
        app.execute_batch("PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)").unwrap();
        Case { _dir: dir, path, app }
    }

    fn write(&self, times: usize) {
        for _ in 0..times {
            self.app.execute("INSERT INTO t VALUES (randomblob(900))", []).unwrap();
        }
    }

    fn checkpoint(&self, mode: &str) -> (i64, i64, i64) {
        self.app
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
    }
}

#[test]
fn nobody_restarts_the_wal_under_a_hold_with_a_mark() {
    let case = Case::new();
    let hold = ReadHold::take(&case.path).unwrap();
    let salts = header(&hold).unwrap().salts;
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        case.write(3);
        case.checkpoint(mode);
        case.write(1);
        assert_eq!(header(&hold).unwrap().salts, salts, "{mode}");
    }
}

#[test]
fn under_mark_zero_the_wal_restarts_once_and_nothing_of_it_is_copied() {
    let case = Case::new();
    case.write(3);
    assert_eq!(case.checkpoint("PASSIVE").0, 0);
    let hold = ReadHold::take(&case.path).unwrap();
    let old = Cursor::start(&header(&hold).unwrap());
    case.write(3);
    let place = old.place(&header(&hold).unwrap());
    let Place::Restarted(new) = place else { panic!("{place:?}") };
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        let (busy, _, copied) = case.checkpoint(mode);
        assert!(copied <= 0 || busy == 1, "{mode}: {copied} frames copied");
        case.write(2);
        assert_eq!(new.place(&header(&hold).unwrap()), Place::Here, "{mode}");
    }
}

#[test]
fn advance_copies_everything_and_the_hold_stays() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path).unwrap();
    case.write(10);
    let first = hold.advance().unwrap();
    assert!(first.complete() && first.wal_frames >= 10, "{first:?}");
    let salts = header(&hold).unwrap().salts;
    case.write(1);
    assert_eq!(header(&hold).unwrap().salts, salts, "the second hold has a mark too");
}

#[test]
fn a_quiet_wal_is_restarted_by_the_next_writer_without_any_lock() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path).unwrap();
    case.write(10);
    let before = Cursor::start(&header(&hold).unwrap());
    assert!(hold.advance().unwrap().complete());
    assert!(hold.let_restart(|_| Answer::Ok(true)).unwrap());
    case.write(1);
    assert!(matches!(before.place(&header(&hold).unwrap()), Place::Restarted(_)));
    assert!(hold.advance().unwrap().complete());
}

#[test]
fn a_commit_that_comes_meanwhile_keeps_the_wal() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path).unwrap();
    case.write(10);
    let salts = header(&hold).unwrap().salts;
    assert!(hold.advance().unwrap().complete());
    assert!(!hold.let_restart(|_| Answer::Ok(false)).unwrap());
    case.write(1);
    assert_eq!(header(&hold).unwrap().salts, salts);
}

#[test]
fn the_locked_way_works_while_the_app_writes_and_gives_up_when_it_may_not() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path).unwrap();
    case.write(10);
    let before = Cursor::start(&header(&hold).unwrap());
    assert!(!hold.let_restart_locked(|_| Answer::Ok(false)).unwrap());
    case.app.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(!hold.let_restart_locked(|_| -> Answer { panic!("the app has the write lock") }).unwrap());
    case.app.execute_batch("COMMIT").unwrap();
    assert!(hold.let_restart_locked(|_| Answer::Ok(true)).unwrap());
    case.write(1);
    assert!(matches!(before.place(&header(&hold).unwrap()), Place::Restarted(_)));
}

#[test]
fn another_reader_with_an_old_mark_makes_it_give_up() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path).unwrap();
    case.write(5);
    let reader = Connection::open(case.path.as_path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    case.write(5);
    assert!(!hold.advance().unwrap().complete());
    assert!(!hold.let_restart_locked(|_| Answer::Ok(true)).unwrap());
    let salts = header(&hold).unwrap().salts;
    reader.execute_batch("ROLLBACK").unwrap();
    case.write(1);
    assert_eq!(header(&hold).unwrap().salts, salts, "the hold was kept");
}

#[test]
fn a_database_in_delete_mode_is_switched_and_an_empty_file_is_not_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = DbPath::new(dir.path().join("app.db"));
    assert!(matches!(ReadHold::take(&path), Err(SqliteError::NotYet { .. })));
    std::fs::write(path.as_path(), b"").unwrap();
    assert!(matches!(ReadHold::take(&path), Err(SqliteError::NotYet { .. })));
    std::fs::write(path.as_path(), [7; 4096]).unwrap();
    assert!(matches!(ReadHold::take(&path), Err(SqliteError::Failed { .. })));
    let other = DbPath::new(dir.path().join("other.db"));
    Connection::open(other.as_path()).unwrap().execute_batch("PRAGMA page_size=512; CREATE TABLE t(x)").unwrap();
    let hold = ReadHold::take(&other).unwrap();
    assert_eq!(hold.page_size().get(), 512);
    assert!(header(&hold).is_none());
    assert_eq!(hold.missing(), None);
    std::fs::rename(other.as_path(), dir.path().join("gone.db")).unwrap();
    assert_eq!(hold.missing(), Some(Missing::Database));
}

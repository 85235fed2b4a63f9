//! The facts about SQLite on which the hold rests, tried on SQLite. "The app" is another connection; where
//! another process matters (POSIX locks), the tests of the shipped binary have one.

use super::*;
use crate::wal::{Cursor, CursorState, WalHeader};
use std::io::{BufRead, BufReader, Write};
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
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap()
    }
}

/// An app in another process, statement by statement.
struct Other {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Other {
    fn open(path: &DbPath) -> Other {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n\
                      for line in sys.stdin:\n    r = c.execute(line).fetchall()\n    \
                      print(r[0][0] if r else '-', flush=True)";
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(path.as_path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Other { child, lines }
    }

    fn ask(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn answer(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn nobody_restarts_the_wal_under_a_hold_with_a_mark() {
    let case = Case::new();
    let hold = ReadHold::take(&case.path, Writers::None).unwrap();
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
    let hold = ReadHold::take(&case.path, Writers::None).unwrap();
    let old = Cursor::start(&header(&hold).unwrap());
    case.write(3);
    let place = old.state_in(&header(&hold).unwrap());
    let CursorState::Restarted(new) = place else { panic!("{place:?}") };
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        let (busy, _, copied) = case.checkpoint(mode);
        assert!(copied <= 0 || busy == 1, "{mode}: {copied} frames copied");
        case.write(2);
        assert_eq!(new.state_in(&header(&hold).unwrap()), CursorState::Here, "{mode}");
    }
}

/// What an app that writes on does with its automatic checkpoints, one after each commit.
#[test]
fn off_mark_zero_a_checkpoint_copies_up_to_the_mark_and_the_wal_stays() {
    let case = Case::new();
    case.write(3);
    assert_eq!(case.checkpoint("PASSIVE").0, 0);
    let mut hold = ReadHold::take(&case.path, Writers::None).unwrap();
    let view = hold.view().unwrap();
    case.write(3);
    let start = Cursor::start(&header(&hold).unwrap());
    assert!(view.mark_is_zero());
    assert_eq!(case.checkpoint("PASSIVE").2, 0);
    let marked = view.end().unwrap().offset;
    hold.renew().unwrap();
    assert!(!view.mark_is_zero() && hold.in_force());
    case.write(3);
    case.checkpoint("PASSIVE");
    let end = view.end().unwrap();
    assert_eq!((end.copied, end.offset > marked), (marked, true), "{end:?}");
    case.checkpoint("TRUNCATE");
    case.write(1);
    assert_eq!(start.state_in(&header(&hold).unwrap()), CursorState::Here, "nothing captured is gone");
}

#[test]
fn advance_copies_everything_and_the_hold_stays() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path, Writers::None).unwrap();
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
    let mut hold = ReadHold::take(&case.path, Writers::None).unwrap();
    case.write(10);
    let before = Cursor::start(&header(&hold).unwrap());
    assert!(hold.advance().unwrap().complete());
    assert!(hold.let_restart(|_| Answer::Ok(true)).unwrap());
    case.write(1);
    assert!(matches!(before.state_in(&header(&hold).unwrap()), CursorState::Restarted(_)));
    assert!(hold.advance().unwrap().complete());
}

#[test]
fn a_commit_that_comes_meanwhile_keeps_the_wal() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path, Writers::None).unwrap();
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
    let mut hold = ReadHold::take(&case.path, Writers::None).unwrap();
    case.write(10);
    let before = Cursor::start(&header(&hold).unwrap());
    assert!(!hold.let_restart_locked(|_| Answer::Ok(false)).unwrap());
    case.app.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(!hold.let_restart_locked(|_| -> Answer { panic!("the app has the write lock") }).unwrap());
    case.app.execute_batch("COMMIT").unwrap();
    assert!(hold.let_restart_locked(|_| Answer::Ok(true)).unwrap());
    case.write(1);
    assert!(matches!(before.state_in(&header(&hold).unwrap()), CursorState::Restarted(_)));
}

#[test]
fn another_reader_with_an_old_mark_makes_it_give_up() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path, Writers::None).unwrap();
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
    assert!(matches!(ReadHold::take(&path, Writers::None), Err(SqliteError::NotYet { .. })));
    std::fs::write(path.as_path(), b"").unwrap();
    assert!(matches!(ReadHold::take(&path, Writers::None), Err(SqliteError::NotYet { .. })));
    std::fs::write(path.as_path(), [7; 4096]).unwrap();
    assert!(matches!(ReadHold::take(&path, Writers::None), Err(SqliteError::Failed { .. })));
    let other = DbPath::new(dir.path().join("other.db"));
    Connection::open(other.as_path())
        .unwrap()
        .execute_batch("PRAGMA page_size=512; CREATE TABLE t(x)")
        .unwrap();
    let hold = ReadHold::take(&other, Writers::None).unwrap();
    assert_eq!(hold.page_size().get(), 512);
    assert!(header(&hold).is_none());
    assert_eq!(hold.missing(), None);
    std::fs::rename(other.as_path(), dir.path().join("gone.db")).unwrap();
    assert_eq!(hold.missing(), Some(Missing::Database));
}

/// What the view reads in the wal-index is what SQLite says.
#[test]
fn the_view_shows_what_sqlite_knows() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path, Writers::None).unwrap();
    let view = hold.view().unwrap();
    let frame = crate::wal::frame_size(hold.page_size());
    for _ in 0..3 {
        case.write(7);
        let end = view.end().unwrap();
        assert_eq!(end.salts, header(&hold).unwrap().salts);
        let pages: u32 = case.app.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        assert_eq!(end.pages, pages);
        let (_, frames, copied) = case.checkpoint("NOOP");
        assert_eq!((end.offset - 32) / frame, frames as u64);
        assert_eq!((end.copied - 32) / frame, copied as u64);
        assert!(view.room().unwrap().growth > 0, "{:?}", view.room());
        assert!(hold.advance().unwrap().complete());
        assert_eq!(view.end().unwrap().copied, view.end().unwrap().offset);
        assert_eq!(view.room().unwrap().growth, 0);
    }
    assert!(hold.in_force());
    case.app.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (randomblob(90000))").unwrap();
    let before = view.end().unwrap();
    case.app.execute_batch("PRAGMA cache_spill=1; INSERT INTO t VALUES (randomblob(9000000))").unwrap();
    assert_eq!(view.end().unwrap(), before, "only what is committed counts");
}

/// Another process in a checkpoint that waits for our hold shows in the locks; a writer alone, or one that
/// copies, does not.
#[test]
fn a_checkpoint_that_waits_for_the_hold_is_seen() {
    let case = Case::new();
    case.write(5);
    let mut hold = ReadHold::take(&case.path, Writers::None).unwrap();
    let view = hold.view().unwrap();
    case.write(5);
    let mut other = Other::open(&case.path);
    for line in ["BEGIN IMMEDIATE", "INSERT INTO t VALUES (1)"] {
        other.ask(line);
        other.answer();
        assert!(!view.checkpointer_waits(), "{line}");
    }
    other.ask("COMMIT");
    other.answer();
    for mode in ["FULL", "RESTART", "TRUNCATE"] {
        case.write(3);
        other.ask(&format!("PRAGMA wal_checkpoint({mode})"));
        let begun = Instant::now();
        while !view.checkpointer_waits() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{mode} is not seen");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Out of the way, twice: to the end, and off the WAL once everything is copied.
        while view.checkpointer_waits() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{mode} does not go through");
            hold.let_restart(|_| Answer::Ok(true)).unwrap();
        }
        assert_eq!(other.answer(), "0", "{mode}");
    }
}

/// Another process has the same read mark, and had the database open before us: the kernel names its lock.
#[test]
fn a_reader_of_the_same_mark_hides_no_hold() {
    let dir = tempfile::tempdir().unwrap();
    let path = DbPath::new(dir.path().join("app.db"));
    let mut other = Other::open(&path);
    for line in [
        "PRAGMA journal_mode=wal",
        "CREATE TABLE t(x)",
        "INSERT INTO t VALUES (1)",
        "BEGIN",
        "SELECT x FROM t",
    ] {
        other.ask(line);
        other.answer();
    }
    let hold = ReadHold::take(&path, Writers::None).unwrap();
    assert!(hold.in_force());
    hold.holder.end().unwrap();
    assert!(!hold.in_force(), "the reader's lock is not ours");
}

/// `truncate` empties a WAL that is copied, and never one with a commit that was not captured, whatever comes
/// in between.
#[test]
fn emptying_the_wal_loses_no_commit() {
    let case = Case::new();
    let mut hold = ReadHold::take(&case.path, Writers::None).unwrap();
    case.write(50);
    assert!(!hold.truncate().unwrap(), "nothing is copied, and the hold has a mark");
    assert!(hold.advance().unwrap().complete());
    assert!(!hold.truncate().unwrap(), "everything is copied, and the hold has a mark");
    assert!(hold.let_restart(|_| Answer::Ok(true)).unwrap());
    case.write(1);
    let (end, length) = (hold.view().unwrap().end().unwrap(), hold.wal_len().unwrap());
    assert!(!hold.truncate().unwrap(), "a commit came since");
    assert_eq!((hold.view().unwrap().end().unwrap(), hold.wal_len().unwrap()), (end, length));
    assert!(hold.advance().unwrap().complete());
    assert!(hold.let_restart(|_| Answer::Ok(true)).unwrap());
    let reader = Connection::open(case.path.as_path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    assert!(hold.truncate().unwrap(), "a reader of the database file alone is not in the way");
    assert_eq!(hold.wal_len().unwrap(), 0);
    let rows: i64 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 51);
    case.write(1);
    assert!(hold.wal_len().unwrap() > 0);
    case.app.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    assert!(!hold.truncate().unwrap(), "a writer is at work");
    assert!(begun.elapsed() < Duration::from_millis(100), "it does not wait");
}

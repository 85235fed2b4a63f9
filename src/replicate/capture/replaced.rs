//! A database whose file was overwritten, replaced or removed while it was replicated. Nothing of it is
//! uploaded until what stands at its path is whole: no process uses the files that were there before, SQLite
//! finds the structure sound, and the file does not change meanwhile. Then a session uploads it as a whole.
//! Until then the status is red.

use super::watch::{Stat, stat};
use crate::model::DbPath;
use crate::sqlite::files::{self, User};
use crate::sqlite::{FileStamp, ReadHold, SqliteError, Writers};
use crate::wal::{Cursor, FRAME_HEADER, FrameHeader, HEADER, WalHeader};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// A file that does not change for this long is not being written.
const STABLE: Duration = Duration::from_millis(300);

/// A WAL that is captured and copied to its end: a file that overwrites the database makes it stale, and
/// SQLite would apply it to that file when it recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedWal {
    pub end: Cursor,
    pub frame_size: u64,
}

impl FinishedWal {
    /// Whether `wal` is this WAL and ends where it ended.
    pub fn is(&self, wal: &File) -> bool {
        let mut header = [0; HEADER as usize];
        let got = files::read_full(wal, 0, &mut header).unwrap_or(0);
        let Some(header) = WalHeader::parse(header.get(..got).unwrap_or_default()) else { return false };
        let frame_at = |offset| {
            let mut bytes = [0; FRAME_HEADER];
            let got = files::read_full(wal, offset, &mut bytes).ok()?;
            FrameHeader::parse(bytes.get(..got)?).filter(|frame| frame.salts == header.salts)
        };
        let last = self.end.last_frame(self.frame_size);
        let last_is_there =
            last.is_none_or(|mark| frame_at(mark.offset).is_some_and(|frame| mark.is(&frame)));
        header.salts == self.end.salts && last_is_there && frame_at(self.end.offset).is_none()
    }
}

/// What was there before, and why the session ended.
pub struct Replacement {
    pub why: String,
    /// The old database file, and its WAL as it was.
    old: Arc<File>,
    wal: (Arc<File>, Option<(u64, i64, i64)>),
    /// In the clock of `started`.
    noticed: Option<u64>,
    finished: Option<FinishedWal>,
    /// What was found at the path, and how it looked then.
    broken: Option<(Stat, String)>,
}

impl std::fmt::Debug for Replacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::fmt::Display for Replacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

/// What a look found.
pub enum FileState {
    /// There is no database at the path, and no process uses the old one. `lost`: the old one was written to
    /// after it was removed.
    Absent {
        lost: bool,
    },
    /// A process uses the files that were there before.
    InUse(User),
    Locked(String),
    /// It is no sound database.
    Broken(String),
    /// It is being written.
    Changing,
    Whole(Box<ReadHold>),
}

impl Replacement {
    pub fn new(why: String, hold: &ReadHold, finished: Option<FinishedWal>) -> Replacement {
        let wal = Arc::clone(hold.wal_file());
        let written = FileStamp::of(&wal).ok().map(|stamp| stamp.written());
        Replacement {
            why,
            old: Arc::clone(hold.db_file()),
            wal: (wal, written),
            noticed: now(),
            finished,
            broken: None,
        }
    }

    /// Blocks.
    pub fn inspect(&mut self, db: &DbPath) -> FileState {
        let same = files::is(db.as_path(), &self.old);
        // The last close of the app removes the WAL, if nothing of ours is in its way.
        files::unguard(&self.old);
        if let Some(user) = files::user_of(&self.old).filter(|user| !same || self.is_old(*user)) {
            return FileState::InUse(user);
        }
        if !std::fs::metadata(db.as_path()).is_ok_and(|meta| meta.len() > 0) {
            return FileState::Absent { lost: !same && self.was_written() };
        }
        if let Some(finished) = self.finished.filter(|_| same)
            && files::remove_sides_alone(db, |wal| finished.is(wal)).is_ok_and(|removed| removed)
        {
            tracing::warn!(%db, "removed the -wal of the database that was overwritten: all of it is in the \
                replica");
            self.finished = None;
        }
        let stat = stat(db);
        if let Some((known, why)) = &self.broken
            && *known == stat
        {
            return FileState::Broken(why.clone());
        }
        match whole(db) {
            Ok(FileState::Broken(why)) | Err(SqliteError::Failed { detail: why, .. }) => {
                self.broken = Some((stat, why.clone()));
                FileState::Broken(why)
            }
            Ok(found) => found,
            Err(SqliteError::NotYet { .. }) => FileState::Absent { lost: false },
            Err(error) => FileState::Locked(error.to_string()),
        }
    }

    /// Whether a process has had the database open since before the replacement was noticed. Unknown: it has.
    fn is_old(&self, user: User) -> bool {
        let times = (user.pid.and_then(started), self.noticed);
        !matches!(times, (Some(started), Some(noticed)) if started > noticed)
    }

    fn was_written(&self) -> bool {
        let (wal, before) = &self.wal;
        FileStamp::of(wal).ok().map(|stamp| stamp.written()) != *before
    }
}

/// Whether the file at the path is a sound database that nobody is just writing.
fn whole(db: &DbPath) -> Result<FileState, SqliteError> {
    let hold = ReadHold::take(db, Writers::MAY_COME)?;
    let before = hold.stamp()?;
    std::thread::sleep(STABLE);
    if let Some(problem) = hold.structure_problem()? {
        return Ok(FileState::Broken(problem));
    }
    let changes = hold.stamp()? != before || hold.missing().is_some();
    Ok(if changes { FileState::Changing } else { FileState::Whole(Box::new(hold)) })
}

/// When a process was started, in the kernel's ticks. None: it is gone, or we may not see it.
fn started(pid: i32) -> Option<u64> {
    started_ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The present moment in the same ticks: the kernel notes it for every new thread.
fn now() -> Option<u64> {
    let thread =
        std::thread::Builder::new().spawn(|| std::fs::read_to_string("/proc/thread-self/stat").ok()).ok()?;
    started_ticks(&thread.join().ok()??)
}

/// Field 22 of `/proc/PID/stat`. The second field is a name in parentheses that may hold anything.
fn started_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// What is wrong, and what to do about it.
pub fn advice(why: &str, found: &FileState) -> String {
    match found {
        FileState::InUse(User { pid }) => {
            let process = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            format!(
                "{why}, and {process} still uses what was there before: its commits may be lost. Restart the \
                 app"
            )
        }
        FileState::Broken(problem) => format!(
            "{why}, and what is there now is no sound database ({problem}). Stop the app and litevisor, \
             remove the file, its -wal and its -shm, and start: the replica's newest state is restored. To \
             go on from a backup, put it there before the start and see `Restoring a backup by hand` in \
             docs/databases.md"
        ),
        FileState::Locked(error) => format!("{why}, and it cannot be read yet: {error}"),
        FileState::Absent { .. } | FileState::Changing | FileState::Whole(_) => {
            format!("{why}: waiting until it is whole")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 2 3";
        assert_eq!(started_ticks(stat), Some(12345));
        assert_eq!(started_ticks("7 (a"), None);
        assert!(started(std::process::id() as i32).unwrap() <= now().unwrap());
        assert_eq!(started(i32::MAX), None);
    }

    #[test]
    fn every_problem_says_what_to_do() {
        let user = User { pid: Some(7) };
        for (found, part) in [
            (FileState::InUse(user), "process 7 still uses what was there before"),
            (FileState::InUse(User { pid: None }), "Restart the app"),
            (FileState::Broken("x".into()), "Stop the app and litevisor"),
            (FileState::Locked("y".into()), "cannot be read yet: y"),
            (FileState::Changing, "waiting"),
        ] {
            let text = advice("the file was overwritten", &found);
            assert!(text.starts_with("the file was overwritten") && text.contains(part), "{text}");
        }
    }
}

//! The hold: a read transaction of litevisor that keeps every frame in the WAL until it is captured, without
//! a table or a row in the user's database. Two connections take turns, so that a hold is always in force.
//!
//! Why it works (SQLite, wal.c): a reader that began while frames were not yet copied into the database has a
//! read mark n > 0; checkpoints copy at most up to n, and no writer can restart the WAL. A reader that began
//! when all frames were copied holds mark 0: the next writer restarts the WAL, but as long as mark 0 is held
//! no frame of the new WAL is copied, so it only grows. In both cases no frame behind the hold can be
//! overwritten. Only the step from one hold to the next matters: it is safe if everything up to the first
//! hold's mark has been captured before the second hold is taken.

use super::connection::{Link, with_patience};
use super::error::SqliteError;
use super::files::{self, FileId, Named, read_full};
use super::follow;
use super::stamp::FileStamp;
use super::wal_view::{self, WalView};
use crate::model::{DB_MAGIC, DbPath, PageSize};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Tries to take the write lock, and looks of each.
const TRIES: usize = 20;
const LOOKS_EACH: i32 = 50;
/// How long writers are kept out while the app, which makes a checkpoint after a commit, copies by itself.
const APP_COPIES: usize = 200;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// How far a checkpoint got, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfill {
    pub wal_frames: i64,
    pub copied_frames: i64,
}

impl Backfill {
    pub fn complete(self) -> bool {
        self.wal_frames == self.copied_frames
    }
}

/// What is not where it was when the hold was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Database,
    /// Its `-wal` was left. We leave it, too: the app may be writing to it again.
    DatabaseWithoutWal,
    /// The path names no file. Processes that have the file open, as litevisor has, continue to use it.
    Wal,
    /// Another one is written to in its place.
    WalForAnother,
    /// As with the `-wal`.
    Shm,
    /// Processes that have the other file open do not see litevisor's locks.
    ShmForAnother,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Missing::Database => "the database file was replaced or removed",
            Missing::DatabaseWithoutWal => {
                "the database file was replaced or removed, but its -wal was left there: SQLite applies it \
                 to the file that takes the place and may destroy that. When you replace a database, remove \
                 its -wal and -shm, too"
            }
            Missing::Wal => "its -wal file was removed while it was in use",
            Missing::WalForAnother => "its -wal file was replaced",
            Missing::Shm => "its -shm file was removed while it was in use",
            Missing::ShmForAnother => "its -shm file was replaced",
        })
    }
}

/// Who may be about to write to a database that is not in WAL mode yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// The app is not started, or has ended.
    None,
    /// An app that may not wait for any lock: none is taken before the file has been quiet for so long.
    MayCome { quiet: Duration },
}

impl Writers {
    /// A file in rollback mode that was not written to for this long is not just being made.
    pub const MAY_COME: Writers = Writers::MayCome { quiet: Duration::from_secs(2) };
}

/// Whether no process has written to a database in rollback mode for so long.
fn is_quiet(path: &DbPath, db: &File, quiet: Duration) -> bool {
    let journal = std::fs::metadata(path.journal()).is_ok_and(|meta| meta.len() > 0);
    let written = db.metadata().and_then(|meta| meta.modified());
    let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    !journal && age.is_some_and(|age| age >= quiet)
}

pub struct ReadHold {
    path: DbPath,
    page_size: PageSize,
    db_id: FileId,
    db: Arc<File>,
    wal_id: FileId,
    wal: Arc<File>,
    /// The wal-index, which has the locks of all processes.
    shm_id: Option<FileId>,
    index: Option<Arc<File>>,
    holder: Link,
    free: Link,
}

impl ReadHold {
    /// Opens the database, switches it to WAL mode if need be, and holds its WAL from now on. `writers`, who
    /// may write to it at this moment, decide when it can be switched.
    pub fn take(path: &DbPath, writers: Writers) -> Result<ReadHold, SqliteError> {
        ReadHold::try_take(path, writers).map_err(|error| match error {
            SqliteError::Failed { operation, subject, .. } if read_only(path) => {
                SqliteError::ReadOnly { operation, subject }
            }
            other => other,
        })
    }

    fn try_take(path: &DbPath, writers: Writers) -> Result<ReadHold, SqliteError> {
        refuse_link(path)?;
        let (db_id, db) =
            files::keep(path.as_path()).map_err(|error| SqliteError::io("open", path, &error))?;
        let rollback_mode = read_header(path, &db)?.rollback_mode;
        // Before the first statement: each takes a SHARED lock, which blocks a commit in rollback mode.
        if rollback_mode
            && let Writers::MayCome { quiet } = writers
            && !is_quiet(path, &db, quiet)
        {
            return Err(SqliteError::Writing { subject: path.to_string() });
        }
        let mut holder = Link::open(path)?;
        holder.make_wal()?;
        if rollback_mode {
            tracing::info!(
                db = %path,
                "switched the database to WAL mode (journal_mode = wal), as replication requires"
            );
        }
        if db.metadata().is_ok_and(|meta| meta.nlink() > 1) {
            tracing::warn!(
                db = %path,
                "the file has a second name (a hard link): a write under that name destroys the database"
            );
        }
        let free = Link::open(path)?;
        holder.begin_read()?;
        files::guard(&db);
        // Read again under the transaction: the app may have made its first tables with another page size
        // meanwhile.
        let page_size = read_header(path, &db)?.page_size;
        let wal_path = path.wal();
        let shm_path = path.shm();
        let gone = |error: std::io::Error| SqliteError::Failed {
            operation: "hold the WAL of",
            subject: path.to_string(),
            detail: format!("{}: {error}", wal_path.display()),
        };
        let (wal_id, wal) = files::open_wal(&wal_path).map_err(gone)?;
        let (shm_id, index) = match wal_view::keep(path) {
            Some((id, index)) => (Some(id), Some(index)),
            None => (files::identity(&shm_path).ok().flatten(), None),
        };
        follow::remember(path, &db, &wal, shm_id);
        Ok(ReadHold { path: path.clone(), page_size, db_id, db, wal_id, wal, shm_id, index, holder, free })
    }

    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    pub fn db_file(&self) -> &Arc<File> {
        &self.db
    }

    pub fn wal_file(&self) -> &Arc<File> {
        &self.wal
    }

    /// Whether the paths still name the files that are held. They do not if a process has replaced or deleted
    /// them; which, if so.
    pub fn missing(&self) -> Option<Missing> {
        follow::follow_owner(&self.path);
        let there = |path: &std::path::Path| files::identity(path).ok().flatten();
        if there(self.path.as_path()) != Some(self.db_id) {
            let left =
                there(&self.path.wal()) == Some(self.wal_id) && self.wal_len().is_ok_and(|length| length > 0);
            return Some(if left { Missing::DatabaseWithoutWal } else { Missing::Database });
        }
        let shm = there(&self.path.shm());
        if shm != self.shm_id {
            return Some(if shm.is_some() { Missing::ShmForAnother } else { Missing::Shm });
        }
        if there(&self.path.wal()) == Some(self.wal_id) {
            return None;
        }
        let begun = std::fs::metadata(self.path.wal()).is_ok_and(|meta| meta.len() > 0);
        Some(if begun { Missing::WalForAnother } else { Missing::Wal })
    }

    /// The files that are held, by their paths.
    pub fn named(&self) -> Named {
        let db = self.path.as_path().to_owned();
        let wal = self.path.wal();
        Named::new([(db, Some(self.db_id)), (wal, Some(self.wal_id)), (self.path.shm(), self.shm_id)])
    }

    /// What others may look at without the hold. None: there is no wal-index that we may read.
    pub fn view(&self) -> Option<WalView> {
        let index = Arc::clone(self.index.as_ref()?);
        let path = self.path.clone();
        let page_size = self.page_size;
        Some(WalView { path, page_size, db: Arc::clone(&self.db), wal: Arc::clone(&self.wal), index })
    }

    /// Whether the kernel shows that the hold is in force. False: it is not, or that is not known.
    pub fn in_force(&self) -> bool {
        self.view().is_some_and(|view| view.held_by_us())
    }

    /// Bytes of the WAL file.
    pub fn wal_len(&self) -> Result<u64, SqliteError> {
        self.wal
            .metadata()
            .map(|meta| meta.len())
            .map_err(|error| SqliteError::io("read the WAL of", &self.path, &error))
    }

    /// Reads WAL bytes at `offset`; less than asked only at the file's end.
    pub fn read_wal(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SqliteError> {
        read_full(&self.wal, offset, buffer)
            .map_err(|error| SqliteError::io("read the WAL of", &self.path, &error))
    }

    /// Size of the database file in pages.
    pub fn db_pages(&self) -> Result<u32, SqliteError> {
        let meta = self.db.metadata().map_err(|error| SqliteError::io("read", &self.path, &error))?;
        Ok(u32::try_from(meta.len() / u64::from(self.page_size.get())).unwrap_or(u32::MAX))
    }

    /// An error, if the wal-index was truncated. SQLite maps it into memory: each use would end this process
    /// with SIGBUS. A new connection makes it whole again. To be asked before each step that lets SQLite read
    /// it.
    fn prove_index(&self) -> Result<(), SqliteError> {
        let whole =
            |index: &Arc<File>| index.metadata().is_ok_and(|meta| meta.len() >= wal_view::REGION_BYTES);
        if self.index.as_ref().is_none_or(whole) {
            return Ok(());
        }
        let detail = "its -shm file was truncated while it was in use".to_owned();
        Err(SqliteError::HoldLost { subject: self.path.to_string(), detail })
    }

    /// How many frames of the WAL are in the database file. Copies none.
    pub fn copied_frames(&self) -> Result<i64, SqliteError> {
        self.prove_index()?;
        self.free.copied_frames()
    }

    /// How the database file looks now.
    pub fn stamp(&self) -> Result<FileStamp, SqliteError> {
        FileStamp::of(&self.db).map_err(|error| SqliteError::io("look at", &self.path, &error))
    }

    /// What is wrong with the structure of the database, as a new connection sees it. Reads all of it.
    pub fn structure_problem(&self) -> Result<Option<String>, SqliteError> {
        self.prove_index()?;
        match self.free.begin_read() {
            Err(SqliteError::Failed { detail, .. }) => return Ok(Some(detail)),
            begun => begun?,
        }
        let problem = self.free.structure_problem();
        self.free.end()?;
        problem
    }

    /// Moves the hold to the present end. The caller has captured everything up to where the present hold
    /// began (with read mark 0: all that the WAL then had), or will compare the whole database.
    pub fn renew(&mut self) -> Result<(), SqliteError> {
        self.prove_index()?;
        self.free.begin_read()?;
        self.holder.end()?;
        std::mem::swap(&mut self.holder, &mut self.free);
        Ok(())
    }

    /// Moves the hold to the present end, as `renew` does, and copies everything up to there into the
    /// database file.
    pub fn advance(&mut self) -> Result<Backfill, SqliteError> {
        self.renew()?;
        self.backfill()
    }

    /// Lets the next writer restart the WAL, if everything is copied and `nothing_new` confirms, with a
    /// second hold taken and the first one still there, that no commit has come that is not captured. Needs
    /// no lock.
    pub fn let_restart<E: From<SqliteError>>(
        &mut self,
        nothing_new: impl FnOnce(&ReadHold) -> Result<bool, E>,
    ) -> Result<bool, E> {
        meanwhile();
        self.prove_index()?;
        self.free.begin_read()?;
        meanwhile();
        let quiet = nothing_new(self);
        if !matches!(quiet, Ok(true)) {
            self.free.end()?;
            return quiet;
        }
        self.holder.end()?;
        std::mem::swap(&mut self.holder, &mut self.free);
        Ok(true)
    }

    /// Brings what is copied so far to the disk. A checkpoint does that only once it has copied everything:
    /// under steady writing never, so that all of it would be left for the moment under the lock.
    pub fn sync(&self) -> Result<(), SqliteError> {
        self.db.sync_data().map_err(|error| SqliteError::io("sync", &self.path, &error))
    }

    /// The same under steady writing: the write lock keeps writers out for the moment in which `capture_rest`
    /// takes what came since, that rest is copied, and the next hold is taken. False: another process held a
    /// lock, or the rest is too much; nothing has changed. The moment is two syncs long, of the rest in the
    /// WAL and in the database: the next writer may start the WAL over, so both must be on the disk before it
    /// may come.
    pub fn let_restart_locked<E: From<SqliteError>>(
        &mut self,
        capture_rest: impl FnOnce(&ReadHold) -> Result<bool, E>,
    ) -> Result<bool, E> {
        meanwhile();
        if !self.lock_writers_out()? {
            return Ok(false);
        }
        let begun = Instant::now();
        let done = self.restart_under_lock(capture_rest);
        let micros = begun.elapsed().as_micros();
        let restarted = matches!(done, Ok(true));
        tracing::debug!(db = %self.path, micros, restarted, "writers were kept out");
        done
    }

    /// Takes the write lock. False: another one has it for long, or runs a checkpoint that waits for this
    /// very hold.
    fn lock_writers_out(&self) -> Result<bool, SqliteError> {
        self.prove_index()?;
        let view = self.view();
        for _ in 0..TRIES {
            match with_patience(LOOKS_EACH, || self.free.begin_write()) {
                Err(SqliteError::Busy { .. }) => {}
                other => return other.map(|()| true),
            }
            if view.as_ref().is_some_and(WalView::checkpointer_waits) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Empties the WAL file, if all of it is copied and no process reads or writes at this moment. The caller
    /// has captured everything and `let_restart` or `let_restart_locked` was the last step. Safe at any time:
    /// under a hold with mark 0 a commit that came since is not copied, and under one with a mark the WAL is
    /// not restarted; either makes SQLite refuse.
    pub fn truncate(&self) -> Result<bool, SqliteError> {
        meanwhile();
        self.prove_index()?;
        match with_patience(0, || self.free.checkpoint("TRUNCATE")) {
            Err(SqliteError::Busy { .. }) => Ok(false),
            done => done.map(|_| true),
        }
    }

    fn restart_under_lock<E: From<SqliteError>>(
        &mut self,
        capture_rest: impl FnOnce(&ReadHold) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let captured = capture_rest(self).and_then(|captured| Ok(self.prove_index().map(|()| captured)?));
        if !matches!(captured, Ok(true)) {
            self.free.end()?;
            return captured;
        }
        // The write transaction is a reader too, at the very end: it holds while the other one moves.
        self.holder.end()?;
        let mut backfill = self.holder.checkpoint("PASSIVE");
        for _ in 0..APP_COPIES {
            if !matches!(backfill, Err(SqliteError::Busy { .. })) {
                break;
            }
            std::thread::sleep(BETWEEN_LOOKS);
            backfill = self.holder.checkpoint("PASSIVE");
        }
        let again = self.holder.begin_read();
        self.free.end()?;
        again.map_err(|error| self.lost(&error))?;
        match backfill {
            Err(SqliteError::Busy { .. }) => Ok(false),
            Err(error) => Err(error.into()),
            Ok((frames, copied)) => Ok(frames == copied),
        }
    }

    /// Copies what the hold allows into the database file, with the free connection.
    fn backfill(&self) -> Result<Backfill, SqliteError> {
        self.prove_index()?;
        let (wal_frames, copied_frames) = self.free.checkpoint("PASSIVE")?;
        Ok(Backfill { wal_frames, copied_frames })
    }

    fn lost(&self, cause: &SqliteError) -> SqliteError {
        SqliteError::HoldLost { subject: self.path.to_string(), detail: cause.to_string() }
    }
}

/// Tests let other connections act between two steps.
#[cfg(not(test))]
fn meanwhile() {}

#[cfg(test)]
fn meanwhile() {
    MEANWHILE.with_borrow_mut(|others| others.iter_mut().for_each(|act| act()));
}

#[cfg(test)]
thread_local! {
    pub static MEANWHILE: std::cell::RefCell<Option<Box<dyn FnMut()>>> = const { std::cell::RefCell::new(None) };
}

/// Whether the file at `path` can be held one day: it is no other kind of file, and we may read it. One that
/// is not there yet can.
pub fn check(path: &DbPath) -> Result<(), SqliteError> {
    let looked = files::keep(path.as_path())
        .map_err(|error| SqliteError::io("open", path, &error))
        .and_then(|(_, db)| read_header(path, &db));
    match looked {
        Ok(_) | Err(SqliteError::NotYet { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

struct Header {
    page_size: PageSize,
    /// Its changes go through a rollback journal.
    rollback_mode: bool,
}

/// From the database's first 100 bytes (SQLite file format, section 1.3).
fn read_header(path: &DbPath, db: &File) -> Result<Header, SqliteError> {
    let mut header = [0; 100];
    let got = read_full(db, 0, &mut header).map_err(|error| SqliteError::io("read", path, &error))?;
    let foreign = || SqliteError::Failed {
        operation: "read",
        subject: path.to_string(),
        detail: "it is not an SQLite database (its header is not one; encrypted databases are not supported)"
            .into(),
    };
    if header.iter().take(got).zip(DB_MAGIC).any(|(byte, magic)| byte != magic) {
        return Err(foreign());
    }
    if got < header.len() {
        return Err(SqliteError::NotYet { subject: path.to_string() });
    }
    let page_size =
        PageSize::from_db_header(u16::from_be_bytes([header[16], header[17]])).ok_or_else(foreign)?;
    Ok(Header { page_size, rollback_mode: header[18] == 1 })
}

/// SQLite keeps the WAL beside the file that a link leads to; whatever we do beside the link would miss it.
fn refuse_link(path: &DbPath) -> Result<(), SqliteError> {
    let is_link = std::fs::symlink_metadata(path.as_path()).is_ok_and(|meta| meta.is_symlink());
    let failed = || SqliteError::Failed {
        operation: "open",
        subject: path.to_string(),
        detail: "it is a symbolic link; configure the path that it leads to".into(),
    };
    if is_link { Err(failed()) } else { Ok(()) }
}

fn read_only(path: &DbPath) -> bool {
    statvfs(path.directory()).is_ok_and(|mount| mount.flags().contains(FsFlags::ST_RDONLY))
}

#[cfg(test)]
mod tests;

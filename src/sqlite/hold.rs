//! The hold: a read transaction of ours that keeps every frame we have not captured in the WAL, without a table or a
//! row in the user's database. Two connections take turns, so that there is never a moment without one.
//!
//! Why it works (SQLite, wal.c): a reader that began while frames were not yet copied into the database has a read mark
//! n > 0; checkpoints copy at most up to n and nobody can restart the WAL. A reader that began when all were copied
//! holds mark 0: the next writer restarts the WAL, but nothing of the new one is copied as long as mark 0 is held, so it
//! only grows. Either way no frame behind the hold can be overwritten; only the step from one hold to the next matters,
//! and it is safe when everything up to the first one's mark has been captured before the second one is taken.

use super::connection::Link;
use super::error::SqliteError;
use super::files::{self, FileId, read_full};
use crate::model::{DbPath, PageSize};
use std::fs::File;
use std::sync::Arc;

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

pub struct ReadHold {
    path: DbPath,
    page_size: PageSize,
    db_id: FileId,
    db: Arc<File>,
    wal_id: FileId,
    wal: Arc<File>,
    holder: Link,
    free: Link,
}

impl ReadHold {
    /// Opens the database, switches it to WAL mode if need be, and holds its WAL from now on.
    pub fn take(path: &DbPath) -> Result<ReadHold, SqliteError> {
        let (db_id, db) = files::keep(path.as_path()).map_err(|error| SqliteError::io("open", path, &error))?;
        read_header(path, &db)?;
        let holder = Link::open(path)?;
        holder.make_wal()?;
        let free = Link::open(path)?;
        holder.begin_read()?;
        files::guard(&db);
        // Read again under the transaction: the app may have made its first tables with another page size meanwhile.
        let page_size = read_header(path, &db)?;
        let wal_path = path.wal();
        let (wal_id, wal) =
            files::open_wal(&wal_path).map_err(|error| SqliteError::io("open", &wal_path.display(), &error))?;
        Ok(ReadHold { path: path.clone(), page_size, db_id, db, wal_id, wal, holder, free })
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

    /// Whether the paths still name the files that are held. They do not when somebody replaced or deleted them.
    pub fn in_place(&self) -> bool {
        let same = |path: &std::path::Path, id| files::identity(path).is_ok_and(|found| found == Some(id));
        same(self.path.as_path(), self.db_id) && same(&self.path.wal(), self.wal_id)
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
        read_full(&self.wal, offset, buffer).map_err(|error| SqliteError::io("read the WAL of", &self.path, &error))
    }

    /// Size of the database file in pages.
    pub fn db_pages(&self) -> Result<u32, SqliteError> {
        let meta = self.db.metadata().map_err(|error| SqliteError::io("read", &self.path, &error))?;
        Ok(u32::try_from(meta.len() / u64::from(self.page_size.get())).unwrap_or(u32::MAX))
    }

    /// How many frames of the WAL are in the database file. Copies none.
    pub fn copied_frames(&self) -> Result<i64, SqliteError> {
        self.free.checkpoint("NOOP").map(|(_, copied)| copied)
    }

    /// Moves the hold to the present end. The caller has captured everything up to where the present hold began, or will
    /// compare the whole database.
    pub fn renew(&mut self) -> Result<(), SqliteError> {
        self.free.begin_read()?;
        self.holder.end()?;
        std::mem::swap(&mut self.holder, &mut self.free);
        Ok(())
    }

    /// Moves the hold to the present end, as `renew` does, and copies everything up to there into the database file.
    pub fn advance(&mut self) -> Result<Backfill, SqliteError> {
        self.renew()?;
        self.backfill()
    }

    /// Lets the next writer restart the WAL, if everything is copied and `nothing_new` confirms, with a second hold
    /// taken and the first one still there, that no commit has come that is not captured. Needs no lock.
    pub fn let_restart<E: From<SqliteError>>(
        &mut self,
        nothing_new: impl FnOnce(&ReadHold) -> Result<bool, E>,
    ) -> Result<bool, E> {
        meanwhile();
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

    /// The same under steady writing: the write lock keeps writers out for the moment in which `capture_rest` takes what
    /// came since, that rest is copied, and the next hold is taken. False: somebody was in the way, or the rest is too
    /// much; nothing has changed.
    pub fn let_restart_locked<E: From<SqliteError>>(
        &mut self,
        capture_rest: impl FnOnce(&ReadHold) -> Result<bool, E>,
    ) -> Result<bool, E> {
        meanwhile();
        match self.free.begin_write() {
            Err(SqliteError::Busy { .. }) => return Ok(false),
            other => other?,
        }
        let captured = capture_rest(self);
        if !matches!(captured, Ok(true)) {
            self.free.end()?;
            return captured;
        }
        // The write transaction is a reader too, at the very end: it holds while the other one moves.
        self.holder.end()?;
        let backfill = self.holder.checkpoint("PASSIVE");
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
        let (wal_frames, copied_frames) = self.free.checkpoint("PASSIVE")?;
        Ok(Backfill { wal_frames, copied_frames })
    }

    fn lost(&self, cause: &SqliteError) -> SqliteError {
        SqliteError::HoldLost { subject: self.path.to_string(), detail: cause.to_string() }
    }
}

/// Tests let others act between two of our steps.
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

/// The page size from the database's header (SQLite file format, section 1.3).
fn read_header(path: &DbPath, db: &File) -> Result<PageSize, SqliteError> {
    let mut header = [0; 100];
    let got = read_full(db, 0, &mut header).map_err(|error| SqliteError::io("read", path, &error))?;
    if got < header.len() {
        return Err(SqliteError::NotYet { subject: path.to_string() });
    }
    let size = PageSize::from_db_header(u16::from_be_bytes([header[16], header[17]]));
    size.filter(|_| header.starts_with(b"SQLite format 3\0")).ok_or_else(|| SqliteError::Failed {
        operation: "read",
        subject: path.to_string(),
        detail: "it is not an SQLite database (its header is not one; encrypted databases are not supported)".into(),
    })
}

#[cfg(test)]
mod tests;

//! Keeps the database that a restore has replaced (`local_state::replaced`): a file that has no proof may be
//! the only copy of what a user wrote. Where it cannot be kept it is removed, and the log says so.

use super::error::RestoreError;
use super::steps::{Side, Step};
use crate::local_state::replaced::{self, Place};
use crate::model::DbPath;
use crate::rights::Dir;
use crate::sqlite::files;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What becomes of the database that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// It may hold what is nowhere else.
    Keep,
    /// The user said so.
    Drop,
}

pub fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

pub fn nth(db: &DbPath, side: Side) -> PathBuf {
    db.sides().into_iter().nth(side.0).unwrap_or_default()
}

/// Where the files of one installation are kept.
pub struct Keeper {
    previous: Previous,
    /// None: not looked for yet. Some(None): there is none.
    place: Option<Option<Place>>,
}

impl Keeper {
    pub fn new(previous: Previous) -> Keeper {
        Keeper { previous, place: None }
    }

    /// Performs a step that would drop a file of the replaced database, by moving the file away. False: the
    /// step is another one, or the file is not kept.
    pub fn keep_in_step(&mut self, db: &DbPath, dir: &Dir, step: Step) -> Result<bool, RestoreError> {
        let aside = db.aside();
        let (from, to) = match step {
            Step::DropAside => (aside.as_path().to_owned(), db.as_path().to_owned()),
            // The wal-index is made anew from the WAL.
            Step::DropAsideSide(side) if nth(db, side) != db.shm() => (nth(&aside, side), nth(db, side)),
            _ => return Ok(false),
        };
        if self.previous == Previous::Drop {
            return Ok(false);
        }
        let Some(place) = self.place.get_or_insert_with(|| place_of_replaced(db, dir)) else {
            return Ok(false);
        };
        place.take(dir, name(&from), name(&to)).map_err(RestoreError::io("keep", &from))?;
        if step == Step::DropAside {
            log_kept(db, place);
        }
        Ok(true)
    }

    /// Moves away a file of a database in place of which there will be none. False: the file is not kept.
    pub fn keep_file(&mut self, db: &DbPath, dir: &Dir, path: &Path) -> Result<bool, RestoreError> {
        let bytes = dir.stat(name(db.as_path())).ok().flatten().map_or(0, |seen| seen.bytes);
        let Some(place) = self.place.get_or_insert_with(|| find_place(db, bytes)) else { return Ok(false) };
        // The wal-index is made anew from the WAL.
        if path == db.shm() {
            return Ok(false);
        }
        place.take(dir, name(path), name(path)).map_err(RestoreError::io("keep", path))?;
        if path == db.as_path() {
            log_kept(db, place);
        }
        Ok(true)
    }
}

fn log_kept(db: &DbPath, place: &Place) {
    let kept = place.path.join(name(db.as_path()));
    tracing::warn!(
        %db, kept = %kept.display(),
        "the file that was replaced is kept: `sqlite3 DATABASE \".restore KEPT\"` while the app runs puts it \
         back; remove it if you do not need it"
    );
}

fn place_of_replaced(db: &DbPath, dir: &Dir) -> Option<Place> {
    let aside = db.aside();
    let size = |path: &Path| dir.stat(name(path)).ok().flatten().map_or(0, |seen| seen.bytes);
    if size(&aside.wal()) == 0
        && size(&aside.journal()) == 0
        && is_equal(dir, name(aside.as_path()), name(db.as_path()))
    {
        return None;
    }
    find_place(db, size(aside.as_path()))
}

fn find_place(db: &DbPath, bytes: u64) -> Option<Place> {
    match replaced::place(db, bytes) {
        Ok(Ok(place)) => Some(place),
        Ok(Err(why)) => {
            tracing::warn!(%db, "the file that was replaced is removed, not kept: {why}");
            None
        }
        Err(error) => {
            tracing::warn!(%db, "the file that was replaced is removed, not kept: {error}");
            None
        }
    }
}

/// Whether two files have the same content. A file that cannot be read has another one.
fn is_equal(dir: &Dir, one: &OsStr, other: &OsStr) -> bool {
    const CHUNK: usize = 64 << 10;
    let (Ok(one), Ok(other)) = (dir.read(one), dir.read(other)) else { return false };
    let bytes = |file: &std::fs::File| file.metadata().map(|meta| meta.len()).ok();
    if bytes(&one) != bytes(&other) {
        return false;
    }
    let mut buffers = [vec![0; CHUNK], vec![0; CHUNK]];
    let mut offset = 0;
    loop {
        let [mine, theirs] = &mut buffers;
        let (Ok(read), Ok(same)) =
            (files::read_full(&one, offset, mine), files::read_full(&other, offset, theirs))
        else {
            return false;
        };
        if read != same || mine.get(..read) != theirs.get(..read) {
            return false;
        }
        if read < CHUNK {
            return true;
        }
        offset += read as u64;
    }
}

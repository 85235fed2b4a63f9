//! The state directory of a database (`.NAME-litevisor`, beside it or in `meta_dir`): small files that are
//! replaced atomically, the lock, and the spill directory. Every access has the rights of the directory's
//! owner. Most files are not synced to disk: after a power failure a file may be old or missing, which costs
//! a restore and no data.

pub mod adopt;
pub mod litestream;
pub mod lock;
pub mod place;
pub mod replaced;
pub mod spill;

use crate::model::DbPath;
use crate::rights::{self, Dir, Rights, absent_ok};
use place::Place;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What was replicated: `lineage` reads and writes it.
pub const RECORD: &str = "state.json";
/// Such a file has a few hundred bytes. A larger file is not from litevisor.
const MOST_BYTES: u64 = 1 << 20;
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// State directories that this run has made, by device and inode.
static MADE: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

#[derive(Debug, thiserror::Error)]
pub enum LocalStateError {
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LocalStateError + 'a {
    move |source| LocalStateError::Io { operation, path: path.to_owned(), source }
}

/// A file of the state directory; None when there is none. What is no regular file, or too large, is an
/// error.
pub fn read_note(db: &DbPath, name: &str) -> Result<Option<Vec<u8>>, LocalStateError> {
    read_at(db, &Place::of(db), name)
}

fn read_at(db: &DbPath, place: &Place, name: &str) -> Result<Option<Vec<u8>>, LocalStateError> {
    let read = || match open_at(place).and_then(|(dir, _acting)| dir.read_small(name.as_ref(), MOST_BYTES)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    };
    place.within(db, read).map_err(failed("read", &place.path().join(name)))
}

/// Does `work` with the rights for the state directory.
fn within<T>(db: &DbPath, work: impl FnOnce() -> T) -> T {
    Place::of(db).within(db, work)
}

/// The state directory. To be called inside `within`.
fn open(db: &DbPath) -> io::Result<(Dir, Option<rights::Acting>)> {
    open_at(&Place::of(db))
}

/// Where root works in the directory above, but the app's user has the state directory itself, that user's
/// rights apply in it for as long as the guard lives.
fn open_at(place: &Place) -> io::Result<(Dir, Option<rights::Acting>)> {
    let dir = Dir::open(&place.above)?.below(&place.name)?;
    follow(&dir)?;
    let theirs = if rights::acting() { None } else { Rights::of(dir.owner()?) };
    Ok((dir, theirs.map(|theirs| rights::act(Some(&theirs)))))
}

/// Replaces a file of the state directory in one step; creates the directory.
pub fn write_note(db: &DbPath, name: &str, text: &str) -> Result<(), LocalStateError> {
    replace(db, name, text, false)
}

/// The same, for a file that must be there after a power failure.
pub fn write_note_durably(db: &DbPath, name: &str, text: &str) -> Result<(), LocalStateError> {
    replace(db, name, text, true)
}

fn replace(db: &DbPath, name: &str, text: &str, durably: bool) -> Result<(), LocalStateError> {
    let new = format!("{name}.tmp");
    let write = || {
        let (dir, _acting) = open_or_make(db)?;
        // Nothing that the app's user left there is followed.
        let mut file = dir.create_anew(new.as_ref(), FILE_MODE)?;
        file.write_all(text.as_bytes())?;
        if !durably {
            return dir.rename(new.as_ref(), name.as_ref());
        }
        file.sync_all()?;
        dir.rename(new.as_ref(), name.as_ref())?;
        dir.sync()?;
        Dir::open(&Place::of(db).above)?.sync()
    };
    within(db, write).map_err(failed("replace", &place::of(db).join(name)))
}

/// The state directory, made if need be. To be called inside `within`.
fn open_or_make(db: &DbPath) -> io::Result<(Dir, Option<rights::Acting>)> {
    open_or_make_at(db, &Place::of(db))
}

fn open_or_make_at(db: &DbPath, place: &Place) -> io::Result<(Dir, Option<rights::Acting>)> {
    place.make_above()?;
    let above = Dir::open(&place.above)?;
    match above.make(&place.name, DIRECTORY_MODE) {
        Ok(()) if place.meta_dir.is_some() => {}
        Ok(()) => made(db, &above, &place.name)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    open_at(place)
}

/// Removes the state directory if it holds nothing but a file of that name.
fn remove_if_only(db: &DbPath, name: &str) -> io::Result<()> {
    let place = Place::of(db);
    let above = Dir::open(&place.above)?;
    {
        let (dir, _acting) = open_at(&place)?;
        if dir.names()?.iter().any(|found| found != name) {
            return Ok(());
        }
        absent_ok(dir.remove(name.as_ref()))?;
    }
    above.remove_directory(&place.name)
}

/// With the owner of the database, so that a later run as that user can write there.
fn made(db: &DbPath, above: &Dir, name: &OsStr) -> io::Result<()> {
    let directory = above.below(name)?.as_file()?;
    let meta = directory.metadata()?;
    MADE.lock().unwrap_or_else(PoisonError::into_inner).insert((meta.dev(), meta.ino()));
    let beside = above.stat(&db.file_name())?.map_or_else(|| above.owner(), |file| Ok(file.owner))?;
    // Only root may give files away, and only root needs to; with other rights it is that user's already.
    if !rights::acting() {
        let _ = fchown(&directory, Some(beside.uid), Some(beside.gid));
    }
    Ok(())
}

/// A directory that this run has made as root is given to the user that the database has been given to since.
fn follow(dir: &Dir) -> io::Result<()> {
    let Some(theirs) = rights::now().filter(|_| dir.owner().is_ok_and(|owner| owner.uid == 0)) else {
        return Ok(());
    };
    rights::own(|| {
        let directory = dir.as_file()?;
        let meta = directory.metadata()?;
        if MADE.lock().unwrap_or_else(PoisonError::into_inner).contains(&(meta.dev(), meta.ino())) {
            fchown(&directory, Some(theirs.uid), Some(theirs.gid))?;
        }
        Ok(())
    })
}

/// Removes a file of that directory, if it is there.
pub fn remove_note(db: &DbPath, name: &str) -> Result<(), LocalStateError> {
    let removed = within(db, || match open(db) {
        Ok((dir, _acting)) => absent_ok(dir.remove(name.as_ref())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(error),
    });
    removed.map_err(failed("remove", &place::of(db).join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The app's user may write beside the database; we may be root.
    #[test]
    fn links_in_the_way_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (db, victim) = (DbPath::new(dir.path().join("app.db")), dir.path().join("victim"));
        fs::write(&victim, "mine").unwrap();
        fs::create_dir(db.state_dir()).unwrap();
        std::os::unix::fs::symlink(&victim, db.state_dir().join("note.tmp")).unwrap();
        write_note(&db, "note", "new").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        fs::remove_dir_all(db.state_dir()).unwrap();
        std::os::unix::fs::symlink(dir.path(), db.state_dir()).unwrap();
        assert!(write_note(&db, "note", "new").is_err());
        assert!(!dir.path().join("note").exists());
        remove_note(&db, "note").unwrap();
    }
}

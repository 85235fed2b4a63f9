//! Databases that a restore has replaced, and that may hold what is nowhere else: `replaced-N` in the state
//! directory beside the database, each with the database and its `-wal` or `-journal`. At most `MOST`; what
//! is there is never overwritten or removed. They are there with a `meta_dir`, too: a file can be moved on
//! its own disk without a moment in which it is nowhere.

use super::{DIRECTORY_MODE, LocalStateError, failed, open_or_make_at, place};
use crate::model::DbPath;
use crate::rights::{self, Dir};
use nix::sys::statvfs::statvfs;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// An app that is started again and again on files without proof must not fill the disk.
pub const MOST: u32 = 2;

/// Why there is no place for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error("{MOST} of them are kept already: remove those that you do not need")]
    Taken,
    /// The app needs room to grow, too.
    #[error("it has {bytes} bytes, and {free} are free")]
    NoRoom { bytes: u64, free: u64 },
}

/// A directory that is empty.
pub struct Place {
    dir: Dir,
    pub path: PathBuf,
}

impl Place {
    /// Moves a file of `from` here.
    pub fn take(&self, from: &Dir, name: &OsStr, to: &OsStr) -> io::Result<()> {
        from.rename_into(name, &self.dir, to)?;
        self.dir.sync()
    }
}

/// Where a database of so many bytes can be kept. To be called inside `rights::within`.
pub fn place(db: &DbPath, bytes: u64) -> Result<Result<Place, NoPlace>, LocalStateError> {
    if let Err(why) = has_room(free(db.directory()), bytes) {
        return Ok(Err(why));
    }
    let found = || {
        let (state, _acting) = open_or_make_at(db, &place::Place::beside(db))?;
        for number in 1..=MOST {
            let name = OsString::from(format!("replaced-{number}"));
            match state.make(&name, DIRECTORY_MODE) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let dir = state.below(&name)?;
            if dir.names()?.is_empty() {
                state.sync()?;
                return Ok(Ok(Place { dir, path: db.state_dir().join(name) }));
            }
        }
        Ok(Err(NoPlace::Taken))
    };
    rights::within(db, found).map_err(failed("create a directory in", &db.state_dir()))
}

/// Whether the disk has room for a database of this size beside the one that is kept. Pure. `free`: None, if
/// it is not known.
fn has_room(free: Option<u64>, bytes: u64) -> Result<(), NoPlace> {
    match free {
        Some(free) if free < bytes => Err(NoPlace::NoRoom { bytes, free }),
        _ => Ok(()),
    }
}

#[allow(clippy::useless_conversion, reason = "of another width on some platforms")]
fn free(directory: &Path) -> Option<u64> {
    let mount = statvfs(directory).ok()?;
    Some(u64::from(mount.blocks_available()).saturating_mul(mount.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_app_keeps_room_to_grow() {
        let full = |bytes, free| Err(NoPlace::NoRoom { bytes, free });
        for (free, bytes, expected) in [(None, 9, Ok(())), (Some(9), 9, Ok(())), (Some(8), 9, full(9, 8))] {
            assert_eq!(has_room(free, bytes), expected, "{free:?} {bytes}");
        }
    }

    #[test]
    fn what_is_kept_stays_and_there_is_an_end() {
        let root = tempfile::tempdir().unwrap();
        let db = DbPath::new(root.path().join("app.db"));
        let dir = Dir::open(root.path()).unwrap();
        for number in 1..=MOST + 1 {
            fs::write(db.as_path(), number.to_string()).unwrap();
            let name = db.file_name();
            match place(&db, 1).unwrap() {
                Ok(place) => place.take(&dir, &name, &name).unwrap(),
                Err(why) => assert_eq!((why, number), (NoPlace::Taken, MOST + 1)),
            }
        }
        for number in 1..=MOST {
            let kept = db.state_dir().join(format!("replaced-{number}/app.db"));
            assert_eq!(fs::read_to_string(kept).unwrap(), number.to_string());
        }
        // A user has moved one away.
        fs::remove_file(db.state_dir().join("replaced-1/app.db")).unwrap();
        assert!(place(&db, 1).unwrap().unwrap().path.ends_with("replaced-1"));
        assert_eq!(place(&db, u64::MAX).unwrap().err().map(|why| why != NoPlace::Taken), Some(true));
    }
}

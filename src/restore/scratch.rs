//! A private directory for a restore that is only verified (a proof, `litevisor verify`): created so that
//! other users cannot read it, removed at the end. Directories that a killed process has left are removed,
//! too; a directory in use is locked.

use crate::local_state::place::meta_dir;
use crate::model::DbPath;
use crate::rights::{self, Dir, Kind};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const PREFIX: &str = ".litevisor-verify-";
const MODE: u32 = 0o700;
const MOST: u32 = 1000;
const REMOVALS: u32 = 5;

/// Goes with its owner.
pub struct Scratch {
    path: PathBuf,
    /// Locked for as long as the directory is used.
    _lock: File,
}

impl Scratch {
    /// In the directory `under`, where left-overs are removed first. The error is a text for the user.
    pub fn make(under: &Path) -> Result<Scratch, String> {
        sweep(under);
        for number in 0..MOST {
            let name = format!("{PREFIX}{}-{number}", std::process::id());
            let path = under.join(&name);
            match rights::within_directory(under, None, || make(under, name.as_ref())) {
                Ok(lock) => return Ok(Scratch { path, _lock: lock }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("cannot create {}: {error}; set TMPDIR", path.display())),
            }
        }
        Err(format!("{} is full of scratch directories of litevisor: remove them", under.display()))
    }

    pub fn db(&self) -> DbPath {
        DbPath::new(self.path.join("scratch.db"))
    }
}

fn make(under: &Path, name: &OsStr) -> io::Result<File> {
    let under = Dir::open(under)?;
    under.make(name, MODE)?;
    let lock = under.below(name)?.as_file()?;
    lock.try_lock().map_err(io::Error::from)?;
    Ok(lock)
}

/// Where the scratch directory for a database is made: in `$TMPDIR` where that is set, else in `meta_dir`,
/// else beside the database, whose disk is large enough, else where the system has it.
pub fn place(db: Option<&Path>) -> PathBuf {
    let meta_dir = db.and_then(|db| meta_dir(&DbPath::new(db)));
    let beside = meta_dir.as_deref().or(db.and_then(Path::parent)).filter(|directory| directory.is_dir());
    match (std::env::var_os("TMPDIR"), beside) {
        (Some(_), _) | (None, None) => std::env::temp_dir(),
        (None, Some(beside)) => beside.to_owned(),
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Work that was abandoned may still create a file there.
        let mut removed = (0..REMOVALS).map(|_| remove(&self.path));
        let is_busy = |error: &io::Error| error.kind() == ErrorKind::DirectoryNotEmpty;
        if let Some(Err(error)) = removed.find(|done| !done.as_ref().is_err_and(is_busy)) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// With the rights for the directory that it is in: its owner could have put something else in its place.
fn remove(path: &Path) -> io::Result<()> {
    let under = path.parent().unwrap_or(Path::new("/"));
    rights::within_directory(under, None, || fs::remove_dir_all(path))
}

/// Removes what killed processes have left in the directory `under`; once for each directory and process.
pub fn sweep(under: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if !SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(under.to_owned()) {
        return;
    }
    for name in leftovers(under).unwrap_or_default() {
        let path = under.join(name);
        match remove(&path) {
            Ok(()) => tracing::info!("removed {}, left by a killed verification", path.display()),
            Err(error) => tracing::warn!("cannot remove {}: {error}", path.display()),
        }
    }
}

/// Scratch directories that are ours, or the directory's owner's, and that no process uses.
fn leftovers(under: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    rights::within_directory(under, None, || {
        let dir = Dir::open(under)?;
        let own = rights::now().map_or_else(|| nix::unistd::geteuid().as_raw(), |rights| rights.uid);
        let unused = |name: &OsStr| -> io::Result<bool> {
            let seen = dir.stat(name)?;
            if !seen.is_some_and(|seen| seen.kind == Kind::Directory && seen.owner.uid == own) {
                return Ok(false);
            }
            Ok(dir.below(name)?.as_file()?.try_lock().is_ok())
        };
        let names = dir.names()?.into_iter();
        let ours = names.filter(|name| name.to_str().is_some_and(|name| name.starts_with(PREFIX)));
        Ok(ours.filter(|name| unused(name).unwrap_or(false)).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn private_and_swept() {
        let under = tempfile::tempdir().unwrap();
        let left_over = under.path().join(".litevisor-verify-1-0");
        fs::create_dir(&left_over).unwrap();
        fs::write(left_over.join("scratch.db"), "all").unwrap();
        fs::create_dir(under.path().join("other")).unwrap();
        let scratch = Scratch::make(under.path()).unwrap();
        assert!(!left_over.exists());
        assert_eq!(fs::metadata(&scratch.path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(leftovers(under.path()).unwrap(), [""; 0], "one in use");
        fs::write(scratch.db().as_path(), "x").unwrap();
        drop(scratch);
        assert_eq!(fs::read_dir(under.path()).unwrap().count(), 1);
    }
}

//! Where the state directory of a database is: beside it, or below the `meta_dir` of its configuration, under
//! the whole path of the database, so that two databases never share one.
//!
//! Work there has the rights of the owner of the directory that it is in. Below a `meta_dir` that is root's,
//! these are root's, and the app's user can neither read nor change what is there.

use crate::model::DbPath;
use crate::rights::{self, Dir};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const DIRECTORY_MODE: u32 = 0o700;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Which databases a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The one of that path.
    Database,
    /// Those in the directory.
    Directory,
    /// Those in it and below it.
    Tree,
}

/// The configured directories, by path.
static ELSEWHERE: Mutex<BTreeMap<PathBuf, (Scope, PathBuf)>> = Mutex::new(BTreeMap::new());

/// Sets the `meta_dir` of the databases at `path`. To be called before anything is read or locked.
pub fn choose(path: &Path, scope: Scope, meta_dir: &Path) {
    let mut elsewhere = ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner);
    elsewhere.insert(path.to_owned(), (scope, meta_dir.to_owned()));
}

/// The `meta_dir` of a database; None: its state directory is beside it.
pub fn meta_dir(db: &DbPath) -> Option<PathBuf> {
    let elsewhere = ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner);
    let holds = |path: &Path, scopes: &[Scope]| {
        let found = elsewhere.get(path).filter(|(scope, _)| scopes.contains(scope));
        found.map(|(_, meta_dir)| meta_dir.clone())
    };
    let directory = db.directory();
    let above = || directory.ancestors().skip(1).find_map(|above| holds(above, &[Scope::Tree]));
    let inside = holds(db.as_path(), &[Scope::Database])
        .or_else(|| holds(directory, &[Scope::Directory, Scope::Tree]));
    inside.or_else(above)
}

/// A state directory by the directory that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub above: PathBuf,
    pub name: OsString,
    /// The `meta_dir` that it is below. None: it is beside its database.
    pub meta_dir: Option<PathBuf>,
}

impl Place {
    pub fn of(db: &DbPath) -> Place {
        let Some(meta_dir) = meta_dir(db) else { return Place::beside(db) };
        let above = meta_dir.join(below_root(db.directory()));
        Place { above, meta_dir: Some(meta_dir), ..Place::beside(db) }
    }

    pub fn beside(db: &DbPath) -> Place {
        let name = db.state_dir().file_name().map(OsString::from).unwrap_or_default();
        Place { above: db.directory().to_owned(), name, meta_dir: None }
    }

    pub fn path(&self) -> PathBuf {
        self.above.join(&self.name)
    }

    /// Does `work` with the rights for it.
    pub fn within<T>(&self, db: &DbPath, work: impl FnOnce() -> T) -> T {
        match &self.meta_dir {
            None => rights::within(db, work),
            // A caller that works beside the database has other rights.
            Some(_) => rights::own(|| rights::within_directory(&self.above, None, work)),
        }
    }

    /// Makes the directories between `meta_dir` and the state directory, and `meta_dir` itself. To be called
    /// inside `within`.
    pub fn make_above(&self) -> io::Result<()> {
        let Some(meta_dir) = &self.meta_dir else { return Ok(()) };
        make_all(meta_dir)?;
        let mut at = Dir::open(meta_dir)?;
        refuse_open_to_others(&at)?;
        for part in self.above.strip_prefix(meta_dir).unwrap_or(Path::new("")) {
            at = make(&at, part)?;
        }
        Ok(())
    }
}

/// The state directory of a database.
pub fn of(db: &DbPath) -> PathBuf {
    Place::of(db).path()
}

/// The database that a state directory belongs to.
pub(super) fn database_of(directory: &Path) -> Option<DbPath> {
    let candidates = {
        let elsewhere = ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner);
        let below = elsewhere.values().filter_map(|(_, meta_dir)| directory.strip_prefix(meta_dir).ok());
        below.map(|below| Path::new("/").join(below)).collect::<Vec<_>>()
    };
    let all = candidates.into_iter().chain([directory.to_owned()]);
    all.filter_map(|path| DbPath::of_state_dir(&path)).find(|db| of(db) == directory)
}

/// The parts of a path below `/`.
fn below_root(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn make(above: &Dir, name: &OsStr) -> io::Result<Dir> {
    match above.make(name, DIRECTORY_MODE) {
        // Durable, so that a spilled segment in it is.
        Ok(()) => above.sync()?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    above.below(name)
}

fn make_all(directory: &Path) -> io::Result<()> {
    match Dir::open(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return opened.map(drop),
    }
    let (Some(above), Some(name)) = (directory.parent(), directory.file_name()) else { return Ok(()) };
    make_all(above)?;
    make(&Dir::open(above)?, name).map(drop)
}

/// Another user could put a directory of his own where root works next.
fn refuse_open_to_others(meta_dir: &Dir) -> io::Result<()> {
    let owner = meta_dir.owner()?;
    if rights::are_roots() && owner.uid == 0 && owner.mode & WRITABLE_BY_OTHERS != 0 {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "other users may write to `meta_dir`: chmod go-w",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_has_a_directory_of_its_own() {
        let meta = Path::new("/var/lib/meta-test");
        choose(Path::new("/place/one.db"), Scope::Database, meta);
        choose(Path::new("/place/flat"), Scope::Directory, meta);
        choose(Path::new("/place/deep"), Scope::Tree, meta);
        for (db, at) in [
            ("/place/one.db", "/var/lib/meta-test/place/.one.db-litevisor"),
            ("/place/two.db", "/place/.two.db-litevisor"),
            ("/place/flat/a.db", "/var/lib/meta-test/place/flat/.a.db-litevisor"),
            ("/place/flat/x/a.db", "/place/flat/x/.a.db-litevisor"),
            ("/place/deep/a.db", "/var/lib/meta-test/place/deep/.a.db-litevisor"),
            ("/place/deep/x/y/a.db", "/var/lib/meta-test/place/deep/x/y/.a.db-litevisor"),
        ] {
            let db = DbPath::new(db);
            assert_eq!(of(&db), Path::new(at));
            assert_eq!(database_of(Path::new(at)), Some(db));
        }
        assert_eq!(database_of(Path::new("/var/lib/meta-test/place")), None);
    }
}

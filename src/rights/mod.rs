//! Work in a data directory has the rights of the directory's owner: which rights these are (`effective` ◦),
//! a thread that takes them (`guard`), and files that are opened without following a link (`dir`).
//!
//! The functions that touch files take the rights, not their callers: each connection to SQLite, the
//! functions of `sqlite::files` and `local_state`, and each step of a restore go through `within`. Root's
//! rights remain for replica directories, sockets, the configuration and the replica's credentials, which are
//! never opened inside; and for a change of the owner of the open file that litevisor has just created
//! (`own`).

mod dir;
mod effective;
mod guard;

pub use dir::{Dir, FileInfo, Kind, absent_ok};
pub use effective::{Owner, Rights, may_change, may_write};
pub use guard::{Acting, act, acting, are_roots, now};

use crate::model::DbPath;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The configured rights by path, for a database or a directory of databases; whether they hold for its
/// subdirectories, too.
static CHOSEN: Mutex<BTreeMap<PathBuf, (Rights, bool)>> = Mutex::new(BTreeMap::new());

/// Sets the rights for the database (or the databases in the directory) at `path`: the configured owner's,
/// else the app's user's. `below`: also for its subdirectories.
pub fn choose(path: &Path, rights: Rights, below: bool) {
    CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), (rights, below));
}

fn chosen(directory: &Path, name: Option<&OsStr>) -> Option<Rights> {
    let chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
    let exactly = name.and_then(|name| chosen.get(&directory.join(name)));
    let above =
        || directory.ancestors().skip(1).filter_map(|above| chosen.get(above)).find(|(_, below)| *below);
    exactly.or_else(|| chosen.get(directory)).or_else(above).map(|(rights, _)| rights.clone())
}

/// Does `work` with the rights for the database's directory. Nested calls change nothing.
pub fn within<T>(db: &DbPath, work: impl FnOnce() -> T) -> T {
    within_directory(db.directory(), db.as_path().file_name(), work)
}

/// The same for a directory, and a file in it whose owner counts.
pub fn within_directory<T>(directory: &Path, name: Option<&OsStr>, work: impl FnOnce() -> T) -> T {
    if !are_roots() || guard::acting() {
        return work();
    }
    let rights = of_directory(directory, name);
    let _acting = act(rights.as_ref());
    work()
}

/// Opens the regular file at `path` to read it: a database, or a file beside one.
pub fn read(path: &Path) -> io::Result<File> {
    let file = DbPath::new(path);
    within(&file, || Dir::open(file.directory())?.read(&file.file_name()))
}

/// Does `work` with litevisor's own rights: for operations on an open file that only root may do.
pub fn own<T>(work: impl FnOnce() -> T) -> T {
    let _acting = act(None);
    work()
}

/// The rights for a database's files; None: litevisor's own.
pub fn of(db: &DbPath) -> Option<Rights> {
    if !are_roots() { None } else { of_directory(db.directory(), db.as_path().file_name()) }
}

fn of_directory(directory: &Path, name: Option<&OsStr>) -> Option<Rights> {
    // The files beside a database have its owner.
    let name = name.map(DbPath::database_name);
    let chosen = chosen(directory, name);
    let mut at = directory;
    loop {
        match Dir::walk(at) {
            Ok((dir, way)) => {
                let db = name.filter(|_| at == directory).and_then(|name| dir.stat(name).ok().flatten());
                return effective::rights_in(chosen.as_ref(), &way, db.map(|seen| seen.owner));
            }
            // A missing directory is created in the next one above.
            Err(error) if error.kind() == io::ErrorKind::NotFound => match at.parent() {
                Some(above) => at = above,
                None => return chosen,
            },
            // A network file system may refuse root and allow the user.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && chosen.is_some() => {
                return chosen;
            }
            // A link leads elsewhere. Opening the directory fails, too, and reports the reason.
            Err(_) => return Some(Rights::nobody()),
        }
    }
}

/// Which right the app's user lacks to write to its database, as a message: to create files beside it, as
/// SQLite must, or to change the existing file.
pub fn lacking(db: &DbPath) -> Option<String> {
    let chosen = chosen(db.directory(), db.as_path().file_name()).filter(|_| are_roots())?;
    let (dir, way) = Dir::walk(db.directory()).ok()?;
    let uid = chosen.uid;
    let path = db.directory().display();
    let of = |owner: Owner| format!("belongs to uid {} (mode {:04o})", owner.uid, owner.mode & 0o7777);
    if !may_write(&chosen, &way) {
        let of = of(*way.last()?);
        return Some(format!(
            "uid {uid} cannot create files in {path}, which {of}, and SQLite needs a -wal there: chown {uid} \
             {path}"
        ));
    }
    let file = dir.stat(&db.file_name()).ok()??;
    let private = file.kind == Kind::File && !may_change(&chosen, file.owner);
    private.then(|| format!("uid {uid} cannot write to it, for it {}: chown {uid} {db}", of(file.owner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_chosen_for_a_database_a_directory_and_what_is_below_it() {
        let of = |uid| Rights { uid, gid: uid, groups: vec![uid] };
        choose(Path::new("/chosen/one.db"), of(1), false);
        choose(Path::new("/chosen/flat"), of(2), false);
        choose(Path::new("/chosen/deep"), of(3), true);
        choose(Path::new("/chosen/deep/own"), of(4), false);
        for (directory, name, uid) in [
            ("/chosen", "one.db", Some(1)),
            ("/chosen", "two.db", None),
            ("/chosen/flat", "a.db", Some(2)),
            ("/chosen/flat/sub", "a.db", None),
            ("/chosen/deep", "a.db", Some(3)),
            ("/chosen/deep/a/b", "a.db", Some(3)),
            ("/chosen/deep/own", "a.db", Some(4)),
            ("/chosen/deep/own/a", "a.db", Some(3)),
        ] {
            let found = chosen(Path::new(directory), Some(OsStr::new(name)));
            assert_eq!(found.map(|rights| rights.uid), uid, "{directory}/{name}");
        }
    }
}

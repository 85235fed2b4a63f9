//! Where a database and everything beside it lives. One home for every derived name.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Absolute path of a database file; the names beside it follow from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DbPath(PathBuf);

/// The files that SQLite keeps beside a database. A stale one silently changes what the database says.
pub const SIDE_SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

impl DbPath {
    /// What the names of `staged` and `aside` end with.
    pub const STAGED: &str = ".litevisor-staged";
    pub const ASIDE: &str = ".litevisor-aside";

    pub fn new(path: impl Into<PathBuf>) -> DbPath {
        DbPath(path.into())
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }

    pub fn directory(&self) -> &Path {
        match self.0.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    pub fn file_name(&self) -> OsString {
        self.0.file_name().map(OsString::from).unwrap_or_default()
    }

    pub fn wal(&self) -> PathBuf {
        self.with_suffix("-wal")
    }

    pub fn shm(&self) -> PathBuf {
        self.with_suffix("-shm")
    }

    /// The three side files, in the order of `SIDE_SUFFIXES`.
    pub fn sides(&self) -> [PathBuf; 3] {
        SIDE_SUFFIXES.map(|suffix| self.with_suffix(suffix))
    }

    /// `.NAME-litevisor`, our own directory beside the database.
    pub fn state_dir(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.file_name());
        name.push("-litevisor");
        self.directory().join(name)
    }

    /// `.NAME-litestream`, Litestream's directory beside the database.
    pub fn litestream_dir(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.file_name());
        name.push("-litestream");
        self.directory().join(name)
    }

    /// The restored database before it is installed.
    pub fn staged(&self) -> PathBuf {
        self.with_suffix(DbPath::STAGED)
    }

    /// The database that was here before, while a restore is being installed. Its existence is the mark of an open
    /// installation.
    pub fn aside(&self) -> DbPath {
        DbPath(self.with_suffix(DbPath::ASIDE))
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut path = self.0.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    }
}

impl fmt::Display for DbPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_the_database() {
        let db = DbPath::new("/data/app.db");
        assert_eq!(db.wal(), Path::new("/data/app.db-wal"));
        assert_eq!(db.state_dir(), Path::new("/data/.app.db-litevisor"));
        assert_eq!(db.litestream_dir(), Path::new("/data/.app.db-litestream"));
        assert_eq!(db.aside().wal(), Path::new("/data/app.db.litevisor-aside-wal"));
        assert_eq!(DbPath::new("app.db").directory(), Path::new("."));
    }
}

//! The path of a database, and the names of all files beside it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
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
    /// Bytes that a database's name may have: with the longest suffix that a restore adds
    /// (`.litevisor-staged-journal`) it must still be the name of a file, which has 255.
    pub const LONGEST_NAME: usize = 255 - DbPath::STAGED.len() - "-journal".len();

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

    pub fn journal(&self) -> PathBuf {
        self.with_suffix("-journal")
    }

    /// The three side files, in the order of `SIDE_SUFFIXES`.
    pub fn sides(&self) -> [PathBuf; 3] {
        SIDE_SUFFIXES.map(|suffix| self.with_suffix(suffix))
    }

    /// `.NAME-litevisor`, litevisor's directory beside the database.
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

    /// The database that was here before, while a restore is being installed. Its existence is the mark of an
    /// open installation.
    pub fn aside(&self) -> DbPath {
        DbPath(self.with_suffix(DbPath::ASIDE))
    }

    /// The database's name, from its own or that of a file beside it.
    pub fn database_name(name: &OsStr) -> &OsStr {
        let mut bytes = name.as_bytes();
        for _ in 0..2 {
            let suffixes = SIDE_SUFFIXES.into_iter().chain([DbPath::STAGED, DbPath::ASIDE]);
            let shorter = suffixes.filter_map(|suffix| bytes.strip_suffix(suffix.as_bytes())).next();
            bytes = shorter.filter(|rest| !rest.is_empty()).unwrap_or(bytes);
        }
        OsStr::from_bytes(bytes)
    }

    /// The database that a state directory belongs to.
    pub fn of_state_dir(directory: &Path) -> Option<DbPath> {
        let name = directory.file_name()?.as_bytes().strip_prefix(b".")?.strip_suffix(b"-litevisor")?;
        Some(DbPath(directory.with_file_name(OsStr::from_bytes(name))))
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut path = self.0.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    }
}

/// Why a file of this name cannot be replicated and restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameProblem {
    NotUtf8,
    TooLong {
        bytes: usize,
    },
    /// Stores keep such a name under another one, or do not list it.
    Character(char),
    /// The path below a directory entry, with the replica's prefix.
    LongPath {
        bytes: usize,
        most: usize,
    },
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameProblem::NotUtf8 => write!(f, "its name is not UTF-8, and keys in a replica are"),
            NameProblem::TooLong { bytes } => write!(
                f,
                "its name has {bytes} bytes, and at most {} leave room for the files that a restore puts \
                 beside it",
                DbPath::LONGEST_NAME
            ),
            NameProblem::LongPath { bytes, most } => {
                write!(f, "its prefix in the replica has {bytes} bytes, and keys have room for {most}")
            }
            NameProblem::Character(found) => {
                write!(f, "its name contains {found:?}, which object stores do not keep as it is")
            }
        }
    }
}

/// `in_bucket`: its name becomes part of an object's key.
pub fn name_problem(name: &OsStr, in_bucket: bool) -> Option<NameProblem> {
    let Some(text) = name.to_str() else { return Some(NameProblem::NotUtf8) };
    let unfit = |letter: &char| letter.is_control() || *letter == '\\';
    match text.chars().find(unfit).filter(|_| in_bucket) {
        Some(found) => Some(NameProblem::Character(found)),
        None => (text.len() > DbPath::LONGEST_NAME).then_some(NameProblem::TooLong { bytes: text.len() }),
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
    fn names_that_no_replicated_database_can_have() {
        use std::os::unix::ffi::OsStrExt;
        let long = |bytes: usize| "n".repeat(bytes);
        for (name, in_bucket, problem) in [
            ("app.db", true, None),
            ("größe 1.db", true, None),
            (&long(230), true, None),
            (&long(231), true, Some(NameProblem::TooLong { bytes: 231 })),
            (&long(231), false, Some(NameProblem::TooLong { bytes: 231 })),
            ("a\\b.db", true, Some(NameProblem::Character('\\'))),
            ("a\\b.db", false, None),
            ("a\nb.db", true, Some(NameProblem::Character('\n'))),
            ("a\u{7f}b.db", true, Some(NameProblem::Character('\u{7f}'))),
            ("a\nb.db", false, None),
        ] {
            assert_eq!(name_problem(OsStr::new(name), in_bucket), problem, "{name:?}");
        }
        for in_bucket in [false, true] {
            assert_eq!(name_problem(OsStr::from_bytes(b"\xff.db"), in_bucket), Some(NameProblem::NotUtf8));
        }
        // The longest name of all that are made of it.
        let db = DbPath::new(format!("/data/{}", long(DbPath::LONGEST_NAME)));
        let staged = DbPath::new(db.staged());
        let [made, dir] =
            [staged.sides()[2].clone(), db.state_dir()].map(|path| path.file_name().unwrap().len());
        assert_eq!((made, dir <= 255), (255, true));
    }

    #[test]
    fn names_beside_the_database() {
        let db = DbPath::new("/data/app.db");
        assert_eq!(db.wal(), Path::new("/data/app.db-wal"));
        assert_eq!(db.state_dir(), Path::new("/data/.app.db-litevisor"));
        assert_eq!(db.litestream_dir(), Path::new("/data/.app.db-litestream"));
        assert_eq!(db.aside().wal(), Path::new("/data/app.db.litevisor-aside-wal"));
        assert_eq!(DbPath::new("app.db").directory(), Path::new("."));
        assert_eq!(DbPath::of_state_dir(&db.state_dir()), Some(db.clone()));
        assert_eq!(DbPath::of_state_dir(Path::new("/data/other")), None);
        for beside in [db.as_path().to_owned(), db.wal(), db.shm(), db.staged(), db.aside().wal()] {
            assert_eq!(DbPath::database_name(beside.file_name().unwrap()), "app.db", "{beside:?}");
        }
        assert_eq!(DbPath::database_name(OsStr::new("-wal")), "-wal");
    }
}

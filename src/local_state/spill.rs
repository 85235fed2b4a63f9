//! The spill directory beside a database (`.NAME-litevisor/spill`): segments that wait for a replica that is away, one LTX
//! file each, under its TXID. Owns: their names, writing them so that they are there whole or not at all, removing them,
//! and setting the directory aside. Never: decides what is written or whether a file may be uploaded.

use super::{LocalStateError, failed};
use crate::model::{DbPath, Txid, TxidRange};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MODE: u32 = 0o600;
/// Directories set aside before, at most, that a new one looks past.
const ASIDES: u32 = 10_000;

/// A file that is there, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub txid: Txid,
    pub bytes: u64,
}

fn directory(db: &DbPath) -> PathBuf {
    db.state_dir().join("spill")
}

/// Every file, in the order of the TXIDs. What a kill left half written is removed.
pub fn list(db: &DbPath) -> Result<Vec<Found>, LocalStateError> {
    let directory = directory(db);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", &directory)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", &directory))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if let Some(txid) = parse(&name) {
            let bytes = entry.metadata().map_err(failed("look at", &path))?.len();
            found.push(Found { path, txid, bytes });
        } else if name.ends_with(".tmp") {
            remove(&path)?;
        }
    }
    found.sort_by_key(|file| file.txid);
    Ok(found)
}

fn name(txid: Txid) -> String {
    format!("{}.ltx", TxidRange::single(txid))
}

fn parse(file: &str) -> Option<Txid> {
    let txid = Txid::from_name(file.split_once('-')?.0)?;
    (txid >= Txid::FIRST && file == name(txid)).then_some(txid)
}

/// A file that is being written. Dropped before `finish`, it leaves nothing.
pub struct Writer {
    file: File,
    new: PathBuf,
    path: PathBuf,
    txid: Txid,
    bytes: u64,
    finished: bool,
}

pub fn create(db: &DbPath, txid: Txid) -> Result<Writer, LocalStateError> {
    let directory = directory(db);
    fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
    let path = directory.join(name(txid));
    let new = directory.join(name(txid) + ".tmp");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new);
    let file = file.map_err(failed("create", &new))?;
    Ok(Writer { file, new, path, txid, bytes: 0, finished: false })
}

impl Writer {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LocalStateError> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(failed("write", &self.new))
    }

    /// On the disk, under its name, whatever happens from now on.
    pub fn finish(mut self) -> Result<Found, LocalStateError> {
        self.file.sync_all().map_err(failed("sync", &self.new))?;
        fs::rename(&self.new, &self.path).map_err(failed("rename", &self.new))?;
        self.finished = true;
        // The directory's own name is made durable with its first file.
        for directory in self.path.ancestors().skip(1).take(2) {
            sync(directory)?;
        }
        Ok(Found { path: self.path.clone(), txid: self.txid, bytes: self.bytes })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.new);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a directory, no database")]
fn sync(directory: &Path) -> Result<(), LocalStateError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))
}

/// Opens a file to read it.
#[expect(clippy::disallowed_methods, reason = "no database, and nobody else's")]
pub fn open(path: &Path) -> Result<File, LocalStateError> {
    File::open(path).map_err(failed("open", path))
}

/// That it is gone already is no error.
pub fn remove(path: &Path) -> Result<(), LocalStateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Puts the whole directory out of the way, for somebody to look at; where to. None: there is nothing in it.
pub fn set_aside(db: &DbPath) -> Result<Option<PathBuf>, LocalStateError> {
    if list(db)?.is_empty() {
        return Ok(None);
    }
    let from = directory(db);
    for number in 1..=ASIDES {
        let to = from.with_file_name(format!("spill-set-aside-{number}"));
        if !to.exists() {
            fs::rename(&from, &to).map_err(failed("rename", &from))?;
            sync(&db.state_dir())?;
            return Ok(Some(to));
        }
    }
    Err(failed("set aside", &from)(ErrorKind::AlreadyExists.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn db() -> (tempfile::TempDir, DbPath) {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        (dir, db)
    }

    fn write(db: &DbPath, txid: u64, bytes: &[u8]) -> Found {
        let mut writer = create(db, Txid(txid)).unwrap();
        writer.write(bytes).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let (_dir, db) = db();
        assert_eq!(list(&db).unwrap(), []);
        let mut torn = create(&db, Txid(3)).unwrap();
        torn.write(b"half").unwrap();
        assert_eq!(list(&db).unwrap(), [], "and what a kill leaves is removed");
        drop(torn);
        let (ten, nine) = (write(&db, 0x10, b"ab"), write(&db, 9, b"c"));
        assert_eq!((nine.bytes, ten.bytes), (1, 2));
        assert!(nine.path.ends_with(".app.db-litevisor/spill/0000000000000009-0000000000000009.ltx"));
        assert_eq!(fs::metadata(&nine.path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(nine.path.with_file_name("0000000000000001-0000000000000002.ltx"), "not ours").unwrap();
        fs::write(nine.path.with_file_name("README"), "not ours").unwrap();
        assert_eq!(list(&db).unwrap(), [nine.clone(), ten.clone()]);
        remove(&nine.path).unwrap();
        remove(&nine.path).unwrap();
        assert_eq!(list(&db).unwrap(), [ten]);
    }

    #[test]
    fn what_is_set_aside_is_kept() {
        let (_dir, db) = db();
        assert_eq!(set_aside(&db).unwrap(), None);
        let mut asides = Vec::new();
        for content in [b"a", b"b"] {
            let file = write(&db, 7, content);
            asides.push(set_aside(&db).unwrap().unwrap().join(file.path.file_name().unwrap()));
            assert_eq!(list(&db).unwrap(), []);
        }
        assert_ne!(asides[0], asides[1]);
        let kept: Vec<_> = asides.iter().map(|path| fs::read(path).unwrap()).collect();
        assert_eq!(kept, [b"a", b"b"]);
    }
}

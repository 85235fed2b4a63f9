//! The spill directory of a database (`.NAME-litevisor/spill`): segments that wait because the replica cannot
//! be reached, one LTX file each, named by its TXID. A file appears as a whole or not at all.
//! `replicate/upload` decides what is written and uploaded.

use super::place::{self, Place};
use super::{LocalStateError, failed};
use crate::model::{DbPath, Txid, TxidRange};
use crate::rights::{Dir, Kind, absent_ok};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "spill";
const MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// The largest number in the name of a directory set aside.
const ASIDES: u32 = 10_000;

/// A complete file of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpilledFile {
    pub path: PathBuf,
    pub txid: Txid,
    pub bytes: u64,
}

fn directory(db: &DbPath) -> PathBuf {
    place::of(db).join(NAME)
}

/// Works in the state directory and the spill directory, if there is one.
fn inside<T>(db: &DbPath, work: impl FnOnce(&Dir, Option<&Dir>) -> io::Result<T>) -> io::Result<Option<T>> {
    inside_at(db, &Place::of(db), work)
}

fn inside_at<T>(
    db: &DbPath,
    place: &Place,
    work: impl FnOnce(&Dir, Option<&Dir>) -> io::Result<T>,
) -> io::Result<Option<T>> {
    place.within(db, || {
        let (state, _acting) = match super::open_at(place) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            opened => opened?,
        };
        match state.below(OsStr::new(NAME)) {
            Ok(spill) => work(&state, Some(&spill)),
            Err(error) if error.kind() == ErrorKind::NotFound => work(&state, None),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                // For example a link. It is in litevisor's own directory, so nothing else is lost with it.
                tracing::warn!(%db, "{} is not a directory: removed", place.path().join(NAME).display());
                absent_ok(state.remove(OsStr::new(NAME)))?;
                work(&state, None)
            }
            Err(error) => Err(error),
        }
        .map(Some)
    })
}

/// All files, in the order of the TXIDs. Removes incomplete files that a kill has left.
pub fn list(db: &DbPath) -> Result<Vec<SpilledFile>, LocalStateError> {
    list_at(db, &Place::of(db))
}

pub(super) fn list_at(db: &DbPath, place: &Place) -> Result<Vec<SpilledFile>, LocalStateError> {
    let path = place.path().join(NAME);
    let listed = inside_at(db, place, |_, spill| {
        let mut found = Vec::new();
        let Some(dir) = spill else { return Ok(found) };
        for name in dir.names()? {
            let text = name.to_string_lossy();
            if let Some(txid) = parse(&text) {
                match dir.stat(&name)? {
                    Some(seen) if seen.kind == Kind::File => {
                        found.push(SpilledFile { path: path.join(&name), txid, bytes: seen.bytes });
                    }
                    _ => tracing::warn!(%db, "{} is not a regular file: ignored", path.join(&name).display()),
                }
            } else if text.strip_suffix(".tmp").is_some_and(|rest| parse(rest).is_some()) {
                absent_ok(dir.remove(&name))?;
            }
        }
        Ok(found)
    });
    let mut found = listed.map_err(failed("list", &path))?.unwrap_or_default();
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
    db: DbPath,
    dir: Dir,
    file: File,
    path: PathBuf,
    txid: Txid,
    bytes: u64,
    finished: bool,
}

pub fn create(db: &DbPath, txid: Txid) -> Result<Writer, LocalStateError> {
    let path = directory(db).join(name(txid));
    let made = super::within(db, || make(db, &temporary(txid)));
    let (dir, file) = made.map_err(failed("create", &path))?;
    Ok(Writer { db: db.clone(), dir, file, path, txid, bytes: 0, finished: false })
}

/// The directory, made if need be, and a new file in it. With the owner's rights.
fn make(db: &DbPath, name: &OsStr) -> io::Result<(Dir, File)> {
    let (state, _acting) = super::open_or_make(db)?;
    match state.make(OsStr::new(NAME), DIRECTORY_MODE) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let dir = state.below(OsStr::new(NAME))?;
    let file = dir.create_anew(name, MODE)?;
    Ok((dir, file))
}

fn temporary(txid: Txid) -> OsString {
    OsString::from(name(txid) + ".tmp")
}

/// A file without a name, to be written and read again by this process alone.
pub fn nameless(db: &DbPath) -> Result<File, LocalStateError> {
    let name = OsStr::new("copy.tmp");
    let made = super::within(db, || {
        let (dir, file) = make(db, name)?;
        absent_ok(dir.remove(name))?;
        Ok(file)
    });
    made.map_err(failed("create", &directory(db)))
}

impl Writer {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LocalStateError> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(failed("write", &self.path))
    }

    /// On the disk, under its name, whatever happens from now on.
    pub fn finish(mut self) -> Result<SpilledFile, LocalStateError> {
        self.file.sync_all().map_err(failed("sync", &self.path))?;
        let named = self.inside(|writer, state| {
            writer.dir.rename(&temporary(writer.txid), name(writer.txid).as_ref())?;
            writer.dir.sync()?;
            // The directory's own name is made durable with its first file.
            state.sync()
        });
        named.map_err(failed("rename", &self.path))?;
        self.finished = true;
        Ok(SpilledFile { path: self.path.clone(), txid: self.txid, bytes: self.bytes })
    }

    fn inside<T>(&self, work: impl FnOnce(&Writer, &Dir) -> io::Result<T>) -> io::Result<T> {
        super::within(&self.db, || {
            let (state, _acting) = super::open(&self.db)?;
            work(self, &state)
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.inside(|writer, _| writer.dir.remove(&temporary(writer.txid)));
        }
    }
}

/// Opens a file to read it.
pub fn open(path: &Path) -> Result<File, LocalStateError> {
    at(path, |dir, name| dir.read(name)).map_err(failed("open", path))
}

/// The same in a state directory that is not the present one.
pub(super) fn open_at(db: &DbPath, place: &Place, path: &Path) -> Result<File, LocalStateError> {
    let name = path.file_name().unwrap_or_default();
    let opened = inside_at(db, place, |_, spill| spill.ok_or(ErrorKind::NotFound)?.read(name));
    opened.and_then(|file| file.ok_or_else(|| ErrorKind::NotFound.into())).map_err(failed("open", path))
}

/// That it is gone already is no error.
pub fn remove(path: &Path) -> Result<(), LocalStateError> {
    match at(path, Dir::remove) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The file at `path`, by its name in the spill directory of its database.
fn at<T>(path: &Path, work: impl FnOnce(&Dir, &OsStr) -> io::Result<T>) -> io::Result<T> {
    let state = path.parent().and_then(Path::parent);
    let (Some(db), Some(name)) = (state.and_then(place::database_of), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let done = inside(&db, |_, spill| work(spill.ok_or(ErrorKind::NotFound)?, name));
    done?.ok_or_else(|| ErrorKind::NotFound.into())
}

/// Renames the whole directory, so that its files are kept; returns the new path. None: it has no files.
pub fn set_aside(db: &DbPath) -> Result<Option<PathBuf>, LocalStateError> {
    if list(db)?.is_empty() {
        return Ok(None);
    }
    let from = directory(db);
    let moved = inside(db, |state, _| {
        for number in 1..=ASIDES {
            let to = OsString::from(format!("spill-set-aside-{number}"));
            if state.stat(&to)?.is_none() {
                state.rename(OsStr::new(NAME), &to)?;
                state.sync()?;
                return Ok(from.with_file_name(to));
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    });
    moved.map_err(failed("set aside", &from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn db() -> (tempfile::TempDir, DbPath) {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        (dir, db)
    }

    fn write(db: &DbPath, txid: u64, bytes: &[u8]) -> SpilledFile {
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

    /// The app's user may write there, and we may be root.
    #[test]
    fn links_in_the_way_are_not_followed() {
        let (dir, db) = db();
        let victim = dir.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        fs::create_dir_all(directory(&db)).unwrap();
        std::os::unix::fs::symlink(&victim, directory(&db).join(temporary(Txid(7)))).unwrap();
        let file = write(&db, 7, b"new");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        remove(&file.path).unwrap();
        std::os::unix::fs::symlink(&victim, &file.path).unwrap();
        assert_eq!(list(&db).unwrap(), [], "a link is no segment");
        assert!(open(&file.path).is_err());
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

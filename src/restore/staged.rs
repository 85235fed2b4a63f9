//! Writes the staged file: adjacent pages in one write, the disk's work in parallel to ours, and space
//! reserved before it is written. Knows offsets and bytes, not pages.

use super::error::RestoreError;
use crate::model::DbPath;
use crate::rights::{self, Dir};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Adjacent pages are written together up to this many bytes.
const RUN: usize = 256 << 10;
/// What may be written and not yet be on the disk is at most about twice this: the last sync stays short, and
/// with it the time in which a signal has to wait for the kernel.
const SYNC_EVERY: u64 = 32 << 20;

/// No other user reads it before it has the owner and the mode of the database to be.
const MODE: u32 = 0o600;

/// Staged files of this process, by device and inode.
static OURS: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());
/// Another process that looks whether a staged file is locked has a lock on it for a moment.
const LOCK_TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// Makes a file beside the database anew, with the rights of its owner. It is locked for as long as it is
/// open: two litevisors with state directories of their own (`meta_dir`) meet here.
pub(super) fn create(db: &DbPath, path: &Path) -> Result<File, RestoreError> {
    let name = path.file_name().unwrap_or_default();
    let made = rights::within(db, || {
        let dir = Dir::open(db.directory())?;
        // While it is locked: the process that has made it can no longer lock it, and gives up.
        let _before = match lock_before(&dir, name)? {
            Before::Others => return Err(busy()),
            Before::Free(file) => file,
        };
        let file = dir.create_anew(name, MODE)?;
        match (0..LOCK_TRIES).find_map(|_| lock_new(&file)) {
            Some(()) if is_named(&dir, name, &file)? => {}
            _ => return Err(busy()),
        }
        ours().extend(id(&file));
        Ok(file)
    });
    made.map_err(RestoreError::io("create", path))
}

/// Whether another process restores the database now. Creates nothing.
pub fn restored_by_another(db: &DbPath) -> bool {
    let path = db.staged();
    let name = path.file_name().unwrap_or_default();
    let found = rights::within(db, || Dir::open(db.directory()).and_then(|dir| lock_before(&dir, name)));
    matches!(found, Ok(Before::Others))
}

enum Before {
    /// Nobody's, or of an earlier attempt of this process.
    Free(Option<File>),
    Others,
}

fn lock_before(dir: &Dir, name: &OsStr) -> io::Result<Before> {
    // What is no regular file is removed, or is in the way.
    let Ok(file) = dir.read(name) else { return Ok(Before::Free(None)) };
    if id(&file).is_some_and(|id| ours().contains(&id)) {
        return Ok(Before::Free(None));
    }
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(Before::Others),
        _ => Ok(Before::Free(Some(file))),
    }
}

/// A file system without locks has none for others, too.
fn lock_new(file: &File) -> Option<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            std::thread::sleep(BETWEEN_TRIES);
            None
        }
        _ => Some(()),
    }
}

fn is_named(dir: &Dir, name: &OsStr, file: &File) -> io::Result<bool> {
    Ok(dir.stat(name)?.map(|seen| (seen.device, seen.inode)) == id(file))
}

fn id(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
}

fn ours() -> MutexGuard<'static, BTreeSet<(u64, u64)>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn busy() -> io::Error {
    io::Error::new(
        ErrorKind::ResourceBusy,
        "another litevisor restores this database now; stop that one first",
    )
}

pub struct Staged {
    path: PathBuf,
    file: Arc<File>,
    run: Vec<u8>,
    /// Where `run` begins.
    at: u64,
    /// The file is to have at least so many bytes, and there was room for them.
    room: u64,
    unsynced: u64,
    syncer: Option<Syncer>,
}

impl Staged {
    /// Empty. A staged file that is there already is another one: a process that still writes to it does no
    /// harm.
    pub fn create(db: &DbPath) -> Result<Staged, RestoreError> {
        let path = db.staged();
        Ok(Staged {
            file: Arc::new(create(db, &path)?),
            path,
            run: Vec::new(),
            at: 0,
            room: 0,
            unsynced: 0,
            syncer: None,
        })
    }

    /// Asks for room before the file is to have so many bytes.
    pub fn make_room(&mut self, bytes: u64) -> Result<(), RestoreError> {
        if bytes <= self.room {
            return Ok(());
        }
        check_room(&self.file, &self.path, bytes)?;
        self.room = bytes;
        Ok(())
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), RestoreError> {
        if offset != self.at + self.run.len() as u64 || self.run.len() + bytes.len() > RUN {
            self.flush()?;
            self.at = offset;
        }
        self.run.extend_from_slice(bytes);
        Ok(())
    }

    pub fn set_len(&mut self, bytes: u64) -> Result<(), RestoreError> {
        self.flush()?;
        let resized = self.file.set_len(bytes);
        resized.map_err(|error| self.failed(error))
    }

    /// Everything is written; syncing the rest is left to the caller.
    pub fn finish(mut self) -> Result<Arc<File>, RestoreError> {
        self.flush()?;
        let synced = self.syncer.take().map_or(Ok(()), Syncer::finish);
        synced.map_err(|error| self.failed(error))?;
        Ok(self.file)
    }

    fn flush(&mut self) -> Result<(), RestoreError> {
        let written = self.file.write_all_at(&self.run, self.at).and_then(|()| self.sync_beside());
        self.run.clear();
        written.map_err(|error| self.failed(error))
    }

    fn sync_beside(&mut self) -> io::Result<()> {
        self.unsynced += self.run.len() as u64;
        if self.unsynced < SYNC_EVERY {
            return Ok(());
        }
        self.unsynced = 0;
        let syncer = match self.syncer.take() {
            Some(syncer) => syncer,
            None => Syncer::start(&self.file)?,
        };
        if syncer.turns.send(()).is_err() {
            return syncer.finish();
        }
        self.syncer = Some(syncer);
        Ok(())
    }

    fn failed(&self, error: io::Error) -> RestoreError {
        if error.kind() == ErrorKind::StorageFull {
            let has = usable_bytes(&self.file).unwrap_or_default();
            return RestoreError::NoSpace { path: self.path.clone(), needs: self.room, has };
        }
        RestoreError::io("write", &self.path)(error)
    }
}

/// Whether `file` can have so many bytes, with what it takes already.
pub(super) fn check_room(file: &File, path: &Path, bytes: u64) -> Result<(), RestoreError> {
    let has = usable_bytes(file).map_err(RestoreError::io("ask for the free space of", path))?;
    if bytes > has {
        return Err(RestoreError::NoSpace { path: path.to_owned(), needs: bytes, has });
    }
    Ok(())
}

/// What the file takes already, and what is free beside it.
fn usable_bytes(file: &File) -> io::Result<u64> {
    let occupied = file.metadata()?.blocks().saturating_mul(512);
    Ok(free_bytes(file)?.saturating_add(occupied))
}

/// For a process that is not privileged.
fn free_bytes(file: &File) -> io::Result<u64> {
    let found = nix::sys::statvfs::fstatvfs(file)?;
    // Some network and overlay file systems do not say.
    if found.blocks() == 0 {
        return Ok(u64::MAX);
    }
    #[allow(clippy::useless_conversion, reason = "32 bits wide on some platforms")]
    Ok(u64::from(found.blocks_available()).saturating_mul(u64::from(found.fragment_size())))
}

/// A thread that syncs the file, again at each turn. A turn is given when the one before is over.
struct Syncer {
    turns: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Syncer {
    fn start(file: &Arc<File>) -> io::Result<Syncer> {
        let (turns, taken) = sync_channel(0);
        let file = Arc::clone(file);
        let run = move || -> io::Result<()> {
            let taken: Receiver<()> = taken;
            taken.iter().try_for_each(|()| file.sync_data())
        };
        let thread = std::thread::Builder::new().name("sync".into()).stack_size(128 << 10).spawn(run)?;
        Ok(Syncer { turns, thread })
    }

    /// An error is returned once, to the first caller: it must not get lost.
    fn finish(self) -> io::Result<()> {
        drop(self.turns);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs has ended")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn any_order_of_writes_gives_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        fs::write(db.staged(), "left over").unwrap();
        let mut staged = Staged::create(&db).unwrap();
        let page = |n: u64| vec![n as u8; 4096];
        let pages = 20_000;
        // Two runs with a gap, then what was left out, then some of it again; enough to be synced on the way.
        for n in (0..5000).chain(7000..pages).chain(5000..7000).chain([3, 4, 9]) {
            staged.write(n * 4096, &page(n)).unwrap();
        }
        staged.write(4096, &page(77)).unwrap();
        staged.set_len((pages - 1) * 4096).unwrap();
        assert!(staged.syncer.is_some());
        drop(staged.finish().unwrap());
        let bytes = fs::read(db.staged()).unwrap();
        assert_eq!(bytes.len() as u64, (pages - 1) * 4096);
        for (n, found) in (0..).zip(bytes.chunks(4096)) {
            assert!(found == page(if n == 1 { 77 } else { n }), "page {n}");
        }
    }

    #[test]
    fn room_is_asked_for_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut staged = Staged::create(&DbPath::new(dir.path().join("app.db"))).unwrap();
        staged.make_room(1 << 20).unwrap();
        staged.make_room(1 << 10).unwrap();
        let error = staged.make_room(1 << 60).unwrap_err();
        assert!(
            matches!(error, RestoreError::NoSpace { needs, has, .. } if needs == 1 << 60 && has > 0),
            "{error}"
        );
        let full = staged.failed(io::Error::from(ErrorKind::StorageFull));
        assert!(matches!(full, RestoreError::NoSpace { needs, .. } if needs == 1 << 20), "{full}");
        assert!(matches!(staged.failed(io::Error::other("x")), RestoreError::Io { .. }));
    }
}

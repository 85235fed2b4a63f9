//! The descriptor rule. POSIX locks belong to process and inode: closing *any* descriptor of a database file
//! drops the locks that SQLite holds on it in this process, and another process may then delete the WAL with
//! commits in it. So a database file that litevisor reads itself is opened once, before the first connection,
//! and never closed again. (The `-wal` carries no locks and may be opened freely. The `-shm` is kept like the
//! database file; `wal_view` reads it.)

use crate::model::{DB_MAGIC, DbPath};
use crate::rights;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Identity of a file: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(u64, u64);

impl FileId {
    pub(super) fn of(device: u64, inode: u64) -> FileId {
        FileId(device, inode)
    }
}

static KEPT: Mutex<Option<HashMap<FileId, Arc<File>>>> = Mutex::new(None);

/// First byte and length of the range on which SQLite takes its SHARED lock (os.h: `SHARED_FIRST`,
/// `SHARED_SIZE`).
const SHARED_FIRST: i64 = 0x4000_0002;
const SHARED_SIZE: i64 = 510;

/// Which file a path names now; None when there is none. `stat` does not touch locks.
pub fn identity(path: &Path) -> io::Result<Option<FileId>> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(FileId(meta.dev(), meta.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The process's one descriptor of the database file at `path`, opened now if it is the first time.
pub fn keep(path: &Path) -> io::Result<(FileId, Arc<File>)> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_with(HashMap::new);
    if let Some(id) = identity(path)?
        && let Some(file) = kept.get(&id)
    {
        return Ok((id, Arc::clone(file)));
    }
    let file = Arc::new(rights::read(path)?);
    let meta = file.metadata()?;
    let id = FileId(meta.dev(), meta.ino());
    // The path may have changed between `stat` and `open`. The new descriptor of a file that is kept already
    // must stay open too, whatever else happens.
    if let Some(earlier) = kept.get(&id) {
        let earlier = Arc::clone(earlier);
        std::mem::forget(file);
        return Ok((id, earlier));
    }
    kept.insert(id, Arc::clone(&file));
    Ok((id, file))
}

/// What a file's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is in it, or it is gone: what it becomes will be seen.
    Empty,
    Sqlite,
    Other,
}

/// Looks into a file that may become a database of ours: it is not kept for that. A connection has kept its
/// file since before, and the list of those is locked here: no lock of a connection can get lost by the
/// closing.
pub fn kind(path: &Path) -> io::Result<Kind> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let id = match identity(path)? {
        None => return Ok(Kind::Empty),
        Some(id) => id,
    };
    if kept.as_ref().is_some_and(|kept| kept.contains_key(&id)) {
        return Ok(Kind::Sqlite);
    }
    let mut start = [0; DB_MAGIC.len()];
    let got = match rights::read(path) {
        Ok(file) => read_full(&file, 0, &mut start)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(match got {
        0 => Kind::Empty,
        16 if start == *DB_MAGIC => Kind::Sqlite,
        _ => Kind::Other,
    })
}

/// A byte of the database that SQLite never locks, behind its own range: a process that replicates the
/// database has a lock on it.
const OWNER: i64 = 0x4000_4c56;

/// A second safety: an open-file-description lock on SQLite's SHARED range survives the accident that this
/// file exists to prevent, and keeps other processes from deleting the WAL. On the last byte only: a process
/// that wants the range for itself meets it there, and on the others `used_by_others` does not meet
/// ourselves. Failing to get it is no error. A lock on `OWNER` tells another litevisor that this database is
/// replicated: it lasts as long as the file, even if the lock file is deleted (`local_state::lock`).
pub fn guard(file: &File) {
    for lock in [shared_range(libc::F_RDLCK, SHARED_SIZE - 1, 1), range(libc::F_RDLCK, OWNER, 1)] {
        if let Err(errno) = fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
            tracing::debug!(%errno, "no second lock on the database: this file system has none");
        }
    }
}

/// Whether another process replicates the database at `path`. If that is not known: false.
pub fn replicated_by_another(path: &Path) -> bool {
    let mut lock = range(libc::F_WRLCK, OWNER, 1);
    with_file(path, |file| fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok())
        && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// The same as `used_by_others`, for a file that need not be kept afterwards.
pub fn locked_by_others(path: &Path) -> bool {
    let mut lock = shared_range(libc::F_WRLCK, 0, SHARED_SIZE - 1);
    with_file(path, |file| fcntl(file, FcntlArg::F_GETLK(&mut lock)).is_ok())
        && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// Whether another process keeps everybody else from reading the database at `path`. If that is not known:
/// false.
pub fn locked_whole_by_another(path: &Path) -> bool {
    let mut lock = shared_range(libc::F_RDLCK, 0, SHARED_SIZE - 1);
    with_file(path, |file| fcntl(file, FcntlArg::F_GETLK(&mut lock)).is_ok())
        && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// The byte of a `-shm` on which each process that uses it has a lock (`UNIX_SHM_DMS`).
const INDEX_IN_USE: i64 = 128;

pub fn index_used_by_another(index: &File) -> bool {
    let mut lock = range(libc::F_WRLCK, INDEX_IN_USE, 1);
    fcntl(index, FcntlArg::F_GETLK(&mut lock)).is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// `PENDING_BYTE`: a process that wants the database for itself keeps new readers out.
const PENDING: i64 = 0x4000_0000;

/// The other process that wants the whole database in `db`, and that a connection of ours keeps from it: it
/// has the lock of a process that excludes readers, or it has opened the database and does without the
/// wal-index.
pub fn claimant(db: &File, index: &File) -> Option<User> {
    let mut pending = range(libc::F_WRLCK, PENDING, 1);
    holder(db, &mut pending).or_else(|| user_of(db).filter(|_| !index_used_by_another(index)))
}

/// The other process whose lock is in the way of this one.
fn holder(file: &File, lock: &mut libc::flock) -> Option<User> {
    let held = fcntl(file, FcntlArg::F_GETLK(lock)).is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short;
    held.then(|| User { pid: Some(lock.l_pid).filter(|pid| *pid > 0) })
}

/// The process's descriptor of the file at `path`. None: it has none.
pub fn kept(path: &Path) -> Option<Arc<File>> {
    let id = identity(path).ok()??;
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(&id).map(Arc::clone)
}

/// Tests the file at `path`: through the kept descriptor, else through one that is closed again. False: no
/// file. As in `kind`, no connection of ours has a file that is not kept.
fn with_file(path: &Path, look: impl FnOnce(&File) -> bool) -> bool {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    // Through a link, too: it is the file that others have open.
    let Ok(meta) = std::fs::metadata(path) else { return false };
    let id = FileId(meta.dev(), meta.ino());
    if let Some(file) = kept.as_ref().and_then(|kept| kept.get(&id)) {
        return look(file);
    }
    // To open a device has an effect: only with the rights of the user who can create a link there.
    rights::within(&DbPath::new(path), || {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
        file.is_ok_and(|file| look(&file))
    })
}

/// Whether another process has a connection to the database at `path`: in WAL mode each holds the SHARED lock
/// from its first statement to its end. Locks are seen across containers that share a disk of one machine. If
/// that is not known: false.
pub fn used_by_others(path: &Path) -> bool {
    keep(path).is_ok_and(|(_, file)| user_of(&file).is_some())
}

/// Another process that has a connection to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// None: it is in a PID namespace that is not visible from here.
    pub pid: Option<i32>,
}

/// The first other process that has a connection to the database in `file`, if there is one.
pub fn user_of(file: &File) -> Option<User> {
    let mut lock = shared_range(libc::F_WRLCK, 0, SHARED_SIZE - 1);
    // The answer is the lock that conflicts with this one; never one of this process.
    holder(file, &mut lock)
}

/// Whether the path names this file.
pub fn is(path: &Path, file: &File) -> bool {
    let id = file.metadata().map(|meta| FileId(meta.dev(), meta.ino()));
    id.is_ok_and(|id| identity(path).ok().flatten() == Some(id))
}

/// First byte and length of the range in which SQLite has all its locks on a database file (`PENDING_BYTE`
/// and on).
const LOCKS_FIRST: i64 = 0x4000_0000;
const LOCKS_SIZE: i64 = 512;

/// Removes the `-wal` and the `-shm` under the lock, and with the condition, with which SQLite's last `close`
/// removes them: no process has the database open. `finished`: whether the WAL is one that is captured and
/// copied to its end. False: nothing was removed. This process must have no connection to the database: its
/// locks would be lost.
pub fn remove_sides_alone(db: &DbPath, finished: impl FnOnce(&File) -> bool) -> io::Result<bool> {
    rights::within(db, || remove_sides_locked(db, finished))
}

fn remove_sides_locked(db: &DbPath, finished: impl FnOnce(&File) -> bool) -> io::Result<bool> {
    let Some(writable) = lock_all(db.as_path())? else { return Ok(false) };
    let meta = writable.metadata()?;
    remove_sides(db, FileId(meta.dev(), meta.ino()), &writable, finished)
}

/// Opens the database for writing with all of SQLite's locks; None: another connection has one of them. This
/// process must have no connection to the database.
pub(super) fn lock_all(path: &Path) -> io::Result<Option<File>> {
    let (_, kept) = keep(path)?;
    unguard(&kept);
    // A write lock needs a descriptor for writing, and goes with it.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let writable = File::options().read(true).write(true).custom_flags(flags).open(path)?;
    let all = range(libc::F_WRLCK, LOCKS_FIRST, LOCKS_SIZE);
    let locked = is(path, &writable) && fcntl(&writable, FcntlArg::F_OFD_SETLK(&all)).is_ok();
    Ok(locked.then_some(writable))
}

fn remove_sides(
    db: &DbPath,
    id: FileId,
    file: &File,
    finished: impl FnOnce(&File) -> bool,
) -> io::Result<bool> {
    if identity(db.as_path())? != Some(id) {
        return Ok(false);
    }
    let (_, wal) = match open_wal(&db.wal()) {
        Ok(wal) => wal,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !finished(&wal) {
        return Ok(false);
    }
    file.sync_data()?;
    for side in [db.wal(), db.shm()] {
        match std::fs::remove_file(&side) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

/// Lets go of the second lock.
pub fn unguard(file: &File) {
    let unlock = shared_range(libc::F_UNLCK, 0, SHARED_SIZE);
    let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&unlock));
}

/// A lock on a part of SQLite's SHARED range.
fn shared_range(kind: libc::c_int, first: i64, length: i64) -> libc::flock {
    range(kind, SHARED_FIRST + first, length)
}

fn range(kind: libc::c_int, first: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: first,
        l_len: length,
        l_pid: 0,
    }
}

/// Whether there is no file, or one of 0 bytes.
pub fn is_empty(path: &Path) -> bool {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => meta.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Paths, and the files that they named once.
pub struct Named(Vec<(PathBuf, Option<FileId>)>);

impl Named {
    pub fn new(files: impl IntoIterator<Item = (PathBuf, Option<FileId>)>) -> Named {
        Named(files.into_iter().collect())
    }

    /// Whether each path still names the same file.
    pub fn unchanged(&self) -> bool {
        self.0.iter().all(|(path, id)| identity(path).is_ok_and(|now| now == *id))
    }
}

/// Opens a `-wal` for reading.
pub fn open_wal(path: &Path) -> io::Result<(FileId, Arc<File>)> {
    let file = rights::read(path)?;
    let meta = file.metadata()?;
    Ok((FileId(meta.dev(), meta.ino()), Arc::new(file)))
}

/// Closes the process's descriptor of the file at `path`, which is about to be replaced and would keep its
/// space. No connection of ours may have the file open.
pub fn let_go(path: &Path) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let (Some(kept), Ok(Some(id))) = (kept.as_mut(), identity(path)) {
        kept.remove(&id);
    }
}

/// For tests that live many lives in one process: `file` as it is when the process that kept it has died. Its
/// second lock goes; it is closed when no connection has it open any more.
#[cfg(test)]
pub fn died(id: FileId, still_open: bool) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(kept) = kept.as_mut() else { return };
    if let Some(file) = kept.get(&id) {
        unguard(file);
        fcntl(&**file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, OWNER, 1))).unwrap();
    }
    if !still_open {
        kept.remove(&id);
    }
}

#[cfg(test)]
static INDEXES: Mutex<Vec<(crate::model::DbPath, FileId)>> = Mutex::new(Vec::new());

/// For `indexes_died`: the wal-index `id` is kept for the database at `path`.
#[cfg(test)]
pub(super) fn note_index(path: &crate::model::DbPath, id: FileId) {
    let mut indexes = INDEXES.lock().unwrap_or_else(PoisonError::into_inner);
    if !indexes.iter().any(|(_, known)| *known == id) {
        indexes.push((path.clone(), id));
    }
}

/// The same as `died` for every wal-index that the database at `path` has had, when no connection has it open
/// any more.
#[cfg(test)]
pub fn indexes_died(path: &crate::model::DbPath) {
    let mut indexes = INDEXES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    indexes.retain(|(db, id)| {
        let dead = db == path;
        if let Some(kept) = kept.as_mut().filter(|_| dead) {
            kept.remove(id);
        }
        !dead
    });
}

/// Reads until `buffer` is full or the file ends.
pub fn read_full(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_bytes_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        assert_eq!(kind(&path).unwrap(), Kind::Empty);
        for (bytes, expected) in [
            (&b""[..], Kind::Empty),
            (b"S", Kind::Other),
            (b"SQLite format 3", Kind::Other),
            (b"SQLite format 3\0", Kind::Sqlite),
            (b"SQLite format 2\0 and more", Kind::Other),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(kind(&path).unwrap(), expected, "{bytes:?}");
        }
    }

    /// Our own connections and our own second lock are not others; another process with one connection is.
    #[test]
    fn who_has_it_open() {
        use crate::model::DbPath;
        use crate::sqlite::{ReadHold, Writers};
        use std::io::{BufRead, BufReader};
        let dir = tempfile::tempdir().unwrap();
        let path = DbPath::new(dir.path().join("a.db"));
        let app = rusqlite::Connection::open(path.as_path()).unwrap();
        app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
        let _hold = ReadHold::take(&path, Writers::None).unwrap();
        assert!(!used_by_others(path.as_path()));
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('select * from \
            t').fetchall()\n\
                      print('open', flush=True)\nsys.stdin.read()\nc.close()\nprint('closed', \
                      flush=True)\nsys.stdin.read()";
        let mut other = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(path.as_path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "open");
        assert!(used_by_others(path.as_path()));
        drop(other.stdin.take());
        assert_eq!(lines.next().unwrap().unwrap(), "closed");
        assert!(!used_by_others(path.as_path()));
        other.wait().unwrap();
    }
}

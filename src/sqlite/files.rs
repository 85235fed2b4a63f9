//! The descriptor rule. POSIX locks belong to process and inode: closing *any* descriptor of a database file drops the
//! locks that SQLite holds on it in this process, and another process may then delete the WAL with commits in it. So a
//! database file that we read ourselves is opened once, before the first connection, and never closed again. (The
//! `-wal` carries no locks and may be opened freely; the `-shm` is never opened.)

use crate::model::DB_MAGIC;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Identity of a file: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(u64, u64);

static KEPT: Mutex<Option<HashMap<FileId, Arc<File>>>> = Mutex::new(None);

/// First byte and length of the range on which SQLite takes its SHARED lock (os.h: `SHARED_FIRST`, `SHARED_SIZE`).
const SHARED_FIRST: i64 = 0x4000_0002;
const SHARED_SIZE: i64 = 510;

/// Which file a path names now; None when there is none. `stat` does not touch locks.
pub fn identity(path: &Path) -> io::Result<Option<FileId>> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(Some(FileId(meta.dev(), meta.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The process's one descriptor of the database file at `path`, opened now if it is the first time.
#[expect(clippy::disallowed_methods, reason = "the one place that opens a database file, and never closes it")]
pub fn keep(path: &Path) -> io::Result<(FileId, Arc<File>)> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_with(HashMap::new);
    if let Some(id) = identity(path)?
        && let Some(file) = kept.get(&id)
    {
        return Ok((id, Arc::clone(file)));
    }
    let file = Arc::new(File::open(path)?);
    let meta = file.metadata()?;
    let id = FileId(meta.dev(), meta.ino());
    // The path may have changed between `stat` and `open`. The new descriptor of a file that is kept already must stay
    // open too, whatever else happens.
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

/// Looks into a file that may become a database of ours: it is not kept for that. Whoever has a connection keeps its file
/// since before, and the list of those is locked here: no lock of a connection can get lost by the closing.
#[expect(clippy::disallowed_methods, reason = "no connection of ours has a file that is not kept")]
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
    let got = match File::open(path) {
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

/// A second safety: an open-file-description lock on SQLite's SHARED range survives the accident that this file exists
/// to prevent, and keeps other processes from deleting the WAL. On the last byte only: whoever wants the range for himself
/// meets it there, and on the others `used_by_others` does not meet ourselves. Failing to get it is no error.
pub fn guard(file: &File) {
    let lock = shared_range(libc::F_RDLCK, SHARED_SIZE - 1, 1);
    if let Err(errno) = fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
        tracing::debug!(%errno, "no second lock on the database: this file system has none");
    }
}

/// Whether another process has a connection to the database at `path`: in WAL mode each holds the SHARED lock from its first
/// statement to its end. Locks are seen across containers that share a disk of one machine. What cannot be told is no.
pub fn used_by_others(path: &Path) -> bool {
    let Ok((_, file)) = keep(path) else { return false };
    let mut lock = shared_range(libc::F_WRLCK, 0, SHARED_SIZE - 1);
    // It answers with the lock that is in the way of this one; never with one of our own process.
    fcntl(&*file, FcntlArg::F_GETLK(&mut lock)).is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// A lock on a part of SQLite's SHARED range.
fn shared_range(kind: libc::c_int, first: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: SHARED_FIRST + first,
        l_len: length,
        l_pid: 0,
    }
}

/// Opens a `-wal` for reading.
#[expect(clippy::disallowed_methods, reason = "SQLite holds no locks on a -wal")]
pub fn open_wal(path: &Path) -> io::Result<(FileId, Arc<File>)> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    Ok((FileId(meta.dev(), meta.ino()), Arc::new(file)))
}

/// For tests that live many lives in one process: `file` as it is when the process that kept it has died. Its second lock
/// goes; it is closed when nobody has it open any more.
#[cfg(test)]
pub fn died(id: FileId, still_open: bool) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(kept) = kept.as_mut() else { return };
    if let Some(file) = kept.get(&id) {
        let unlock = shared_range(libc::F_UNLCK, 0, SHARED_SIZE);
        fcntl(&**file, FcntlArg::F_OFD_SETLK(&unlock)).unwrap();
    }
    if !still_open {
        kept.remove(&id);
    }
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
        use crate::sqlite::ReadHold;
        use std::io::{BufRead, BufReader};
        let dir = tempfile::tempdir().unwrap();
        let path = DbPath::new(dir.path().join("a.db"));
        let app = rusqlite::Connection::open(path.as_path()).unwrap();
        app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
        let _hold = ReadHold::take(&path).unwrap();
        assert!(!used_by_others(path.as_path()));
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('select * from t').fetchall()\n\
                      print('open', flush=True)\nsys.stdin.read()\nc.close()\nprint('closed', flush=True)\nsys.stdin.read()";
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

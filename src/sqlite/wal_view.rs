//! Reads the state of a database's WAL without a connection, a lock or a wait: where its last commit ends,
//! how much of it is copied, whether a checkpoint of another process waits for the hold, how much space the
//! disk has. Uses the wal-index (`-shm`) through the one descriptor that `files` keeps; several threads may
//! read at the same time.
//!
//! The layout is SQLite's ("WAL-Mode File Format", section 2); `hold/tests.rs` compares it with what SQLite
//! says.

use super::files::{self, read_full};
use super::index_header::{COPIED_AT, IndexHeader, offset, position, word};
use super::wal_index::IndexMap;
use crate::model::{DbPath, PageSize};
use crate::wal::Salts;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::stat::{major, minor};
use nix::sys::statvfs::statvfs;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// SQLite maps the wal-index in regions of this size, and the first one always.
pub(super) const REGION_BYTES: u64 = 32 << 10;
/// Byte locks on the wal-index.
const WRITE_LOCK: i64 = 120;
const CHECKPOINT_LOCK: i64 = 121;
const FIRST_READ_LOCK: i64 = 123;
const READ_LOCKS: i64 = 5;
/// For each of them the last frame that its readers see, as numbers of four bytes.
const READ_MARKS_AT: usize = COPIED_AT + 4;
/// A writer changes one copy of the header after the other.
const LOOKS: usize = 3;

/// The last commit that readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalEnd {
    pub salts: Salts,
    /// Offset in the WAL behind its last frame; `HEADER` when the WAL has none.
    pub offset: u64,
    /// The same of the last frame that is copied into the database file.
    pub copied: u64,
    /// Size of the database in pages.
    pub pages: u32,
}

/// Room on the file system of the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the app may still use.
    pub free: u64,
    /// Bytes that the database file grows by when all of the WAL is copied into it.
    pub growth: u64,
    /// Bytes of the database file.
    pub database: u64,
}

#[derive(Clone)]
pub struct WalView {
    pub(super) path: DbPath,
    pub(super) page_size: PageSize,
    pub(super) db: Arc<File>,
    pub(super) wal: Arc<File>,
    pub(super) index: Arc<File>,
}

impl WalView {
    /// The wal-index, for a look at many of them.
    pub fn map(&self) -> std::io::Result<IndexMap> {
        IndexMap::new(&self.index)
    }

    /// Bytes of the WAL file, used or not.
    pub fn wal_len(&self) -> u64 {
        self.wal.metadata().map_or(0, |meta| meta.len())
    }

    /// None: the wal-index has no sound header (no process has opened the database yet).
    pub fn end(&self) -> Option<WalEnd> {
        let mut bytes = [0; COPIED_AT + 4];
        for _ in 0..LOOKS {
            if read_full(&self.index, 0, &mut bytes).ok()? < bytes.len() {
                return None;
            }
            let end = parse(&bytes, self.page_size);
            if end.is_some() {
                return end;
            }
        }
        None
    }

    /// Whether another process runs a checkpoint in a mode that waits for readers (FULL, RESTART, TRUNCATE).
    /// It holds the checkpoint lock and the write lock meanwhile. A PASSIVE one beside a writer of the same
    /// process looks alike.
    pub fn checkpointer_waits(&self) -> bool {
        match (self.holder(libc::F_GETLK, CHECKPOINT_LOCK), self.holder(libc::F_GETLK, WRITE_LOCK)) {
            (Some(checkpointer), Some(writer)) => checkpointer == writer,
            _ => false,
        }
    }

    /// Whether the kernel still shows a read lock of this process on the wal-index. False: there is none, or
    /// that is not known.
    pub fn held_by_us(&self) -> bool {
        let readers: Vec<_> = (0..READ_LOCKS).filter_map(|slot| self.reader(slot)).collect();
        // The kernel names one of the locks on a byte: a reader of the app may have ours, too.
        let is_listed = || std::fs::read_to_string("/proc/locks").is_ok_and(|list| self.is_listed(&list));
        readers.contains(&own_pid()) || !readers.is_empty() && is_listed()
    }

    /// Whether the hold has read mark 0, whose readers see no frame of the WAL. False: not, or not known.
    pub fn mark_is_zero(&self) -> bool {
        self.reader(0) == Some(own_pid())
    }

    /// One of the processes that read with this mark.
    fn reader(&self, slot: i64) -> Option<libc::pid_t> {
        // An open-file-description lock meets this process's own POSIX locks.
        self.holder(libc::F_OFD_GETLK, FIRST_READ_LOCK + slot)
    }

    fn is_listed(&self, list: &str) -> bool {
        let Ok(meta) = self.index.metadata() else { return false };
        let file = format!("{:02x}:{:02x}:{}", major(meta.dev()), minor(meta.dev()), meta.ino());
        list.lines().any(|line| is_read_lock(line, own_pid(), &file))
    }

    /// Whether another process reads the database as it was before this place of the WAL. As long as it does,
    /// the WAL cannot be started over.
    pub fn reader_before(&self, end: u64) -> bool {
        let mut marks = [0; 4 * READ_LOCKS as usize];
        if !read_full(&self.index, READ_MARKS_AT as u64, &mut marks).is_ok_and(|read| read == marks.len()) {
            return false;
        }
        let slots = (0..READ_LOCKS).zip((0..).step_by(4));
        let mut old = slots.filter(|(slot, at)| {
            // A reader of the first one sees no frame at all.
            *slot == 0 || word(&marks, *at).is_some_and(|mark| offset(mark, self.page_size) < end)
        });
        old.any(|(slot, _)| self.holder(libc::F_GETLK, FIRST_READ_LOCK + slot).is_some())
    }

    /// The process whose lock is in the way of an exclusive one on this byte.
    fn holder(&self, command: libc::c_int, byte: i64) -> Option<libc::pid_t> {
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        let asked = match command {
            libc::F_OFD_GETLK => fcntl(&*self.index, FcntlArg::F_OFD_GETLK(&mut lock)),
            _ => fcntl(&*self.index, FcntlArg::F_GETLK(&mut lock)),
        };
        (asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_pid)
    }

    /// None: the file system does not say.
    #[allow(clippy::useless_conversion, reason = "of another width on some platforms")]
    pub fn room(&self) -> Option<Room> {
        let mount = statvfs(self.path.directory()).ok()?;
        let free = u64::from(mount.blocks_available()).saturating_mul(mount.fragment_size());
        let database = self.db.metadata().ok()?.len();
        let pages = self.end().map_or(0, |end| u64::from(end.pages));
        let growth = (pages * u64::from(self.page_size.get())).saturating_sub(database);
        Some(Room { free, growth, database })
    }
}

fn own_pid() -> libc::pid_t {
    libc::pid_t::try_from(std::process::id()).unwrap_or(0)
}

/// Whether a line of `/proc/locks` (proc(5)) is a lock of this process on a read mark of this file. A file
/// system may have other numbers there than in `stat`: then no line is.
fn is_read_lock(line: &str, pid: libc::pid_t, file: &str) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, "POSIX", "ADVISORY", "READ", owner, place, first, last] = fields[..] else { return false };
    let last = last.parse().unwrap_or(i64::MAX);
    let overlaps = |first: i64| first < FIRST_READ_LOCK + READ_LOCKS && last >= FIRST_READ_LOCK;
    owner.parse() == Ok(pid) && place == file && first.parse().is_ok_and(overlaps)
}

/// The descriptor of a wal-index, kept like that of a database file.
pub(super) fn keep(path: &DbPath) -> Option<(files::FileId, Arc<File>)> {
    let kept = files::keep(&path.shm()).ok()?;
    #[cfg(test)]
    files::note_index(path, kept.0);
    Some(kept)
}

/// Numbers are in the machine's byte order, salts as in the WAL.
fn parse(bytes: &[u8], page_size: PageSize) -> Option<WalEnd> {
    let (first, rest) = bytes.split_at_checked(COPIED_AT)?;
    IndexHeader::parse(first)?;
    let end = position(first, page_size)?;
    let copied = offset(u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?), page_size);
    Some(WalEnd { salts: end.salts, offset: end.offset, copied, pages: word(first, 20)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_read_lock_a_line_is() {
        for (line, expected) in [
            ("7: POSIX  ADVISORY  READ 42 fe:00:99 124 124", true),
            ("7: POSIX  ADVISORY  READ 42 fe:00:99 127 128", true),
            ("7: POSIX  ADVISORY  READ 42 fe:00:99 0 EOF", true),
            ("7: POSIX  ADVISORY  READ 42 fe:00:99 128 128", false),
            ("7: POSIX  ADVISORY  READ 42 fe:00:99 120 122", false),
            ("7: POSIX  ADVISORY  WRITE 42 fe:00:99 124 124", false),
            ("7: -> POSIX  ADVISORY  READ 42 fe:00:99 124 124", false),
            ("7: OFDLCK ADVISORY  READ 42 fe:00:99 124 124", false),
            ("7: POSIX  ADVISORY  READ 43 fe:00:99 124 124", false),
            ("7: POSIX  ADVISORY  READ 42 fe:01:99 124 124", false),
            ("", false),
        ] {
            assert_eq!(is_read_lock(line, 42, "fe:00:99"), expected, "{line}");
        }
    }
}

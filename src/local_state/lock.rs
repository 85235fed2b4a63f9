//! The lock of a database: `lock` in its state directory, held with `flock` by the process that restores or
//! replicates the database, until that process ends. The kernel releases it, however the process ends. A
//! second litevisor on the same file is refused before it touches the file or the replica.
//!
//! The file's text is for messages only (the holder's PID and socket). The app's user may own the directory
//! and can delete or replace the file: the holder of a deleted file is found by its lock on the database
//! itself (`sqlite::files::guard`). A file system without locks, and a directory in which nothing can be
//! created, are no reason to refuse.

use super::place::Place;
use crate::model::DbPath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Mutex, MutexGuard, PoisonError};

const NAME: &str = "lock";
/// The largest lock file that is read.
const TEXT_BYTES: usize = 4096;
/// A file that is replaced again and again while it is locked.
const TRIES: usize = 16;

/// The locks of this process.
static HELD: Mutex<BTreeMap<DbPath, Held>> = Mutex::new(BTreeMap::new());

fn held() -> MutexGuard<'static, BTreeMap<DbPath, Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Held {
    file: File,
    /// This process has created the directory, for the lock alone.
    made_directory: bool,
}

/// What the file says about its holder. Written by a litevisor, but on a disk that the app's user may write
/// to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pid: u32,
    /// PIDs count in their namespace only.
    pid_namespace: u64,
    boot: String,
    /// The holder's status socket.
    socket: String,
}

impl Holder {
    fn this_process(socket: &str) -> Holder {
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let pid_namespace = fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino()).unwrap_or_default();
        Holder { pid: std::process::id(), pid_namespace, boot, socket: socket.to_owned() }
    }

    /// In one phrase; `here`: this process.
    fn describe(&self, here: &Holder) -> String {
        if self.pid == 0 {
            return "its PID is not known".to_owned();
        }
        let same = self.pid_namespace == here.pid_namespace && self.boot == here.boot;
        let place = if same { "" } else { " of another container" };
        let plain: String = self.socket.chars().filter(|char| !char.is_control()).take(200).collect();
        let socket = if plain.is_empty() { String::new() } else { format!(", status at {plain}") };
        format!("PID {}{place}{socket}", self.pid)
    }
}

/// Another process has the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub db: DbPath,
    pub holder: Holder,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.holder.describe(&Holder::this_process(""));
        write!(f, "{} belongs to a litevisor that is running ({told})", self.db)
    }
}

/// Takes the lock for the rest of this process's life, or until `release`. Once more is fine. `socket`: where
/// this process can be asked. What is no lock of another process is no error: the log says that there is no
/// lock.
pub fn hold(db: &DbPath, socket: &str) -> Result<(), Taken> {
    let mut held = held();
    if held.contains_key(db) {
        return Ok(());
    }
    let place = Place::of(db);
    // A missing directory holds nothing that needs a lock yet.
    if place.meta_dir.is_none() && !db.directory().is_dir() {
        return Ok(());
    }
    // One that runs without `meta_dir`.
    if let Some(taken) = place.meta_dir.as_ref().and_then(|_| holder_at(db, &Place::beside(db))) {
        return Err(taken);
    }
    let made_directory = fs::symlink_metadata(place.path()).is_err();
    let taking = super::within(db, || {
        let (directory, _acting) = super::open_or_make(db)?;
        take(&directory.as_file()?.into())
    });
    match taking {
        Ok(Taking::Locked(file)) => {
            let text = serde_json::to_string(&Holder::this_process(socket)).unwrap_or_default();
            // The lock counts, not its text.
            let _ = file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0));
            held.insert(db.clone(), Held { file, made_directory });
            Ok(())
        }
        Ok(Taking::Taken(file)) => match moved(&held, &file) {
            Some(file) => {
                held.insert(db.clone(), Held { file, made_directory: false });
                Ok(())
            }
            None => Err(Taken { db: db.clone(), holder: text(&file) }),
        },
        Err(error) => {
            tracing::warn!(%db, "no lock: a second litevisor on this database would not be refused: {error}");
            Ok(())
        }
    }
}

/// The lock that this process holds already for a database whose directory was renamed to this one.
fn moved(held: &BTreeMap<DbPath, Held>, file: &File) -> Option<File> {
    let same = |found: FileStat| {
        fstat(file.as_fd()).is_ok_and(|own| (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
    };
    let ours = held.iter().filter(|(_, own)| fstat(own.file.as_fd()).is_ok_and(same));
    // One that is still there has two paths, and would be replicated twice.
    let gone = |db: &DbPath| {
        !inside(db, &Place::of(db), |directory| open(directory, OFlag::O_RDONLY))
            .is_ok_and(|own| fstat(own.as_fd()).is_ok_and(same))
    };
    ours.filter(|(db, _)| gone(db)).find_map(|(_, own)| own.file.try_clone().ok())
}

/// Who has the lock, if another process has. Creates nothing, takes nothing.
pub fn holder(db: &DbPath) -> Option<Taken> {
    if held().contains_key(db) {
        return None;
    }
    let beside = Place::beside(db);
    let place = Place::of(db);
    let elsewhere = || holder_at(db, &beside).filter(|_| place != beside);
    holder_at(db, &place).or_else(elsewhere)
}

fn holder_at(db: &DbPath, place: &Place) -> Option<Taken> {
    let file = inside(db, place, |directory| open(directory, OFlag::O_RDONLY)).ok().filter(is_regular)?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(Taken { db: db.clone(), holder: text(&file) }),
        _ => None,
    }
}

/// Releases the lock after a failed start, and removes the directory if it was created for the lock alone.
pub fn release(db: &DbPath) {
    let mut held = held();
    let Some(Held { file, made_directory }) = held.remove(db) else { return };
    if made_directory {
        // While it is locked: a process that waits for this lock notices that the file is gone.
        let _ = super::within(db, || super::remove_if_only(db, NAME));
    }
    drop(file);
}

/// The lock of a state directory that is not the present one, until the file is dropped. What cannot be
/// locked is nobody's.
pub(super) fn beside(db: &DbPath, place: &Place) -> Result<Option<File>, Taken> {
    match inside(db, place, take) {
        Ok(Taking::Locked(file)) => Ok(Some(file)),
        Ok(Taking::Taken(file)) => Err(Taken { db: db.clone(), holder: text(&file) }),
        Err(_) => Ok(None),
    }
}

enum Taking {
    Locked(File),
    /// By another open file, which may be one of this process.
    Taken(File),
}

fn take(directory: &OwnedFd) -> io::Result<Taking> {
    for _ in 0..TRIES {
        let file = match open(directory, OFlag::O_RDWR) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => match create(directory) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            },
            // ELOOP: a symbolic link.
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
                unlinkat(directory, NAME, UnlinkatFlags::NoRemoveDir)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if !is_regular(&file) {
            unlinkat(directory, NAME, UnlinkatFlags::NoRemoveDir)?;
            continue;
        }
        match file.try_lock() {
            Ok(()) if is_in_place(directory, &file) => return Ok(Taking::Locked(file)),
            // Its last holder has removed it.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Taking::Taken(file)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other("the lock file is replaced again and again"))
}

/// Works in the state directory, with the rights of its owner.
fn inside<T>(db: &DbPath, place: &Place, work: impl FnOnce(&OwnedFd) -> io::Result<T>) -> io::Result<T> {
    place.within(db, || {
        let (directory, _acting) = super::open_at(place)?;
        work(&directory.as_file()?.into())
    })
}

/// Never waits and never follows, whatever stands there.
fn open(directory: &OwnedFd, access: OFlag) -> io::Result<File> {
    let flags = access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    Ok(File::from(openat(directory, NAME, flags, Mode::empty())?))
}

/// With the owner of the directory, so that a later run as that user can lock it.
fn create(directory: &OwnedFd) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(directory, NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let owner = fstat(directory)?;
    // Only root may give files away, and only root needs to.
    let _ = fchown(&file, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid)));
    let _ = fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR);
    Ok(File::from(file))
}

fn is_regular(file: &File) -> bool {
    fstat(file.as_fd()).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits())
}

fn is_in_place(directory: &OwnedFd, file: &File) -> bool {
    let id = |stat: FileStat| (stat.st_dev, stat.st_ino);
    let there = fstatat(directory, NAME, AtFlags::AT_SYMLINK_NOFOLLOW).map(id);
    there.is_ok() && there == fstat(file.as_fd()).map(id)
}

fn text(file: &File) -> Holder {
    let mut bytes = vec![0; TEXT_BYTES];
    let read = file.read_at(&mut bytes, 0).unwrap_or_default();
    serde_json::from_slice(bytes.get(..read).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn database() -> (tempfile::TempDir, DbPath) {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        (dir, db)
    }

    fn lock_path(db: &DbPath) -> std::path::PathBuf {
        db.state_dir().join(NAME)
    }

    /// A holder in another process.
    fn other(db: &DbPath) -> std::process::Child {
        use std::io::Read;
        fs::create_dir_all(db.state_dir()).unwrap();
        let script = "import fcntl, sys\nf = open(sys.argv[1], 'a+')\nfcntl.flock(f, fcntl.LOCK_EX)\n\
                      f.truncate(0)\nf.write('{\"pid\":7,\"pid_namespace\":1,\"boot\":\"b\",\"socket\":\"/s\\\\n\"}')\n\
                      f.flush()\nprint('x', flush=True)\nsys.stdin.read()";
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(lock_path(db))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn another_process_is_named_and_its_end_frees_the_lock() {
        let (_dir, db) = database();
        let mut other = other(&db);
        let taken = hold(&db, "").unwrap_err();
        let told = taken.to_string();
        assert!(told.contains("PID 7 of another container, status at /s)"), "{told}");
        assert_eq!(holder(&db), Some(taken));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(holder(&db), None);
        hold(&db, "/here").unwrap();
        hold(&db, "/here").unwrap();
        assert_eq!(holder(&db), None, "this process is no other one");
        let text = fs::read_to_string(lock_path(&db)).unwrap();
        assert!(
            text.contains(&format!("\"pid\":{}", std::process::id())) && text.contains("/here"),
            "{text}"
        );
        release(&db);
        assert!(lock_path(&db).exists(), "the directory was not ours");
    }

    #[test]
    fn a_start_that_came_to_nothing_leaves_nothing() {
        let (_dir, db) = database();
        hold(&db, "").unwrap();
        assert!(lock_path(&db).exists());
        release(&db);
        assert!(!db.state_dir().exists());
        hold(&db, "").unwrap();
        fs::write(db.state_dir().join("state.json"), "{}").unwrap();
        release(&db);
        assert!(db.state_dir().join("state.json").exists());
        let nowhere = DbPath::new(db.directory().join("missing/app.db"));
        hold(&nowhere, "").unwrap();
        assert!(!nowhere.directory().exists());
    }

    #[test]
    fn a_renamed_directory_takes_its_locks_along() {
        let (dir, _) = database();
        let at = |name: &str| DbPath::new(dir.path().join(name).join("app.db"));
        fs::create_dir(at("old").directory()).unwrap();
        hold(&at("old"), "").unwrap();
        symlink(at("old").directory(), at("other").directory()).unwrap();
        // As root, a link is not followed here; it leads to the same database, which is not replicated twice.
        let _ = hold(&at("other"), "");
        assert!(!held().contains_key(&at("other")));
        fs::rename(at("old").directory(), at("new").directory()).unwrap();
        hold(&at("new"), "").unwrap();
        assert!(held().contains_key(&at("new")));
        release(&at("old"));
        let again = fs::OpenOptions::new().read(true).open(lock_path(&at("new"))).unwrap();
        assert!(matches!(again.try_lock(), Err(TryLockError::WouldBlock)), "still locked");
        release(&at("new"));
        again.try_lock().unwrap();
    }

    #[test]
    fn whatever_stands_there_is_neither_followed_nor_waited_for() {
        let (dir, db) = database();
        fs::create_dir(db.state_dir()).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, lock_path(&db)).unwrap();
        hold(&db, "").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert!(fs::symlink_metadata(lock_path(&db)).unwrap().is_file());
        release(&db);
        fs::remove_file(lock_path(&db)).unwrap();
        nix::unistd::mkfifo(&lock_path(&db), Mode::S_IRWXU).unwrap();
        assert_eq!(holder(&db), None);
        hold(&db, "").unwrap();
        assert!(fs::symlink_metadata(lock_path(&db)).unwrap().is_file());
        release(&db);
        // No lock can be had, and that is no reason against a start.
        fs::remove_file(lock_path(&db)).unwrap();
        fs::create_dir(lock_path(&db)).unwrap();
        hold(&db, "").unwrap();
        fs::remove_dir_all(db.state_dir()).unwrap();
        symlink(dir.path(), db.state_dir()).unwrap();
        hold(&db, "").unwrap();
        assert!(!dir.path().join(NAME).exists());
    }

    #[test]
    fn text_that_is_not_ours_is_no_text() {
        let (_dir, db) = database();
        fs::create_dir(db.state_dir()).unwrap();
        for content in ["", "{", "[1]", "{\"pid\":-1}"] {
            fs::write(lock_path(&db), content).unwrap();
            let file = inside(&db, &Place::of(&db), |directory| open(directory, OFlag::O_RDONLY)).unwrap();
            let told = Taken { db: db.clone(), holder: text(&file) }.to_string();
            assert!(told.contains("its PID is not known"), "{told}");
        }
    }
}

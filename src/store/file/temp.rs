//! A temporary file that gets its final name when it is complete and durable; it is removed when dropped. A
//! create never replaces a file.

use super::errors::is_absent;
use crate::store::{Put, key};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

// As Litestream makes them: a replica holds what its database holds.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

pub(super) struct Temp {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Temp {
    /// Opens a temporary file beside `target`, making the directories it needs.
    pub(super) fn create(target: &Path) -> io::Result<Temp> {
        make_directories(parent(target))?;
        let name = target.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidFilename)?;
        loop {
            let path = target.with_file_name(key::temporary(name, RandomState::new().hash_one(name)));
            // The random name alone is enough: not every network file system honours O_EXCL.
            match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                file => return Ok(Temp { file: file?, path, target: target.to_owned() }),
            }
        }
    }

    pub(super) fn write(mut self, bytes: &[u8]) -> io::Result<Temp> {
        self.file.write_all(bytes)?;
        Ok(self)
    }

    /// Renames the file to its target if there is no file of that name. The timestamp is set before, so that
    /// no listing shows another one.
    pub(super) fn publish_new(self, timestamp_ms: i64) -> io::Result<Put> {
        let span = Duration::from_millis(timestamp_ms.unsigned_abs());
        let time = if timestamp_ms < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
        dated(self.file.set_modified(time.ok_or(ErrorKind::InvalidInput)?))?;
        self.file.sync_all()?;
        let put = claim(&self.path, &self.target, |from, to| fs::hard_link(from, to))?;
        let target = self.target.clone();
        drop(self);
        sync_directory(parent(&target))?;
        Ok(put)
    }

    /// Renames the file to its target and replaces a file that is there.
    pub(super) fn publish_over(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        sync_directory(parent(&self.target))
    }
}

/// Some file systems give all files to one user and set no time for another one (Azure Files over SMB): the
/// object is sound without it. LTX files hold their own time; Litestream uses the file's, which is then the
/// time of the upload.
fn dated(set: io::Result<()>) -> io::Result<()> {
    match set {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // Gone already when it was renamed. Otherwise a left-over is harmless: no reader takes the name for
        // an object.
        let _ = fs::remove_file(&self.path);
    }
}

/// The exclusive step: `target` becomes the file at `temp`, unless `target` exists. A hard link is atomic
/// everywhere, on NFS too; file systems without links mostly know an exclusive rename.
fn claim(temp: &Path, target: &Path, link: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<Put> {
    let refused = match link(temp, target) {
        Ok(()) => return Ok(Put::Created),
        Err(error) => error,
    };
    match after_link(refused.kind()) {
        // A network file system may have repeated a request whose reply was lost: two links mean that the
        // first one succeeded.
        LinkFailure::TargetExists if fs::metadata(temp)?.nlink() > 1 => Ok(Put::Created),
        LinkFailure::TargetExists => Ok(Put::Exists),
        LinkFailure::TryRename => match rename_exclusive(temp, target) {
            Ok(()) => Ok(Put::Created),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Put::Exists),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                Err(io::Error::new(ErrorKind::Unsupported, NO_EXCLUSIVE))
            }
            Err(error) => Err(error),
        },
        LinkFailure::TempVanished => Err(io::Error::new(ErrorKind::Interrupted, VANISHED)),
        LinkFailure::Other => Err(refused),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum LinkFailure {
    /// The target exists: the number of links shows whether it is this file.
    TargetExists,
    TryRename,
    /// Not the absence of what the caller asked about.
    TempVanished,
    Other,
}

/// What a refused link means.
fn after_link(refused: ErrorKind) -> LinkFailure {
    match refused {
        ErrorKind::AlreadyExists => LinkFailure::TargetExists,
        // No links here (FAT, CIFS, FUSE, an object store that is mounted), not for this user (a server that
        // maps users), or not between these two places of what only looks like one file system.
        ErrorKind::PermissionDenied
        | ErrorKind::Unsupported
        | ErrorKind::TooManyLinks
        | ErrorKind::CrossesDevices
        | ErrorKind::InvalidInput => LinkFailure::TryRename,
        ErrorKind::NotFound => LinkFailure::TempVanished,
        _ => LinkFailure::Other,
    }
}

const VANISHED: &str = "another program removed the temporary file";

const NO_EXCLUSIVE: &str = "this file system has neither hard links nor an exclusive rename, so two writers \
    could overwrite each other; keep the replica on another one, or give the bucket itself as s3://";

fn rename_exclusive(from: &Path, to: &Path) -> io::Result<()> {
    use nix::libc;
    use std::{ffi::CString, os::unix::ffi::OsStrExt};
    let from = CString::new(from.as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    let here = libc::AT_FDCWD;
    // By number, because nix and musl's libc have no function for it.
    // SAFETY: both pointers are NUL-terminated strings that outlive the call; the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            here,
            from.as_ptr(),
            here,
            to.as_ptr(),
            libc::RENAME_NOREPLACE as libc::c_uint,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes what is missing, from the top, each entry synced into its parent: a file in a directory that a crash
/// forgets is forgotten too.
fn make_directories(directory: &Path) -> io::Result<()> {
    match fs::metadata(directory) {
        Ok(_) => return Ok(()),
        Err(error) if !is_absent(&error) => return Err(error),
        Err(_) => {}
    }
    let above = parent(directory);
    if above != directory {
        make_directories(above)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(above),
    }
}

#[expect(clippy::disallowed_methods, reason = "a directory, no database")]
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network file systems cannot; their names are durable in their own way.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn no_links(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(nix::libc::EXDEV))
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let temp = Temp::create(&directory.path().join("a/b")).unwrap().write(b"part").unwrap();
        let name = names(&directory.path().join("a")).pop().unwrap();
        assert!(name.starts_with("b.") && key::is_own_temporary(&name), "{name}");
        drop(temp);
        assert_eq!(names(&directory.path().join("a")), [""; 0]);
    }

    #[test]
    fn two_temporary_files_of_one_target_differ() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x");
        let (first, second) = (Temp::create(&target).unwrap(), Temp::create(&target).unwrap());
        assert_ne!(first.path, second.path);
        assert_eq!(second.write(b"new").unwrap().publish_new(0).unwrap(), Put::Created);
        assert_eq!(first.write(b"late").unwrap().publish_new(0).unwrap(), Put::Exists);
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["x"]);
    }

    #[test]
    fn a_file_system_that_sets_no_times_holds_a_replica() {
        use nix::libc;
        for (errno, fine) in [
            (libc::EPERM, true),
            (libc::EACCES, true),
            (libc::ENOSYS, true),
            (libc::EOPNOTSUPP, true),
            (libc::EIO, false),
            (libc::EROFS, false),
            (libc::ESTALE, false),
        ] {
            assert_eq!(dated(Err(io::Error::from_raw_os_error(errno))).is_ok(), fine, "{errno}");
        }
    }

    #[test]
    fn a_refused_link_is_understood() {
        use nix::libc;
        for (errno, next) in [
            (libc::EEXIST, LinkFailure::TargetExists),
            (libc::EPERM, LinkFailure::TryRename),
            (libc::EACCES, LinkFailure::TryRename),
            (libc::ENOSYS, LinkFailure::TryRename),
            (libc::EOPNOTSUPP, LinkFailure::TryRename),
            (libc::EMLINK, LinkFailure::TryRename),
            (libc::EXDEV, LinkFailure::TryRename),
            (libc::EINVAL, LinkFailure::TryRename),
            (libc::ENOENT, LinkFailure::TempVanished),
            (libc::ENOSPC, LinkFailure::Other),
            (libc::EDQUOT, LinkFailure::Other),
            (libc::ESTALE, LinkFailure::Other),
            (libc::EIO, LinkFailure::Other),
            (libc::EROFS, LinkFailure::Other),
        ] {
            assert_eq!(after_link(io::Error::from_raw_os_error(errno).kind()), next, "{errno}");
        }
    }

    #[test]
    fn a_temporary_file_that_somebody_removed_is_no_missing_object() {
        let directory = tempfile::tempdir().unwrap();
        let temp = Temp::create(&directory.path().join("x")).unwrap();
        fs::remove_file(&temp.path).unwrap();
        let error = temp.publish_new(0).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Interrupted, VANISHED));
    }

    #[test]
    fn without_hard_links_the_exclusive_rename_decides() {
        let directory = tempfile::tempdir().unwrap();
        let (temp, target) = (directory.path().join("x.tmp"), directory.path().join("x"));
        fs::write(&temp, "one").unwrap();
        assert_eq!(claim(&temp, &target, no_links).unwrap(), Put::Created);
        fs::write(&temp, "two").unwrap();
        assert_eq!(claim(&temp, &target, no_links).unwrap(), Put::Exists);
        assert_eq!(fs::read(&target).unwrap(), b"one");
    }

    #[test]
    fn a_link_whose_reply_was_lost_is_still_ours() {
        let directory = tempfile::tempdir().unwrap();
        let (temp, target) = (directory.path().join("x.tmp"), directory.path().join("x"));
        fs::write(&temp, "one").unwrap();
        let link_twice = |from: &Path, to: &Path| {
            fs::hard_link(from, to)?;
            fs::hard_link(from, to)
        };
        assert_eq!(claim(&temp, &target, link_twice).unwrap(), Put::Created);
        let foreign = directory.path().join("y.tmp");
        fs::write(&foreign, "two").unwrap();
        assert_eq!(claim(&foreign, &target, |a, b| fs::hard_link(a, b)).unwrap(), Put::Exists);
    }

    #[test]
    fn new_files_and_directories_are_the_owners_only() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("a/b/c");
        Temp::create(&target).unwrap().publish_new(1_000).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(directory.path().join("a")).unwrap().mode() & 0o777, 0o700);
        assert_eq!(names(&directory.path().join("a/b")), ["c"]);
    }
}

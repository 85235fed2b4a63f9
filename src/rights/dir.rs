//! A directory that is opened once, and its files by name. A symbolic link above a data directory is followed
//! only if root alone can have created it; a link below the directory is never followed, and only regular
//! files are opened, without waiting for a FIFO.

use super::effective::Owner;
use super::guard::are_roots;
use nix::dir::Dir as Listing;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat, renameat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, unlinkat};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// The most symbolic links on the path.
const MOST_LINKS: usize = 40;

#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    pub owner: Owner,
    pub kind: Kind,
    pub bytes: u64,
    pub device: u64,
    pub inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    Other,
}

fn seen(stat: &FileStat) -> FileInfo {
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Link,
        _ => Kind::Other,
    };
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "of other widths on some platforms"
    )]
    let owner = Owner {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        links: u64::from(stat.st_nlink),
    };
    let bytes = u64::try_from(stat.st_size).unwrap_or_default();
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "of other widths on some platforms"
    )]
    let identity = (stat.st_dev as u64, stat.st_ino as u64);
    FileInfo { owner, kind, bytes, device: identity.0, inode: identity.1 }
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

fn led_astray(link: &Path) -> io::Error {
    let link = link.display();
    io::Error::other(format!(
        "{link} is a symbolic link which another user than root could have put there; use the path that it \
         leads to"
    ))
}

/// An error that names the kind of the file, where the kernel only refuses.
fn explained(error: Errno) -> io::Error {
    match error {
        Errno::ELOOP => io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link"),
        Errno::ENXIO | Errno::ENODEV => no_file(),
        error => error.into(),
    }
}

const ON_THE_WAY: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// A FIFO does not block, a link is not followed.
const CAREFULLY: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);

impl Dir {
    pub fn open(path: &Path) -> io::Result<Dir> {
        // Without root there are no other rights to take.
        if !are_roots() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            return Ok(Dir { fd: open(path, flags, Mode::empty())? });
        }
        Dir::walk(path).map(|(dir, _)| dir)
    }

    /// Also returns the owner of every directory from `/` to this one.
    pub fn walk(path: &Path) -> io::Result<(Dir, Vec<Owner>)> {
        let absolute = std::path::absolute(path)?;
        let mut rest: VecDeque<OsString> = names(&absolute);
        let root = open("/", ON_THE_WAY, Mode::empty())?;
        let mut way = vec![(root, PathBuf::from("/"))];
        let mut owners = vec![owner_of(&way)?];
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                if way.len() > 1 {
                    way.pop();
                    owners.pop();
                }
                continue;
            }
            let Some((above, path)) = way.last() else { break };
            let path = path.join(&name);
            match openat(above, name.as_os_str(), ON_THE_WAY, Mode::empty()) {
                Ok(next) => {
                    way.push((next, path));
                    owners.push(owner_of(&way)?);
                }
                Err(error @ (Errno::ELOOP | Errno::ENOTDIR)) => {
                    let link = seen(&fstatat(above, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?);
                    if link.kind != Kind::Link {
                        return Err(error.into());
                    }
                    links += 1;
                    let roots = link.owner.uid == 0 && owners.iter().all(|directory| directory.is_roots());
                    if !roots || links > MOST_LINKS {
                        return Err(led_astray(&path));
                    }
                    let target = PathBuf::from(readlinkat(above, name.as_os_str())?);
                    if target.is_absolute() {
                        way.truncate(1);
                        owners.truncate(1);
                    }
                    let more = names(&target);
                    more.into_iter().rev().for_each(|name| rest.push_front(name));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (fd, _) = way.pop().ok_or(Errno::ENOENT)?;
        Ok((Dir { fd }, owners))
    }

    pub fn owner(&self) -> io::Result<Owner> {
        Ok(seen(&fstat(&self.fd)?).owner)
    }

    /// A directory in this one.
    pub fn below(&self, name: &OsStr) -> io::Result<Dir> {
        match openat(&self.fd, name, ON_THE_WAY, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd }),
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no directory"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a directory in this one.
    pub fn make(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        Ok(mkdirat(&self.fd, name, Mode::from_bits_truncate(mode))?)
    }

    /// `stat` without following a link. None: no file has this name.
    pub fn stat(&self, name: &OsStr) -> io::Result<Option<FileInfo>> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(seen(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file to read it.
    pub fn read(&self, name: &OsStr) -> io::Result<File> {
        let fd = openat(&self.fd, name, CAREFULLY | OFlag::O_RDONLY, Mode::empty()).map_err(explained)?;
        regular(fd)
    }

    /// Reads a small file; a larger one is refused.
    pub fn read_small(&self, name: &OsStr, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read(name)?.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            let told = format!("it is larger than the {most} bytes that it can have");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, told));
        }
        Ok(bytes)
    }

    /// A reference to a file without opening it (O_PATH): SQLite's locks on it are not affected.
    pub fn refer(&self, name: &OsStr) -> io::Result<Reference> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Reference(openat(&self.fd, name, flags, Mode::empty())?))
    }

    /// Creates a file that does not exist.
    pub fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = CAREFULLY | OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        Ok(openat(&self.fd, name, flags, Mode::from_bits_truncate(mode)).map(File::from)?)
    }

    /// Creates a file, after removing the file of that name; a directory is an error.
    pub fn create_anew(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        absent_ok(self.remove(name))?;
        self.create(name, mode)
    }

    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?)
    }

    pub fn remove_directory(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)?)
    }

    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Moves a file to another directory.
    pub fn rename_into(&self, from: &OsStr, directory: &Dir, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &directory.fd, to)?)
    }

    /// Creates a hard link; an existing name is an error.
    pub fn link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(linkat(&self.fd, from, &self.fd, to, AtFlags::empty())?)
    }

    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut listing = Listing::from_fd(self.reopened()?)?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    pub fn sync(&self) -> io::Result<()> {
        without_directory_sync(File::from(self.reopened()?).sync_all())
    }

    pub fn as_file(&self) -> io::Result<File> {
        Ok(File::from(self.reopened()?))
    }

    fn reopened(&self) -> Result<OwnedFd, Errno> {
        openat(&self.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
    }
}

/// 9p, old CIFS and some FUSE file systems have no sync of a directory, which is no error.
fn without_directory_sync(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        other => other,
    }
}

/// A file by its identity, independent of its name.
pub struct Reference(OwnedFd);

impl Reference {
    pub fn stat(&self) -> io::Result<FileInfo> {
        Ok(seen(&fstat(&self.0)?))
    }

    pub fn give(&self, uid: u32, gid: u32) -> io::Result<()> {
        let uid = Uid::from_raw(uid);
        let gid = Gid::from_raw(gid);
        Ok(fchownat(&self.0, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?)
    }
}

fn regular(fd: OwnedFd) -> io::Result<File> {
    if seen(&fstat(fd.as_fd())?).kind == Kind::File { Ok(File::from(fd)) } else { Err(no_file()) }
}

fn owner_of(way: &[(OwnedFd, PathBuf)]) -> io::Result<Owner> {
    let (fd, _) = way.last().ok_or(Errno::ENOENT)?;
    Ok(seen(&fstat(fd)?).owner)
}

/// The components of a path without `.`.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().filter_map(name).collect()
}

/// A missing file is no error.
pub fn absent_ok(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_that_cannot_be_synced_are_used_all_the_same() {
        let cases =
            [(Errno::EINVAL, true), (Errno::ENOSYS, true), (Errno::EOPNOTSUPP, true), (Errno::EIO, false)];
        for (errno, fine) in cases {
            let refused = Err(io::Error::from_raw_os_error(errno as i32));
            assert_eq!(without_directory_sync(refused).is_ok(), fine, "{errno}");
        }
    }
}

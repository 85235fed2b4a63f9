//! Binds the status socket: one litevisor for each address. The name is freed at the end.
//!
//! A lock file beside the socket shows whether its owner is alive: the kernel releases the lock when the
//! process ends. Only the holder of the lock may replace the socket of a killed process. A file that is not a
//! socket, and the socket of a program that answers, are never removed.

use super::address::Address;
use crate::rights;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{0} belongs to another litevisor that is running")]
    InUse(Address),
    #[error(
        "{address} is taken by a process of user {uid}, which is no litevisor of this user: give another \
         [status] socket"
    )]
    Foreign { address: Address, uid: u32 },
    #[error("{} is there and is no socket of ours: move it, or give another [status] socket", .0.display())]
    InTheWay(PathBuf),
    #[error("cannot listen on {address}: {source}")]
    Failed { address: Address, source: io::Error },
}

/// The name of the socket, which is freed when this is dropped.
pub struct Bound {
    pub listener: UnixListener,
    pub address: Address,
    /// For a socket that is a file.
    _own: Option<Own>,
}

/// Removes the file before the lock is released.
struct Own {
    path: PathBuf,
    _lock: Option<File>,
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = remove(&self.path);
    }
}

/// With the rights of the directory's owner: an app may exchange its own directory for a link, and root would
/// remove a file elsewhere.
fn remove(path: &Path) -> io::Result<()> {
    rights::within_directory(path.parent().unwrap_or(Path::new("/")), None, || std::fs::remove_file(path))
}

/// Binds the first address that works. The error has the reason for each address.
pub fn bind(candidates: &[Address]) -> Result<Bound, Vec<SocketError>> {
    let mut errors = Vec::new();
    for address in candidates {
        match bind_one(address) {
            Ok(bound) => return Ok(bound),
            Err(error) => errors.push(error),
        }
    }
    Err(errors)
}

fn bind_one(address: &Address) -> Result<Bound, SocketError> {
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::AddrInUse => SocketError::InUse(address.clone()),
        _ => SocketError::Failed { address: address.clone(), source },
    };
    let (listener, own) = match address {
        Address::Path(path) => {
            if let Some(parent) = path.parent() {
                // If the directory cannot be created, the lock reports it.
                let _ = std::fs::create_dir(parent);
            }
            let lock = match lock(path) {
                Ok(lock) => lock,
                Err(TryLockError::WouldBlock) => return Err(SocketError::InUse(address.clone())),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            };
            clear(path, address)?;
            let listener = UnixListener::bind(path).map_err(failed)?;
            let own = Own { path: path.clone(), _lock: lock };
            // By the name alone: what was put in its place may be a link.
            let own_only = Mode::S_IRUSR | Mode::S_IWUSR;
            fchmodat(AT_FDCWD, path, own_only, FchmodatFlags::NoFollowSymlink)
                .map_err(|errno| failed(errno.into()))?;
            (listener, Some(own))
        }
        Address::Abstract(name) => {
            let bound =
                SocketAddr::from_abstract_name(name).and_then(|address| UnixListener::bind_addr(&address));
            (bound.map_err(|error| foreign(address).unwrap_or_else(|| failed(error)))?, None)
        }
    };
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Bound { listener, address: address.clone(), _own: own })
}

/// None: this file system has no locks; then only an owner that answers counts as alive.
fn lock(path: &Path) -> Result<Option<File>, TryLockError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let flags = nix::libc::O_NOFOLLOW;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(name);
    let file = file.map_err(TryLockError::Error)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes the socket of a killed process.
fn clear(path: &Path, address: &Address) -> Result<(), SocketError> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(SocketError::InTheWay(path.to_owned()));
    }
    match connect(address, Duration::from_secs(5)) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        // Its owner answers, or is too busy to answer.
        Ok(_) => return Err(foreign(address).unwrap_or_else(|| SocketError::InUse(address.clone()))),
        Err(_) => return Err(SocketError::InTheWay(path.to_owned())),
    }
    remove(path).map_err(|source| SocketError::Failed { address: address.clone(), source })
}

/// The process at the other end of a connection, by the kernel's record; for a server, the process that has
/// called `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    /// 0: the process is in a PID namespace that is not visible from here.
    pub pid: i32,
}

impl Peer {
    /// A server is trusted if its user is root or `own`. An abstract name has no permissions that keep other
    /// containers out, so there the server's process must also be visible from here.
    pub fn is_ours(self, own: u32, address: &Address) -> bool {
        let seen = self.pid > 0 || matches!(address, Address::Path(_));
        (self.uid == 0 || self.uid == own) && seen
    }
}

pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let mut credentials = nix::libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<nix::libc::ucred>() as nix::libc::socklen_t;
    let level = nix::libc::SOL_SOCKET;
    let name = nix::libc::SO_PEERCRED;
    let place = std::ptr::from_mut(&mut credentials).cast();
    // SAFETY: `place` and `length` describe a `ucred` of ours, which this option fills; the descriptor is
    // open while `stream` lives.
    let done = unsafe { nix::libc::getsockopt(stream.as_raw_fd(), level, name, place, &mut length) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer { uid: credentials.uid, pid: credentials.pid })
}

/// The process that owns a name that cannot be bound, if it is not litevisor of the same user.
fn foreign(address: &Address) -> Option<SocketError> {
    let stream = connect(address, Duration::from_secs(1)).ok()?;
    let peer = peer(&stream).ok()?;
    let own = nix::unistd::geteuid().as_raw();
    (!peer.is_ours(own, address)).then(|| SocketError::Foreign { address: address.clone(), uid: peer.uid })
}

/// Connects within a limit: the kernel alone would let the client wait for a server that does not accept.
pub fn connect(address: &Address, limit: Duration) -> io::Result<UnixStream> {
    let address = match address {
        Address::Path(path) => SocketAddr::from_pathname(path)?,
        Address::Abstract(name) => SocketAddr::from_abstract_name(name)?,
    };
    let (sender, connected) = std::sync::mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let _ = sender.send(UnixStream::connect_addr(&address));
    })?;
    let late = || io::Error::new(ErrorKind::TimedOut, "it does not accept connections");
    connected.recv_timeout(limit).map_err(|_| late())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn at(directory: &tempfile::TempDir, name: &str) -> Address {
        Address::Path(directory.path().join(name))
    }

    fn error(address: &Address) -> SocketError {
        bind(std::slice::from_ref(address)).err().unwrap().remove(0)
    }

    #[test]
    fn one_owner_at_a_time_and_nobody_else_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        // Its directory is made.
        let address = at(&directory, "run/s");
        let bound = bind(std::slice::from_ref(&address)).unwrap();
        let path = directory.path().join("run/s");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(error(&address), SocketError::InUse(_)));
        drop(bound);
        assert!(!path.exists());
        drop(bind(&[address]).unwrap());
    }

    /// Only root can lead itself astray.
    #[test]
    fn a_directory_that_its_owner_exchanges_leads_to_no_other_file() {
        use std::os::unix::fs::{chown, lchown, symlink};
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let [data, others] = ["data", "others"].map(|name| root.path().join(name));
        let theirs = data.join("theirs");
        for path in [&data, &theirs, &others] {
            std::fs::create_dir(path).unwrap();
        }
        for path in [&data, &theirs] {
            chown(path, Some(4242), Some(4242)).unwrap();
        }
        let socket = theirs.join("s");
        let bound = bind(&[Address::Path(socket.clone())]).unwrap();
        // Where nothing is exchanged the name is freed.
        drop(bound);
        assert!(!socket.exists());
        let bound = bind(&[Address::Path(socket)]).unwrap();
        let file = others.join("s");
        std::fs::write(&file, "another service's").unwrap();
        std::fs::rename(&theirs, data.join("old")).unwrap();
        symlink(&others, &theirs).unwrap();
        lchown(&theirs, Some(4242), Some(4242)).unwrap();
        drop(bound);
        assert!(file.exists(), "removed by root");
        // Nor at a start, where a killed one seems to have left a socket.
        drop(UnixListener::bind(others.join("t")).unwrap());
        assert!(bind(&[Address::Path(theirs.join("t"))]).is_err());
        assert!(others.join("t").exists(), "removed by root");
    }

    #[test]
    fn what_a_killed_one_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let address = at(&directory, "s");
        drop(UnixListener::bind(directory.path().join("s")).unwrap());
        let bound = bind(std::slice::from_ref(&address)).unwrap();
        assert!(connect(&address, Duration::from_secs(20)).is_ok());
        drop(bound);
    }

    #[test]
    fn which_servers_are_believed() {
        let (path, name) = (Address::Path("/s".into()), Address::Abstract("n".into()));
        for (uid, pid, own, at_path, at_name) in [
            (0, 7, 0, true, true),
            (0, 7, 1000, true, true),
            (1000, 7, 1000, true, true),
            (1000, 7, 0, false, false),
            (1001, 7, 1000, false, false),
            (u32::MAX, 7, 1000, false, false),
            (0, 0, 0, true, false),
            (1000, 0, 1000, true, false),
        ] {
            let peer = Peer { uid, pid };
            assert_eq!(
                (peer.is_ours(own, &path), peer.is_ours(own, &name)),
                (at_path, at_name),
                "{peer:?} {own}"
            );
        }
        let (ours, _other) = UnixStream::pair().unwrap();
        let found = peer(&ours).unwrap();
        assert_eq!(found.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(u32::try_from(found.pid).unwrap(), std::process::id());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for name in ["file", "link"] {
            assert!(matches!(error(&at(&directory, name)), SocketError::InTheWay(_)), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");
        // A process answers there without our lock.
        let _foreign = UnixListener::bind(directory.path().join("foreign")).unwrap();
        assert!(matches!(error(&at(&directory, "foreign")), SocketError::InUse(_)));
        let long = at(&directory, &"x".repeat(120));
        assert!(matches!(error(&long), SocketError::Failed { .. }));
    }

    #[test]
    fn the_next_address_is_taken_where_the_first_cannot_be() {
        let directory = tempfile::tempdir().unwrap();
        let name = format!("litevisor-test-{}", std::process::id());
        let candidates = [at(&directory, "not/there/s"), Address::Abstract(name)];
        let bound = bind(&candidates).unwrap();
        assert_eq!(bound.address, candidates[1]);
        assert!(connect(&bound.address, Duration::from_secs(20)).is_ok());
        assert_eq!(bind(&candidates).err().unwrap().len(), 2);
    }
}

//! The supervisor's socket: taken by one of us only. In: addresses. Out: a listener, and what frees its name at the end.
//!
//! A file of locks beside the socket says whether its owner is alive: the kernel lets go of the lock with the process, however
//! that ends. Only who has it may replace the socket of a killed one. What is no socket, or belongs to another program that
//! answers, is never removed.

use super::address::Address;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{0} belongs to another litevisor that runs")]
    InUse(Address),
    #[error("{} is there and is no socket of ours: move it, or give another [status] socket", .0.display())]
    InTheWay(PathBuf),
    #[error("cannot listen on {address}: {source}")]
    Failed { address: Address, source: io::Error },
}

/// A name that is ours until this is dropped.
pub struct Bound {
    pub listener: UnixListener,
    pub address: Address,
    /// Of a socket that is a file.
    _own: Option<Own>,
}

/// Removes the file before the lock goes.
struct Own {
    path: PathBuf,
    _lock: Option<File>,
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The first address that can be had, or why none of them.
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
                // Should it be missing, the lock says so.
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
            std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
            (listener, Some(own))
        }
        Address::Abstract(name) => {
            let address = SocketAddr::from_abstract_name(name).map_err(failed)?;
            (UnixListener::bind_addr(&address).map_err(failed)?, None)
        }
    };
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Bound { listener, address: address.clone(), _own: own })
}

/// None: this file system knows no locks; then only who answers is alive.
fn lock(path: &Path) -> Result<Option<File>, TryLockError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let flags = nix::libc::O_NOFOLLOW;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(name);
    let file = file.map_err(TryLockError::Error)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes the socket of one that was killed.
fn clear(path: &Path, address: &Address) -> Result<(), SocketError> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(SocketError::InTheWay(path.to_owned()));
    }
    match connect(address, Duration::from_secs(5)) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        // It answers, or is too busy to.
        Ok(_) => return Err(SocketError::InUse(address.clone())),
        Err(_) => return Err(SocketError::InTheWay(path.to_owned())),
    }
    std::fs::remove_file(path).map_err(|source| SocketError::Failed { address: address.clone(), source })
}

/// The kernel lets a client of a Unix socket wait for a server that does not accept; this one gives up in time.
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
    fn what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for name in ["file", "link"] {
            assert!(matches!(error(&at(&directory, name)), SocketError::InTheWay(_)), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");
        // Somebody answers there without our lock.
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

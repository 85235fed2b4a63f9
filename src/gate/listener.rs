//! The address on which a gate accepts connections.

use super::settings::ListenAddress;
use super::stream::Stream;
use crate::rights;
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

/// Connections that wait in the kernel.
const BACKLOG: u32 = 4096;

pub enum Listener {
    Tcp(TcpListener),
    /// The name is removed when this is dropped.
    Unix(UnixListener, PathBuf),
}

/// A client, and both addresses of its connection if they have numbers.
pub struct Accepted {
    pub stream: Stream,
    pub client: Option<SocketAddr>,
    pub listener: Option<SocketAddr>,
}

impl Listener {
    pub async fn bind(address: &ListenAddress) -> io::Result<Listener> {
        match address {
            ListenAddress::Unix(path) => bind_unix(path).await,
            ListenAddress::Tcp(address) => bind_tcp(*address).or_else(|error| match address {
                // `:8080` on a machine without IPv6.
                SocketAddr::V6(all) if all.ip().is_unspecified() && error.kind() != ErrorKind::AddrInUse => {
                    bind_tcp((Ipv4Addr::UNSPECIFIED, all.port()).into())
                }
                _ => Err(error),
            }),
        }
    }

    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let listener = stream.local_addr().ok();
                Ok(Accepted { stream: Stream::Tcp(stream), client: Some(client), listener })
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted { stream: Stream::Unix(stream), client: None, listener: None })
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            let _ = as_owner(path, || std::fs::remove_file(&*path));
        }
    }
}

/// The name may be in a directory of the app, which may put something else there at any time: its rights are
/// enough for that.
fn as_owner<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    rights::within_directory(path.parent().unwrap_or(Path::new("/")), None, work)
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Inherited by each connection: clients that have vanished do not stay for ever.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    Ok(Listener::Tcp(socket.listen(BACKLOG)?))
}

async fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = match as_owner(path, || UnixListener::bind(path)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_left_over(path).await => {
            as_owner(path, || {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            })?
        }
        bound => bound?,
    };
    let listener = Listener::Unix(listener, path.to_owned());
    // As on a port, every user may connect; the directory can say otherwise.
    as_owner(path, || std::fs::set_permissions(path, Permissions::from_mode(0o666)))?;
    Ok(listener)
}

/// A socket on which no process listens, of a process that was killed.
async fn is_left_over(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let connected = tokio::net::UnixStream::connect(path).await;
    is_socket && connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};

    /// Only root can lead itself astray.
    #[tokio::test]
    async fn what_the_owner_of_the_directory_may_not_do_is_not_done_for_it() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let data = directory.path().join("data");
        let theirs = data.join("theirs");
        let others = directory.path().join("others");
        for path in [&data, &theirs, &others] {
            std::fs::create_dir(path).unwrap();
        }
        for path in [&data, &theirs] {
            chown(path, Some(4242), Some(4242)).unwrap();
        }
        let socket = theirs.join("gate.sock");
        let file = others.join("gate.sock");
        std::fs::write(&file, "another service's").unwrap();
        let listener = Listener::bind(&ListenAddress::Unix(socket.clone())).await.unwrap();
        let made = std::fs::metadata(&socket).unwrap();
        assert_eq!((made.uid(), made.mode() & 0o777), (4242, 0o666));
        // The app's user exchanges the directory for a link.
        std::fs::rename(&theirs, data.join("old")).unwrap();
        symlink(&others, &theirs).unwrap();
        lchown(&theirs, Some(4242), Some(4242)).unwrap();
        drop(listener);
        assert!(file.exists(), "removed by root");
    }
}

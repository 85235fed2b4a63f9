//! A connection's socket, TCP or Unix.

use super::settings::AppAddress;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub async fn connect(app: &AppAddress) -> io::Result<Stream> {
        let addresses = match app {
            AppAddress::Unix(path) => return Ok(Stream::Unix(UnixStream::connect(path).await?)),
            AppAddress::Tcp(addresses) => addresses,
        };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Stream::Tcp(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// How many bytes were read into `buffer`; 0 is the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Sends the end of the stream. The kernel does it at once.
    pub fn end(&mut self, cx: &mut Context<'_>) {
        // An error means that the peer is gone, which the next read shows.
        let _ = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        };
    }

    /// The peer gets a reset when this socket is closed, so that it cannot take the end for that of a
    /// complete answer.
    pub fn reset_on_close(&self) {
        if let Stream::Tcp(stream) = self {
            let _ = stream.set_zero_linger();
        }
    }

    /// The peer has reset the connection.
    pub fn is_reset(&self) -> bool {
        let error = match self {
            Stream::Tcp(stream) => stream.take_error(),
            Stream::Unix(stream) => stream.take_error(),
        };
        !matches!(error, Ok(None))
    }

    /// Whether the peer's kernel has everything that was sent, the end included.
    pub fn is_delivered(&self) -> bool {
        match self {
            Stream::Tcp(stream) => unacknowledged(stream) == 0,
            // What is written is in the peer's queue at once.
            Stream::Unix(_) => true,
        }
    }
}

fn unacknowledged(stream: &TcpStream) -> nix::libc::c_int {
    use std::os::fd::AsRawFd;
    let mut bytes = 0;
    // SAFETY: SIOCOUTQ (which is TIOCOUTQ) writes an int to the address that it is given; the descriptor is
    // open.
    let done = unsafe { nix::libc::ioctl(stream.as_raw_fd(), nix::libc::TIOCOUTQ, &mut bytes) };
    if done == 0 { bytes } else { 0 }
}

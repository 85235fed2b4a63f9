//! Ways in which a network misbehaves, each on a loopback port of its own: refused, silent, failing, slow.
//! They live until the test's process ends. Plain threads, so that they serve any kind of test.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A port where every connection is refused: it is taken (nobody else gets it), but nobody listens.
pub fn refusing_port() -> u16 {
    use std::os::fd::IntoRawFd;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let fd = listener.into_raw_fd();
    // Shutting a listening socket down makes it refuse, while the open descriptor keeps the port bound.
    // SAFETY: `fd` is a socket that this function owns and never closes.
    assert_eq!(unsafe { nix::libc::shutdown(fd, nix::libc::SHUT_RDWR) }, 0);
    port
}

/// Accepts, reads, and never answers.
pub fn black_hole() -> SocketAddr {
    serve(|stream| {
        let mut stream = stream;
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    })
}

/// Answers 500 to everything.
pub fn http_500() -> SocketAddr {
    answers("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Answers everything with `reply`, which says that it closes the connection.
pub fn answers(reply: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(reply.as_bytes());
        // Reading on before closing, so that no reset overtakes the reply.
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Forward both ways, the reply bytes late.
    Pass,
    /// Swallow everything; also on connections that are open already.
    BlackHole,
    /// Cut open connections, and every new one at once.
    Refuse,
}

/// Forwards to `target`; each piece of the reply is held back by `delay`.
pub fn delaying_proxy(target: SocketAddr, delay: Duration) -> Proxy {
    let shared = Arc::new(Shared {
        mode: AtomicU8::new(Mode::Pass as u8),
        delay: Mutex::new(delay),
        open: Mutex::default(),
        connections: AtomicUsize::new(0),
    });
    let inner = Arc::clone(&shared);
    let address = serve(move |client| inner.connection(client, target));
    Proxy { address, shared }
}

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn set(&self, mode: Mode) {
        self.shared.mode.store(mode as u8, Ordering::SeqCst);
        if mode == Mode::Refuse {
            for stream in self.shared.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    pub fn set_delay(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

struct Shared {
    mode: AtomicU8,
    delay: Mutex<Duration>,
    open: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
}

impl Shared {
    fn is(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::SeqCst) == mode as u8
    }

    fn connection(&self, client: TcpStream, target: SocketAddr) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        if self.is(Mode::Refuse) {
            return;
        }
        self.open.lock().unwrap().push(client.try_clone().unwrap());
        let Ok(server) = TcpStream::connect(target) else {
            let _ = client.shutdown(Shutdown::Both);
            return;
        };
        self.open.lock().unwrap().push(server.try_clone().unwrap());
        thread::scope(|scope| {
            scope.spawn(|| self.pump(&client, &server, |_| Duration::ZERO));
            self.pump(&server, &client, |shared| *shared.delay.lock().unwrap());
        });
    }

    /// Copies until one side closes. A connection that has lost bytes to the black hole stays silent for
    /// good: what would come after them makes no sense.
    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream, delay: impl Fn(&Shared) -> Duration) {
        let mut buffer = vec![0; 64 << 10];
        let mut lost = false;
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            thread::sleep(delay(self));
            lost |= self.is(Mode::BlackHole);
            if !lost && to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }
}

/// One thread per connection.
fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            thread::spawn(move || handle(stream));
        }
    });
    address
}

//! A gate on the road to an object store: lets everything through, or behaves like a store that refuses, is silent,
//! answers with an error, is slow, or loses its answers; can change its mind while clients are connected.

use super::wait_until;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Open,
    /// Nobody listens.
    Refusing,
    /// Connections are accepted and requests read; no answer ever comes.
    Silent,
    /// Every request is answered with 500.
    Failing,
    /// Every request is answered with this status and S3's error of this code.
    Answering(u16, &'static str),
    /// Each answer is held back this long.
    Slow(Duration),
    /// Requests get through at a hundred bytes a second.
    Trickling,
    /// Requests are carried out, and the connection ends before the answer.
    LosingReplies,
    /// Answers end after their first bytes.
    CuttingReplies,
}

struct Shared {
    upstream: String,
    mood: Mutex<Mood>,
    connections: Mutex<Vec<TcpStream>>,
    requests: AtomicUsize,
}

pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

const BEAT: Duration = Duration::from_millis(5);

impl Gate {
    /// In front of `upstream` (`http://host:port`).
    pub fn before(upstream: &str, mood: Mood) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.trim_start_matches("http://").to_owned(),
            mood: Mutex::new(mood),
            connections: Mutex::new(Vec::new()),
            requests: AtomicUsize::new(0),
        });
        let keeper = Arc::clone(&shared);
        std::thread::spawn(move || keep(&keeper, address, listener));
        let gate = Gate { address, shared };
        gate.set(mood);
        gate
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes its behaviour; connections made under the old one are cut. Returns when the new one is in force.
    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
        for stream in self.shared.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let listens = mood != Mood::Refusing;
        wait_until("the gate to turn", super::SOON, || TcpStream::connect(self.address).is_ok() == listens);
    }

    /// Pieces of requests seen so far, in any mood but `Refusing`.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

/// Listens whenever the mood allows it.
fn keep(shared: &Arc<Shared>, address: SocketAddr, listener: TcpListener) {
    let mut listener = Some(listener);
    loop {
        let refusing = *shared.mood.lock().unwrap() == Mood::Refusing;
        if refusing {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).ok();
        }
        if let Some(listener) = &listener {
            listener.set_nonblocking(true).unwrap();
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).unwrap();
                shared.connections.lock().unwrap().push(stream.try_clone().unwrap());
                let shared = Arc::clone(shared);
                std::thread::spawn(move || serve(&shared, stream));
            }
        }
        std::thread::sleep(BEAT);
    }
}

fn serve(shared: &Arc<Shared>, client: TcpStream) {
    let mood = *shared.mood.lock().unwrap();
    match mood {
        Mood::Open => pass(shared, client, Road::default()),
        Mood::Slow(delay) => pass(shared, client, Road { delay, ..Road::default() }),
        Mood::Trickling => pass(shared, client, Road { trickle: true, ..Road::default() }),
        Mood::LosingReplies => pass(shared, client, Road { reply_bytes: 0, ..Road::default() }),
        Mood::CuttingReplies => pass(shared, client, Road { reply_bytes: 40, ..Road::default() }),
        Mood::Answering(status, code) => {
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>"
            );
            let answer = format!(
                "HTTP/1.1 {status} On Purpose\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            read_on(shared, client, |client| {
                client.write_all(answer.as_bytes())?;
                client.shutdown(Shutdown::Both)
            });
        }
        Mood::Refusing => {}
        Mood::Silent => read_on(shared, client, |_| Ok(())),
        Mood::Failing => {
            const ANSWER: &[u8] =
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            read_on(shared, client, |client| {
                client.write_all(ANSWER)?;
                client.shutdown(Shutdown::Both)
            });
        }
    }
}

fn read_on(shared: &Shared, mut client: TcpStream, mut react: impl FnMut(&mut TcpStream) -> std::io::Result<()>) {
    let mut buffer = [0; 64 << 10];
    while client.read(&mut buffer).is_ok_and(|read| read > 0) {
        shared.requests.fetch_add(1, Ordering::SeqCst);
        if react(&mut client).is_err() {
            return;
        }
    }
}

/// What a connection to the store behind the gate is like.
struct Road {
    /// Bytes towards the client wait for this long after the latest piece of a request.
    delay: Duration,
    trickle: bool,
    /// Bytes towards the client before the connection is cut.
    reply_bytes: usize,
}

impl Default for Road {
    fn default() -> Road {
        Road { delay: Duration::ZERO, trickle: false, reply_bytes: usize::MAX }
    }
}

/// Bytes both ways.
fn pass(shared: &Arc<Shared>, mut client: TcpStream, road: Road) {
    let Ok(mut upstream) = TcpStream::connect(&shared.upstream) else { return };
    let (mut back_from, mut back_to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    let asked = Arc::new(Mutex::new(Instant::now()));
    let last = Arc::clone(&asked);
    shared.connections.lock().unwrap().push(upstream.try_clone().unwrap());
    let Road { delay, trickle, reply_bytes } = road;
    let back = std::thread::spawn(move || {
        let (mut buffer, mut left) = ([0; 64 << 10], reply_bytes);
        while let Ok(read @ 1..) = back_from.read(&mut buffer) {
            let due = *last.lock().unwrap() + delay;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let through = read.min(left);
            left -= through;
            if back_to.write_all(&buffer[..through]).is_err() || left == 0 {
                break;
            }
        }
        let _ = back_to.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 64 << 10];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        shared.requests.fetch_add(1, Ordering::SeqCst);
        *asked.lock().unwrap() = Instant::now();
        let sent = if trickle {
            buffer[..read].chunks(10).try_for_each(|piece| {
                std::thread::sleep(Duration::from_millis(100));
                upstream.write_all(piece)
            })
        } else {
            upstream.write_all(&buffer[..read])
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = back.join();
}

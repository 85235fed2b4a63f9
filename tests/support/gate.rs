//! A gate on the road to an object store: lets everything through, or behaves like a store that refuses, is
//! silent, answers with an error, is slow, loses its answers, or lies; can change its mind while clients are
//! connected.

use super::lies::{self, Lie, Op};
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
    /// Answers carry this date (29 bytes, as HTTP writes them).
    Dated(&'static str),
    /// Answers come at so many bytes a second on each connection.
    Dripping(u64),
    /// Requests are read one by one, and answered truly but for what `lie` asks for.
    Telling,
}

/// A request that went through (or was held up): when it came, and its first line.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    pub line: String,
}

/// Headers and body of a listing's first page.
type FirstPage = (Vec<(String, String)>, Vec<u8>);

pub struct Shared {
    pub upstream: String,
    mood: Mutex<Mood>,
    connections: Mutex<Vec<TcpStream>>,
    requests: AtomicUsize,
    asked: Mutex<Vec<Asked>>,
    /// What is told about what, and how many times more.
    lying: Mutex<Vec<(Lie, Vec<Op>, usize)>>,
    told: AtomicUsize,
    page: Mutex<Option<FirstPage>>,
    /// Connections so far; those before the second number are black holes.
    births: AtomicUsize,
    black: AtomicUsize,
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
            asked: Mutex::default(),
            lying: Mutex::default(),
            told: AtomicUsize::new(0),
            page: Mutex::default(),
            births: AtomicUsize::new(0),
            black: AtomicUsize::new(0),
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

    /// Changes its behaviour; connections made under the old one are cut. Returns when the new one is in
    /// force.
    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
        for stream in self.shared.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let listens = mood != Mood::Refusing;
        wait_until("the gate to turn", super::SOON, || TcpStream::connect(self.address).is_ok() == listens);
    }

    /// From now on, the next `times` requests of these kinds meet the lie. In the mood `Telling`.
    pub fn lie(&self, lie: Lie, about: &[Op], times: usize) {
        *self.shared.page.lock().unwrap() = None;
        self.shared.lying.lock().unwrap().push((lie, about.to_vec(), times));
    }

    /// Tells the truth again. How many lies were told since the last call.
    pub fn honest(&self) -> usize {
        self.shared.lying.lock().unwrap().clear();
        self.shared.told.swap(0, Ordering::SeqCst)
    }

    /// All connections that are open now are black holes: what is sent over them is taken, and nothing comes
    /// back. New ones work. As with a NAT or a load balancer that has forgotten them. In the mood `Telling`.
    pub fn blacken(&self) {
        self.shared.black.store(self.shared.births.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Pieces of requests seen so far, in any mood but `Refusing`.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The requests since the last call, for clients that send each head at once.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.asked.lock().unwrap())
    }
}

impl Shared {
    pub fn is_black(&self, birth: usize) -> bool {
        birth < self.black.load(Ordering::SeqCst)
    }

    /// What to tell about this, if anything.
    pub fn lie(&self, op: Op) -> Option<Lie> {
        let mut lying = self.lying.lock().unwrap();
        let (lie, _, left) = lying.iter_mut().find(|(_, about, left)| about.contains(&op) && *left > 0)?;
        *left -= 1;
        self.told.fetch_add(1, Ordering::SeqCst);
        Some(*lie)
    }

    pub fn told(&self) -> usize {
        self.told.load(Ordering::SeqCst)
    }

    pub fn first_page(&self, ask: impl FnOnce() -> Option<FirstPage>) -> Option<FirstPage> {
        let mut page = self.page.lock().unwrap();
        if page.is_none() {
            *page = ask();
        }
        page.clone()
    }

    pub fn note(&self, read: &[u8]) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let first = read.split(|byte| *byte == b'\r').next().unwrap_or_default();
        if [&b"GET "[..], b"PUT ", b"POST ", b"DELETE ", b"HEAD "]
            .iter()
            .any(|method| first.starts_with(method))
        {
            let line = String::from_utf8_lossy(first).into_owned();
            self.asked.lock().unwrap().push(Asked { at: Instant::now(), line });
        }
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
                let birth = shared.births.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(&shared, stream, birth));
            }
        }
        std::thread::sleep(BEAT);
    }
}

fn serve(shared: &Arc<Shared>, client: TcpStream, birth: usize) {
    let mood = *shared.mood.lock().unwrap();
    match mood {
        Mood::Open => pass(shared, client, Road::default()),
        Mood::Slow(delay) => pass(shared, client, Road { delay, ..Road::default() }),
        Mood::Trickling => pass(shared, client, Road { trickle: true, ..Road::default() }),
        Mood::LosingReplies => pass(shared, client, Road { reply_bytes: 0, ..Road::default() }),
        Mood::Dripping(rate) => pass(shared, client, Road { rate: Some(rate), ..Road::default() }),
        Mood::Dated(date) => pass(shared, client, Road { date: Some(date), ..Road::default() }),
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
        Mood::Telling => lies::converse(shared, client, birth),
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

fn read_on(
    shared: &Shared,
    mut client: TcpStream,
    mut react: impl FnMut(&mut TcpStream) -> std::io::Result<()>,
) {
    let mut buffer = [0; 64 << 10];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        shared.note(&buffer[..read]);
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
    /// Bytes towards the client in a second.
    rate: Option<u64>,
    date: Option<&'static str>,
}

impl Default for Road {
    fn default() -> Road {
        Road { delay: Duration::ZERO, trickle: false, reply_bytes: usize::MAX, rate: None, date: None }
    }
}

/// Over the date of an answer that begins in `reply`.
fn put_date(reply: &mut [u8], date: &str) {
    const NAME: &[u8] = b"\r\nDate: ";
    if reply.starts_with(b"HTTP/")
        && let Some(at) = reply.windows(NAME.len()).position(|bytes| bytes.eq_ignore_ascii_case(NAME))
    {
        let from = at + NAME.len();
        reply[from..from + date.len()].copy_from_slice(date.as_bytes());
    }
}

/// Bytes both ways.
fn pass(shared: &Arc<Shared>, mut client: TcpStream, road: Road) {
    let Ok(mut upstream) = TcpStream::connect(&shared.upstream) else { return };
    let (mut back_from, mut back_to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    let asked = Arc::new(Mutex::new(Instant::now()));
    let last = Arc::clone(&asked);
    shared.connections.lock().unwrap().push(upstream.try_clone().unwrap());
    let Road { delay, trickle, reply_bytes, rate, date } = road;
    let back = std::thread::spawn(move || {
        let (mut buffer, mut left) = ([0; 64 << 10], reply_bytes);
        // Twenty beats a second.
        let most =
            rate.map_or(buffer.len(), |rate| usize::try_from(rate / 20).unwrap().clamp(1, buffer.len()));
        while let Ok(read @ 1..) = back_from.read(&mut buffer[..most]) {
            if rate.is_some() {
                std::thread::sleep(Duration::from_millis(50));
            }
            if let Some(date) = date {
                put_date(&mut buffer[..read], date);
            }
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
        shared.note(&buffer[..read]);
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

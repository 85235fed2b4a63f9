//! Both ends of the connections that the gate's benchmark copies: an app that answers at once, and its
//! clients. Each is one thread with epoll, so that most of the time is the proxy's and the kernel's. In:
//! arguments. Out: one line of JSON, or a word.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rusqlite::Connection;
use std::collections::HashMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
bench-traffic app ADDRESS [DB]                  answer requests; with a database each `put` is a commit
bench-traffic ask ADDRESS get|put CONNECTIONS SECONDS
                                                ask on each connection for the next answer when the last has come
bench-traffic download ADDRESS MIB              how long one large answer takes
bench-traffic idle ADDRESS CONNECTIONS          open them, say `ready`, and keep them until told to stop";

/// As a small request and answer of HTTP are.
const REQUEST: usize = 100;
const ANSWER: usize = 300;
const CHUNK: usize = 64 << 10;
/// Its key in epoll; connections have their descriptor's number.
const LISTENER: u64 = u64::MAX;
/// Not counted: the connections are opened meanwhile.
const WARM_UP: Duration = Duration::from_millis(300);

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["app", address] => serve(address, None),
        ["app", address, db] => serve(address, Some(db)),
        ["ask", address, kind @ ("get" | "put"), connections, seconds] => {
            ask(address, kind, connections, seconds)
        }
        ["download", address, mib] => download(address, mib),
        ["idle", address, connections] => idle(address, connections),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench-traffic: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As many descriptors as are allowed.
fn many_files() -> Result<(), Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

fn request(kind: &str, mib: &str) -> [u8; REQUEST] {
    let mut bytes = [b' '; REQUEST];
    let text = format!("{kind} {mib}");
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn database(path: &str) -> Result<Connection, Failure> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
    Ok(connection)
}

fn serve(address: &str, db: Option<&str>) -> Result<(), Failure> {
    many_files()?;
    let db = db.map(database).transpose()?;
    let mut put =
        db.as_ref().map(|db| db.prepare("INSERT INTO entry (body) VALUES (randomblob(100))")).transpose()?;
    let listener = TcpListener::bind(address)?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut streams: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in events.iter().take(count) {
            if event.data() == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                let key = u64::try_from(stream.as_raw_fd())?;
                epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
                streams.insert(key, stream);
                continue;
            }
            let Some(mut stream) = streams.get(&event.data()) else { continue };
            let mut bytes = [0; REQUEST];
            if stream.read_exact(&mut bytes).is_err() {
                streams.remove(&event.data());
                continue;
            }
            if let (b'p', Some(put)) = (bytes.first().copied().unwrap_or_default(), &mut put) {
                put.execute([])?;
            }
            match std::str::from_utf8(&bytes)?.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["download", mib] => {
                    let chunk = vec![b'x'; CHUNK];
                    (0..mib.parse::<usize>()? << 20)
                        .step_by(CHUNK)
                        .try_for_each(|_| stream.write_all(&chunk))?;
                    stream.shutdown(Shutdown::Write)?;
                }
                _ => stream.write_all(&[b'x'; ANSWER])?,
            }
        }
    }
}

fn connect(address: &str) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct Asking {
    stream: TcpStream,
    asked: Instant,
    /// Bytes of the answer so far.
    got: usize,
}

fn ask(address: &str, kind: &str, connections: &str, seconds: &str) -> Result<(), Failure> {
    let request = request(kind, "");
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let mut asking = Vec::new();
    for key in 0..connections.parse()? {
        let mut stream = connect(address)?;
        stream.write_all(&request)?;
        stream.set_nonblocking(true)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        asking.push(Asking { stream, asked: Instant::now(), got: 0 });
    }
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs_f64(seconds.parse()?);
    let mut latencies = Vec::new();
    let mut answers = 0_u64;
    let mut events = [EpollEvent::empty(); 256];
    let mut bytes = [0; ANSWER];
    let mut now = Instant::now();
    while now < end {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in events.iter().take(count) {
            let Some(one) = asking.get_mut(usize::try_from(event.data())?) else { continue };
            match one.stream.read(&mut bytes) {
                Ok(0) => return Err("the connection has ended".into()),
                Ok(count) => one.got += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if one.got >= ANSWER {
                now = Instant::now();
                answers += 1;
                if one.asked >= begin {
                    latencies.push(now - one.asked);
                }
                one.stream.write_all(&request)?;
                (one.got, one.asked) = (0, now);
            }
        }
    }
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).copied().unwrap_or_default().as_secs_f64()
    };
    let rate = latencies.len() as f64 / (now - begin).as_secs_f64();
    // The rate and the latencies are those after the warm-up; `answers` are all, for what each costs.
    let p50 = at(0.5);
    let p99 = at(0.99);
    writeln!(
        std::io::stdout(),
        "{{\"answers\": {answers}, \"rate\": {rate}, \"p50\": {p50}, \"p99\": {p99}}}"
    )?;
    Ok(())
}

fn download(address: &str, mib: &str) -> Result<(), Failure> {
    let mut stream = connect(address)?;
    let begun = Instant::now();
    stream.write_all(&request("download", mib))?;
    let mut buffer = vec![0; 4 * CHUNK];
    let mut left = mib.parse::<usize>()? << 20;
    while left > 0 {
        match stream.read(&mut buffer)? {
            0 => return Err("the download has ended early".into()),
            count => left -= count,
        }
    }
    writeln!(std::io::stdout(), "{{\"seconds\": {}}}", begun.elapsed().as_secs_f64())?;
    Ok(())
}

fn idle(address: &str, connections: &str) -> Result<(), Failure> {
    many_files()?;
    let mut streams = Vec::new();
    for _ in 0..connections.parse()? {
        let mut stream = connect(address)?;
        // It has had traffic, as a connection with keep-alive has.
        stream.write_all(&request("get", ""))?;
        stream.read_exact(&mut [0; ANSWER])?;
        streams.push(stream);
    }
    writeln!(std::io::stdout(), "ready")?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

//! Polls the app (`ready` under [app]) from its start until it answers for the first time, in a thread of its
//! own. The result goes to the status registry and the log.

use crate::observe::StatusRegistry;
use crate::supervise::{HttpTarget, Probe, Waker};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two tries. The first ones follow each other closely, so that a fast app is ready at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_secs(1);
/// Of one try, as Kubernetes' probes have it.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(2);
/// The thread sends a few bytes and reads the first line.
const STACK: usize = 128 << 10;

/// Ends the polling when it is dropped.
pub(super) struct Readiness {
    stopped: Arc<AtomicBool>,
    answered: Arc<AtomicBool>,
    thread: std::thread::Thread,
}

impl Readiness {
    /// For the app's process with this pid. The waker wakes the main thread once the app has answered.
    pub(super) fn begin(
        check: &Probe,
        registry: &Arc<StatusRegistry>,
        pid: i32,
        waker: Waker,
    ) -> Option<Readiness> {
        let check = check.clone();
        registry.app_silent(pid, format!("the app does not answer yet ({})", check.text));
        let stopped = Arc::new(AtomicBool::new(false));
        let registry = Arc::clone(registry);
        let ended = Arc::clone(&stopped);
        let answered = Arc::new(AtomicBool::new(false));
        let answer = Arc::clone(&answered);
        let asking = std::thread::Builder::new().name("ready".into()).stack_size(STACK);
        let asking = asking.spawn(move || {
            if poll_until_ready(&check, &registry, pid, &ended) {
                answer.store(true, Ordering::Release);
                waker.wake();
            }
        });
        let thread = asking
            .inspect_err(|error| tracing::error!("readiness is not checked: cannot start a thread: {error}"))
            .ok()?
            .thread()
            .clone();
        Some(Readiness { stopped, answered, thread })
    }

    /// The app has answered; the polling has ended.
    pub(super) fn has_answer(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// True: the app has answered.
fn poll_until_ready(check: &Probe, registry: &StatusRegistry, pid: i32, stopped: &AtomicBool) -> bool {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    while !stopped.load(Ordering::Acquire) {
        match answers(check) {
            Ok(()) => {
                registry.app_answers(pid);
                let after = begun.elapsed().as_millis();
                tracing::info!("the app answers ({}) after {after} ms", check.text);
                return true;
            }
            Err(why) => {
                registry.app_silent(pid, format!("the app does not answer yet ({}): {why}", check.text))
            }
        }
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(PAUSE);
    }
    false
}

fn answers(check: &Probe) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in &check.addresses {
        match try_one(*address, check.http.as_ref()) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn try_one(address: SocketAddr, http: Option<&HttpTarget>) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    let Some(HttpTarget { host, path }) = http else { return Ok(()) };
    let until = Instant::now() + ANSWER;
    stream.set_write_timeout(Some(ANSWER))?;
    let agent = concat!("litevisor/", env!("CARGO_PKG_VERSION"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\nConnection: \
         close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 64 && byte != *b"\n" {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        if stream.read(&mut byte)? == 0 {
            break;
        }
        line.extend(byte);
    }
    well(&line).map_err(io::Error::other)
}

/// Is it a good answer? As for Kubernetes: from 200 up to 399. Pure.
fn well(line: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_whitespace();
    let version = words.next().unwrap_or_default();
    let status = words.next().unwrap_or_default();
    match status.parse::<u16>() {
        Ok(200..=399) if version.starts_with("HTTP/") => Ok(()),
        Ok(status) if version.starts_with("HTTP/") => Err(format!("HTTP status {status}")),
        _ => Err("its answer is not HTTP".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_answers() {
        for (line, good) in [
            ("HTTP/1.1 200 OK\r\n", Ok(())),
            ("HTTP/1.0 302 Found\r\n", Ok(())),
            ("HTTP/1.1 399", Ok(())),
            ("HTTP/1.1 400 Bad Request\r\n", Err("HTTP status 400")),
            ("HTTP/1.1 503 Starting\r\n", Err("HTTP status 503")),
            ("HTTP/1.1 1", Err("HTTP status 1")),
            ("SSH-2.0-OpenSSH 200\r\n", Err("its answer is not HTTP")),
            ("", Err("its answer is not HTTP")),
        ] {
            assert_eq!(well(line.as_bytes()), good.map_err(String::from), "{line:?}");
        }
    }
}

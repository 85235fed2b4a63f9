//! Asks a running supervisor: one request over its socket. Blocks, at most as long as it is told to. Never asks the network.

use super::address::{Address, Key};
use super::http::KEY;
use super::socket::connect;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// More than any answer has.
const ANSWER_BYTES: usize = 64 << 20;
const MISDIRECTED: u16 = 421;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

#[derive(Debug, thiserror::Error)]
#[error("no litevisor answers: {}", .0.join("; "))]
pub struct NobodyAnswers(Vec<String>);

/// Asks the first that answers and has our databases (`key`; None: any).
pub fn ask(
    candidates: &[Address],
    key: Option<&Key>,
    method: &str,
    target: &str,
    limit: Duration,
) -> Result<Reply, NobodyAnswers> {
    let by = Instant::now() + limit;
    let mut tried = Vec::new();
    for address in candidates {
        match ask_one(address, key, method, target, by) {
            Ok(Reply { status: MISDIRECTED, .. }) => tried.push(format!("{address}: that one has other databases")),
            Ok(reply) => return Ok(reply),
            Err(error) => tried.push(format!("{address}: {}", told(&error))),
        }
    }
    Err(NobodyAnswers(tried))
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such socket".to_owned(),
        ErrorKind::ConnectionRefused => "nobody is there".to_owned(),
        ErrorKind::PermissionDenied => "not permitted: ask as root or as litevisor's user".to_owned(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

fn ask_one(address: &Address, key: Option<&Key>, method: &str, target: &str, by: Instant) -> io::Result<Reply> {
    let left = || Some(by.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    let mut stream = connect(address, left().unwrap_or_default())?;
    let key = key.map_or_else(String::new, |key| format!("{KEY}: {}\r\n", key.as_str()));
    let request = format!("{method} {target} HTTP/1.1\r\nHost: litevisor\r\nContent-Length: 0\r\n{key}\r\n");
    stream.set_write_timeout(left())?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    loop {
        stream.set_read_timeout(left())?;
        if !read_some(&mut stream, &mut bytes)? {
            break;
        }
        if bytes.len() > ANSWER_BYTES || Instant::now() >= by {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    parse(&bytes).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "what answers is no litevisor"))
}

/// False at the end.
fn read_some(stream: &mut UnixStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 16 << 10];
    match stream.read(&mut piece) {
        Ok(read) => {
            bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
            Ok(read > 0)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}

/// A whole answer, as our server sends it: with its length, and closed behind it.
fn parse(bytes: &[u8]) -> Option<Reply> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    (length? == body.len()).then(|| Reply { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_answers_count() {
        let reply = |text: &str| parse(text.as_bytes()).map(|reply| (reply.status, reply.body));
        let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: x\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(reply(&format!("{head}abc")), Some((503, "abc".into())));
        for wrong in
            [format!("{head}ab"), format!("{head}abcd"), head.replace("Content-Length: 3", "x: 3"), "SSH-2.0".into()]
        {
            assert_eq!(reply(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn who_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (none, silent) = (directory.path().join("none"), directory.path().join("silent"));
        let _silent = std::os::unix::net::UnixListener::bind(&silent).unwrap();
        let candidates = [Address::Path(none), Address::Path(silent)];
        let error = ask(&candidates, None, "GET", "/", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(
            error.contains("none: there is no such socket") && error.contains("silent: no answer in time"),
            "{error}"
        );
    }
}

//! The client of the status socket: one request to a running supervisor. Blocks up to a limit.

use super::address::{Address, Key};
use super::http::KEY;
use super::socket::{Peer, connect, peer};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The largest answer that is read.
const ANSWER_BYTES: usize = 64 << 20;
const MISDIRECTED: u16 = 421;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

#[derive(Debug, thiserror::Error)]
#[error("no litevisor answers: {}", .0.join("; "))]
pub struct NoSupervisor(Vec<String>);

/// Sends the request to the first supervisor that answers and has these databases (`key`; None: any
/// databases).
pub fn request(
    candidates: &[Address],
    key: Option<&Key>,
    method: &str,
    target: &str,
    limit: Duration,
) -> Result<Reply, NoSupervisor> {
    let by = Instant::now() + limit;
    let mut tried = Vec::new();
    for address in candidates {
        match request_one(address, key, method, target, by) {
            Ok(Reply { status: MISDIRECTED, .. }) => {
                tried.push(format!("{address}: that litevisor has other databases"))
            }
            Ok(reply) => return Ok(reply),
            Err(error) => tried.push(format!("{address}: {}", describe(&error))),
        }
    }
    Err(NoSupervisor(tried))
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such socket".to_owned(),
        ErrorKind::ConnectionRefused => "no process answers there".to_owned(),
        ErrorKind::PermissionDenied => {
            "not permitted: run this command as root or as litevisor's user".to_owned()
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

fn request_one(
    address: &Address,
    key: Option<&Key>,
    method: &str,
    target: &str,
    by: Instant,
) -> io::Result<Reply> {
    let left = || Some(by.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    let mut stream = connect(address, left().unwrap_or_default())?;
    check_peer(peer(&stream)?, address)?;
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
    parse(&bytes)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "the process that answers is not litevisor"))
}

/// Checks the server's credentials, before anything is sent to it.
fn check_peer(peer: Peer, address: &Address) -> io::Result<()> {
    let own = nix::unistd::geteuid().as_raw();
    if peer.is_ours(own, address) {
        return Ok(());
    }
    let told = match peer.uid {
        uid if uid != 0 && uid != own => {
            format!(
                "a process of user {uid} owns this socket, which is neither root nor the user of this \
                 command: its answer is refused"
            )
        }
        _ => "a process of another container owns this socket: its answer is refused".to_owned(),
    };
    Err(io::Error::other(told))
}

/// False at the end of the stream.
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

/// Parses a complete answer, which has its length and ends with the stream.
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
        for wrong in [
            format!("{head}ab"),
            format!("{head}abcd"),
            head.replace("Content-Length: 3", "x: 3"),
            "SSH-2.0".into(),
        ] {
            assert_eq!(reply(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn who_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (none, silent) = (directory.path().join("none"), directory.path().join("silent"));
        let _silent = std::os::unix::net::UnixListener::bind(&silent).unwrap();
        let candidates = [Address::Path(none), Address::Path(silent)];
        let error =
            request(&candidates, None, "GET", "/", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(
            error.contains("none: there is no such socket") && error.contains("silent: no answer in time"),
            "{error}"
        );
    }
}

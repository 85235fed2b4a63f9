//! sd_notify(3) as text: the manager's address and watchdog, by the environment, and what it is told. Pure.

use crate::model::one_line;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// systemd reads 4096 bytes of a message.
const LONGEST_STATUS: usize = 1000;

/// One message. Several assignments of one message are taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub ready: bool,
    pub stopping: bool,
    /// The start, or the stop, needs so much more time from now on.
    pub extend: Option<Duration>,
    pub status: Option<String>,
    pub watchdog: bool,
}

impl Message {
    pub fn text(&self) -> String {
        let flag = |is_set, text: &str| Some(text.to_owned()).filter(|_| is_set);
        let lines = [
            flag(self.ready, "READY=1"),
            flag(self.stopping, "STOPPING=1"),
            self.extend.map(|time| format!("EXTEND_TIMEOUT_USEC={}", time.as_micros())),
            // A line break in a file's name must not become an assignment.
            self.status.as_ref().map(|status| format!("STATUS={}", one_line(status, LONGEST_STATUS))),
            flag(self.watchdog, "WATCHDOG=1"),
        ];
        lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }
}

/// `NOTIFY_SOCKET`. None: it is empty.
pub fn address(text: &OsStr) -> io::Result<Option<SocketAddr>> {
    match text.as_bytes() {
        [] => Ok(None),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).map(Some),
        [b'/', ..] => SocketAddr::from_pathname(Path::new(text)).map(Some),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
}

/// `WATCHDOG_USEC`, if `WATCHDOG_PID` is this process or not set.
pub fn watchdog(usec: Option<&OsStr>, pid: Option<&OsStr>, own: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    let ours = pid.is_none_or(|pid| number(pid) == Some(own.into()));
    let usec = number(usec?).filter(|&usec| usec > 0 && usec < u64::MAX && ours)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_assignment_is_a_line() {
        let all = Message {
            ready: true,
            stopping: true,
            extend: Some(Duration::from_secs(90)),
            status: Some("up\nMAINPID=1".into()),
            watchdog: true,
        };
        let text = "READY=1\nSTOPPING=1\nEXTEND_TIMEOUT_USEC=90000000\nSTATUS=up MAINPID=1\nWATCHDOG=1";
        assert_eq!(all.text(), text);
        assert_eq!(Message::default().text(), "");
        let long = Message { status: Some("x".repeat(9000)), ..Message::default() };
        assert!(long.text().len() < 1100);
    }

    #[test]
    fn addresses() {
        let name = |text: &str| address(OsStr::new(text));
        assert!(name("").unwrap().is_none());
        assert_eq!(name("/run/s").unwrap().unwrap().as_pathname(), Some(Path::new("/run/s")));
        assert_eq!(name("@a/b").unwrap().unwrap().as_abstract_name(), Some(&b"a/b"[..]));
        for text in ["run/s", "vsock:2:1234", &format!("/{}", "x".repeat(108))] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whose_watchdog_it_is() {
        for (usec, pid, expected) in [
            (None, None, None),
            (Some("1000000"), None, Some(1)),
            (Some("1000000"), Some("7"), Some(1)),
            (Some("1000000"), Some("8"), None),
            (Some("1000000"), Some(""), None),
            (Some("0"), None, None),
            (Some("18446744073709551615"), None, None),
            (Some("1s"), None, None),
        ] {
            let found = watchdog(usec.map(OsStr::new), pid.map(OsStr::new), 7);
            assert_eq!(found, expected.map(Duration::from_secs), "{usec:?} {pid:?}");
        }
    }
}

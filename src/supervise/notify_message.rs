//! What an app says by sd_notify(3), as far as litevisor listens: the app is an outsider here. Pure.

use crate::model::one_line;

/// A longer datagram is not read, as with systemd.
pub const LONGEST: usize = 4096;
/// Of a status.
const MOST: usize = 200;

/// One datagram. Other assignments are ignored: the app can neither name another main process nor stop
/// litevisor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifyMessage {
    /// `READY=1`
    pub ready: bool,
    /// `WATCHDOG=1`
    pub watchdog: bool,
    /// `STATUS=…`: one line.
    pub status: Option<String>,
}

impl NotifyMessage {
    pub fn parse(datagram: &[u8]) -> NotifyMessage {
        let mut message = NotifyMessage::default();
        for line in datagram.split(|&byte| byte == b'\n' || byte == 0) {
            match line {
                b"READY=1" => message.ready = true,
                b"WATCHDOG=1" => message.watchdog = true,
                line => {
                    if let Some(text) = line.strip_prefix(b"STATUS=") {
                        message.status = Some(one_line(&String::from_utf8_lossy(text), MOST));
                    }
                }
            }
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts() {
        let message = |ready, watchdog, status: Option<&str>| NotifyMessage {
            ready,
            watchdog,
            status: status.map(str::to_owned),
        };
        for (datagram, expected) in [
            ("", message(false, false, None)),
            ("READY=1", message(true, false, None)),
            ("READY=1\n", message(true, false, None)),
            ("READY=1\0", message(true, false, None)),
            ("STATUS=up\nREADY=1\nWATCHDOG=1", message(true, true, Some("up"))),
            ("READY=0\nWATCHDOG=trigger\nSTOPPING=1\nMAINPID=1", message(false, false, None)),
            (" READY=1", message(false, false, None)),
            ("READY=11", message(false, false, None)),
            ("STATUS=a\nSTATUS=b", message(false, false, Some("b"))),
            ("STATUS=", message(false, false, Some(""))),
            ("STATUS=a\rWATCHDOG=1", message(false, false, Some("a WATCHDOG=1"))),
        ] {
            assert_eq!(NotifyMessage::parse(datagram.as_bytes()), expected, "{datagram:?}");
        }
        let long = NotifyMessage::parse(format!("STATUS={}", "é".repeat(2000)).as_bytes()).status.unwrap();
        assert_eq!(long.len(), MOST);
        assert_eq!(NotifyMessage::parse(b"STATUS=\xff").status.as_deref(), Some("\u{fffd}"));
    }
}

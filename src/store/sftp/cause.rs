//! Why a request to the server failed, and what the user can do: pure.

use super::wire;
use crate::store::StoreErrorKind;
use crate::store::failure::Failure;
use std::io;

/// Why a request has no good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server's status.
    Refused { code: u32, message: String },
    /// The connection ended while the answer was awaited, and why.
    Lost(String),
    /// The answer makes no sense.
    Nonsense(&'static str),
    /// What the user must put right before anything can work: host keys, logins, settings.
    Denied(String),
    /// No space is left, or the user's quota is used up.
    Full(&'static str),
    /// Something else stands where a part of the replica belongs.
    Foreign(String),
    /// The request or the content is invalid.
    Invalid(&'static str),
}

impl Fault {
    pub(super) fn is(&self, wanted: u32) -> bool {
        matches!(self, Fault::Refused { code, .. } if *code == wanted)
    }

    pub(super) fn lost(detail: impl Into<String>) -> Fault {
        Fault::Lost(detail.into())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        let (kind, detail) = match fault {
            Fault::Refused { code, message } => status(code, &message),
            Fault::Lost(detail) => (StoreErrorKind::Unreachable, detail),
            Fault::Nonsense(detail) => {
                (StoreErrorKind::Invalid, format!("the server's answer makes no sense: {detail}"))
            }
            Fault::Denied(detail) => (StoreErrorKind::Denied, detail),
            Fault::Full(detail) => (StoreErrorKind::Unreachable, detail.to_owned()),
            Fault::Foreign(detail) => (StoreErrorKind::Invalid, detail),
            Fault::Invalid(detail) => (StoreErrorKind::Invalid, detail.to_owned()),
        };
        Failure::new(kind, detail)
    }
}

fn status(code: u32, message: &str) -> (StoreErrorKind, String) {
    const BAD_MESSAGE: u32 = 5;
    let (kind, own, hint) = match code {
        wire::ABSENT => (StoreErrorKind::NotFound, "no such file", ""),
        wire::FORBIDDEN => (
            StoreErrorKind::Denied,
            "permission denied",
            "; check owner and mode of this path for the user of the URL, and that the server is not \
             read-only",
        ),
        BAD_MESSAGE => (StoreErrorKind::Invalid, "bad message", "; the server does not take this name"),
        wire::UNSUPPORTED => (StoreErrorKind::Invalid, "operation unsupported", "; use another SFTP server"),
        // Everything else that can go wrong on a disk has the same code.
        wire::FAILURE => (
            StoreErrorKind::Unreachable,
            "failure",
            "; the server does not say why: its disk or this user's quota may be full, or a file stands \
             where a directory is needed",
        ),
        _ => (StoreErrorKind::Unreachable, "an error that SFTP does not know", ""),
    };
    let said = if message.is_empty() { own } else { message };
    (kind, format!("the server says \"{said}\"{hint}"))
}

/// An error of the way to the server. `address` is `host:port`.
pub(super) fn connection(address: &str, error: &russh::Error) -> Fault {
    use russh::Error;
    match error {
        Error::IO(io) => network(address, io),
        Error::NoCommonAlgo { kind, .. } => Fault::Denied(format!(
            "{address} offers no {kind:?} algorithm that is considered safe; update the SSH server or its \
             settings"
        )),
        Error::Version => Fault::Denied(format!("{address} does not speak SSH; check host and port")),
        Error::WrongServerSig | Error::KexInit | Error::Kex | Error::UnknownKey => {
            Fault::Denied(format!("{address} did not prove its host key: {error}"))
        }
        Error::KeepaliveTimeout | Error::InactivityTimeout | Error::ConnectionTimeout => {
            Fault::lost(format!("{address} has fallen silent"))
        }
        Error::Disconnect | Error::HUP | Error::SendError | Error::RecvError => {
            Fault::lost(format!("{address} closed the connection"))
        }
        _ => Fault::lost(format!("the connection to {address} broke: {error}")),
    }
}

pub(super) fn network(address: &str, error: &io::Error) -> Fault {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => "; is the SSH server running, and is the port right?",
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "; is the host reachable from here?"
        }
        _ => "",
    };
    Fault::lost(format!("cannot reach {address}: {error}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_its_kind() {
        for (code, kind) in [
            (wire::ABSENT, StoreErrorKind::NotFound),
            (wire::FORBIDDEN, StoreErrorKind::Denied),
            (wire::FAILURE, StoreErrorKind::Unreachable),
            (5, StoreErrorKind::Invalid),
            (6, StoreErrorKind::Unreachable),
            (7, StoreErrorKind::Unreachable),
            (wire::UNSUPPORTED, StoreErrorKind::Invalid),
            (99, StoreErrorKind::Unreachable),
        ] {
            let failure = Failure::from(Fault::Refused { code, message: "a message".to_owned() });
            assert_eq!(failure.kind, kind, "{code}");
            assert!(failure.detail.contains("a message"), "{failure:?}");
        }
    }

    #[test]
    fn the_way_to_the_server_breaks_in_kinds() {
        let refused = || russh::Error::IO(io::ErrorKind::ConnectionRefused.into());
        for (error, kind) in [
            (refused(), StoreErrorKind::Unreachable),
            (russh::Error::Disconnect, StoreErrorKind::Unreachable),
            (russh::Error::KeepaliveTimeout, StoreErrorKind::Unreachable),
            (russh::Error::Version, StoreErrorKind::Denied),
            (russh::Error::WrongServerSig, StoreErrorKind::Denied),
        ] {
            let failure = Failure::from(connection("h:22", &error));
            assert_eq!(failure.kind, kind, "{failure:?}");
            assert!(failure.detail.contains("h:22"), "{failure:?}");
        }
        assert!(
            matches!(connection("h:22", &refused()), Fault::Lost(message) if message.contains("is the SSH \
                server running"))
        );
    }
}

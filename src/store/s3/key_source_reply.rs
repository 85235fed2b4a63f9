//! The last reply of a service that gives out keys (the metadata service of the machine or the container, a
//! token service), and what it means: the SDK's errors hide it. Status and code decide, never the text of a
//! message.

use crate::store::StoreErrorKind::{self, Denied, Unreachable};
use std::fmt;
use std::sync::{Mutex, PoisonError};

#[derive(Debug, Default)]
pub(super) struct LastReply(Mutex<Option<Reply>>);

#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// Without a query.
    address: String,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No answer: why.
    Nothing(String),
    /// Status, and the code of an error.
    Answered(u16, String),
}

/// Why there are no keys: the service that was asked last, and its reply.
#[derive(Debug)]
pub(super) struct NoKeys {
    pub kind: StoreErrorKind,
    reply: Reply,
}

impl std::error::Error for NoKeys {}

impl fmt::Display for NoKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reply { address, outcome } = &self.reply;
        match outcome {
            Outcome::Nothing(why) => write!(f, "no credentials from {address}: no answer: {why}"),
            Outcome::Answered(status, code) if code.is_empty() => {
                write!(f, "no credentials from {address}: HTTP {status}")
            }
            Outcome::Answered(status, code) => {
                write!(f, "no credentials from {address}: HTTP {status} {code}")
            }
        }
    }
}

impl LastReply {
    pub(super) fn note(&self, address: &str, outcome: Outcome) {
        let reply = Reply { address: address.to_owned(), outcome };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
    }

    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The last reply as an error. None: no service was asked.
    pub(super) fn no_keys(&self) -> Option<NoKeys> {
        let reply = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let kind = if passes(&reply) { Unreachable } else { Denied };
        Some(NoKeys { kind, reply })
    }
}

/// Whether it passes by itself: such a service may come up later than we do, or have too much to do. What it
/// refuses for good is final.
fn passes(reply: &Reply) -> bool {
    match &reply.outcome {
        Outcome::Nothing(_) => true,
        Outcome::Answered(status, code) => match (status, code.as_str()) {
            (408 | 425 | 429 | 500..=599, _) => true,
            (
                _,
                "Throttling"
                | "ThrottlingException"
                | "ThrottledException"
                | "RequestThrottled"
                | "SlowDown"
                | "TooManyRequestsException"
                | "RequestLimitExceeded"
                | "PriorRequestNotComplete"
                | "RequestTimeout"
                | "RequestTimeoutException"
                | "InternalFailure"
                | "InternalServerException"
                | "ServiceUnavailable"
                | "IDPCommunicationError",
            ) => true,
            // A machine's role is attached after its start.
            (404, _) => reply.address.contains("/latest/meta-data/"),
            // It had an answer, and that made no sense.
            (200..=299, _) => true,
            _ => false,
        },
    }
}

/// The code in an error's XML or JSON; "" without one.
pub(super) fn code(text: Option<&[u8]>) -> String {
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    let xml = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code.to_owned());
    let json = || {
        let object: serde_json::Value = serde_json::from_str(&text).ok()?;
        let names = ["__type", "code", "Code"];
        let code = names.iter().find_map(|name| object.get(name)?.as_str())?;
        Some(code.rsplit('#').next().unwrap_or(code).to_owned())
    };
    let code = xml.or_else(json).unwrap_or_default();
    // A code is one word.
    if code.len() <= 80 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
        code
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_not_final() {
        const ROLE: &str = "http://169.254.170.2/v2/credentials/x";
        const MACHINE: &str = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
        for (address, status, code, expected) in [
            (ROLE, 429, "", true),
            (ROLE, 500, "", true),
            (ROLE, 503, "", true),
            (ROLE, 400, "", false),
            (ROLE, 401, "", false),
            (ROLE, 403, "AccessDenied", false),
            (ROLE, 404, "", false),
            (MACHINE, 404, "", true),
            ("https://sts.amazonaws.com/", 400, "Throttling", true),
            ("https://sts.amazonaws.com/", 400, "IDPCommunicationError", true),
            ("https://sts.amazonaws.com/", 400, "InvalidIdentityToken", false),
            ("https://sts.amazonaws.com/", 400, "ExpiredTokenException", false),
            ("https://sts.amazonaws.com/", 403, "AccessDenied", false),
        ] {
            let reply =
                Reply { address: address.to_owned(), outcome: Outcome::Answered(status, code.to_owned()) };
            assert_eq!(passes(&reply), expected, "{address} {status} {code}");
        }
        assert!(passes(&Reply { address: ROLE.to_owned(), outcome: Outcome::Nothing("refused".to_owned()) }));
    }

    #[test]
    fn the_code_is_found_in_either_form() {
        for (text, expected) in [
            (
                "<ErrorResponse><Error><Code>Throttling</Code><Message>x</Message></Error></ErrorResponse>",
                "Throttling",
            ),
            (r#"{"__type":"com.amazonaws.sso#TooManyRequestsException"}"#, "TooManyRequestsException"),
            (r#"{"code":"AccessDenied","message":"x"}"#, "AccessDenied"),
            (r#"{"Code":"AssumeRoleUnauthorizedAccess"}"#, "AssumeRoleUnauthorizedAccess"),
            ("<Code>not a\ncode</Code>", ""),
            ("wrong", ""),
            ("", ""),
        ] {
            assert_eq!(code(Some(text.as_bytes())), expected, "{text}");
        }
        assert_eq!(code(None), "");
    }

    #[test]
    fn the_one_to_blame_is_named() {
        let last_reply = LastReply::default();
        assert!(last_reply.no_keys().is_none());
        last_reply.note("http://169.254.170.2/role", Outcome::Answered(429, String::new()));
        let no_keys = last_reply.no_keys().unwrap();
        assert_eq!(
            (no_keys.kind, no_keys.to_string().as_str()),
            (Unreachable, "no credentials from http://169.254.170.2/role: HTTP 429")
        );
    }
}

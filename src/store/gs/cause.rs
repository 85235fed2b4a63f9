//! What an answer that is no success means: the kind of the error, and a text that names what the service
//! said and what the user can do. Status and reason decide, never the text of a message. Pure.

use crate::store::StoreErrorKind;
use crate::store::failure::Failure;
use crate::store::http::{refused, with_hint};
use serde::Deserialize;

/// What an error may take of the answer's text.
const SHOWN: usize = 300;

const RIGHTS: &str =
    "grant the account the role Storage Object User (roles/storage.objectUser) on the bucket";
const SCOPE: &str = "the machine's access scopes do not allow writing: give it storage-rw or cloud-platform";
const NO_BUCKET: &str = "the bucket does not exist: create it, or check its name and the endpoint";
const EXPIRED: &str = "the credentials have expired or are wrong: check credentials_file (or \
                       GOOGLE_APPLICATION_CREDENTIALS), or the machine's service account";
const KEPT: &str =
    "the bucket's retention policy or a hold keeps it: retention must be shorter here than there";
const ACCOUNT: &str = "check the project's billing and that the Cloud Storage API is on";
const SESSION: &str = "the upload's session is gone; it starts again";

/// An answer of the storage service.
pub(super) fn explain(operation: &str, status: u16, body: &[u8]) -> Failure {
    let text = ErrorText::from(body);
    let (kind, hint) = classify(operation, status, &text.reason);
    Failure::new(kind, with_hint(text.text(status), hint))
}

/// "Not found" to a piece of an upload in pieces: that is the upload's session.
pub(super) fn explain_piece(status: u16, body: &[u8]) -> Failure {
    Failure::unreachable(with_hint(ErrorText::from(body).text(status), SESSION))
}

/// An answer of the token service. `hint`: what to check when it refuses.
pub(super) fn explain_token(status: u16, body: &[u8], hint: &str) -> Failure {
    let kind = match status {
        408 | 429 | 500..=599 => StoreErrorKind::Unreachable,
        _ => StoreErrorKind::Denied,
    };
    Failure::new(kind, with_hint(ErrorText::from(body).text(status), hint))
}

fn classify(operation: &str, status: u16, reason: &str) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Denied, Unreachable};
    match (status, reason) {
        (403, "rateLimitExceeded" | "userRateLimitExceeded" | "quotaExceeded") => (Unreachable, ""),
        (403, "retentionPolicyNotMet" | "objectUnderActiveHold") => (Denied, KEPT),
        (403, "insufficientPermissions" | "ACCESS_TOKEN_SCOPE_INSUFFICIENT") => (Denied, SCOPE),
        (
            403,
            "accountDisabled" | "userProjectAccountProblem" | "accessNotConfigured" | "SERVICE_DISABLED",
        ) => (Denied, ACCOUNT),
        (401, _) => (Denied, EXPIRED),
        (403, _) => (Denied, RIGHTS),
        (404, _) if operation != "get" => (Denied, NO_BUCKET),
        (410, _) => (Unreachable, ""),
        _ => (refused(operation, status), ""),
    }
}

/// What both kinds of services say of an error.
#[derive(Debug, Default, PartialEq, Eq)]
struct ErrorText {
    reason: String,
    message: String,
}

#[derive(Deserialize)]
struct Answer {
    error: ErrorBody,
    #[serde(default)]
    error_description: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorBody {
    Storage {
        #[serde(default)]
        message: String,
        #[serde(default)]
        errors: Vec<Reason>,
    },
    Token(String),
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
}

impl ErrorText {
    fn from(body: &[u8]) -> ErrorText {
        match serde_json::from_slice(body) {
            Ok(Answer { error: ErrorBody::Storage { message, errors }, .. }) => ErrorText {
                reason: errors.into_iter().next().map(|first| first.reason).unwrap_or_default(),
                message,
            },
            Ok(Answer { error: ErrorBody::Token(reason), error_description: message }) => {
                ErrorText { reason, message }
            }
            // Downloads and uploads answer in plain text; whatever is in front of the service, in HTML.
            Err(_) if body.first() == Some(&b'<') => ErrorText::default(),
            Err(_) => {
                ErrorText { reason: String::new(), message: String::from_utf8_lossy(body).into_owned() }
            }
        }
    }

    fn text(&self, status: u16) -> String {
        let words = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        let message: String = words.chars().take(SHOWN).collect();
        match (self.reason.as_str(), message.as_str()) {
            ("", "") => format!("HTTP {status}"),
            (text, "") | ("", text) => format!("HTTP {status} {text}"),
            (reason, message) if reason == message => format!("HTTP {status} {message}"),
            (reason, message) => format!("HTTP {status} {reason}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StoreErrorKind::{Denied, Invalid, NotFound, Unreachable};

    #[test]
    fn answers_map_to_kinds_and_say_what_to_do() {
        for (operation, status, reason, kind, hint) in [
            ("get", 404, "notFound", NotFound, ""),
            ("list", 404, "notFound", Denied, "create it"),
            ("create", 404, "", Denied, "create it"),
            ("create", 401, "authError", Denied, "credentials_file"),
            ("create", 403, "forbidden", Denied, "objectUser"),
            ("create", 403, "insufficientPermissions", Denied, "scopes"),
            ("create", 403, "accessNotConfigured", Denied, "billing"),
            ("create", 403, "rateLimitExceeded", Unreachable, ""),
            ("delete", 403, "retentionPolicyNotMet", Denied, "retention"),
            ("create", 400, "invalid", Invalid, ""),
            ("create", 410, "", Unreachable, ""),
            ("create", 429, "", Unreachable, ""),
            ("create", 503, "backendError", Unreachable, ""),
        ] {
            let (is, detail) = classify(operation, status, reason);
            assert_eq!(is, kind, "{operation} {status} {reason}");
            assert!(
                detail.contains(hint) && detail.is_empty() == hint.is_empty(),
                "{operation} {status} {reason}: {detail}"
            );
        }
    }

    #[test]
    fn what_was_said_is_shown() {
        let json = br#"{"error":{"code":403,"message":"x@y does not have access.","errors":[{"reason":"forbidden"}]}}"#;
        let Failure { kind, detail, .. } = explain("create", 403, json);
        assert_eq!(kind, Denied);
        assert!(detail.starts_with("HTTP 403 forbidden: x@y does not have access; grant"), "{detail}");
        for (body, expected) in [
            (&b"No such object: b/x\n"[..], "HTTP 404 No such object: b/x"),
            (b"", "HTTP 404"),
            (b"<html>lots</html>", "HTTP 404"),
            (br#"{"error":{"message":"Not Found","errors":[{"reason":"Not Found"}]}}"#, "HTTP 404 Not Found"),
            (br#"{"error":{}}"#, "HTTP 404"),
        ] {
            assert_eq!(explain("get", 404, body).detail, expected);
        }
        assert_eq!(explain("get", 404, "x".repeat(9999).as_bytes()).detail.len(), SHOWN + 9);
    }

    #[test]
    fn a_lost_session_may_heal() {
        let gone = explain_piece(410, b"Gone");
        assert_eq!((gone.kind, gone.detail), (Unreachable, format!("HTTP 410 Gone; {SESSION}")));
    }

    #[test]
    fn refused_tokens_are_explained() {
        let body = br#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
        let Failure { kind, detail, .. } = explain_token(400, body, "check the key");
        assert_eq!(
            (kind, detail.as_str()),
            (Denied, "HTTP 400 invalid_grant: Invalid JWT Signature; check the key")
        );
        assert_eq!(explain_token(503, b"", "").kind, Unreachable);
        assert_eq!(explain_token(404, b"", "").kind, Denied);
    }
}

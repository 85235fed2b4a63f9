//! What a failed request means: by status and error type, never by the text of a message.

use crate::store::chain::{chain, find};
use crate::store::failure::Failure;
use crate::store::{StoreErrorKind, retry};
use std::time::Duration;

const TRUST: &str =
    "the server's certificate is not trusted: set ca_file (or SSL_CERT_FILE) to the CA that signed it";
const ROAD: &str = "check the endpoint, and whether it can be reached from here";

/// No answer, or one that broke off.
pub(in crate::store) fn failed(error: &reqwest::Error) -> Failure {
    // Its own text repeats the URL, whose query may hold a signature.
    let detail = std::error::Error::source(error).map_or_else(|| "the request failed".to_owned(), chain);
    if let Some(rustls::Error::InvalidCertificate(_)) = find::<rustls::Error>(error) {
        return Failure::new(StoreErrorKind::Denied, with_hint(detail, TRUST));
    }
    match error {
        error if is_timeout(error) => Failure::new(StoreErrorKind::TimedOut, with_hint(detail, ROAD)),
        error if error.is_builder() => Failure::invalid(detail),
        error if error.is_connect() => {
            Failure::unreachable(with_hint(format!("no connection: {detail}"), ROAD))
        }
        _ => Failure::unreachable(detail),
    }
}

/// Why a request to a URL that is no store's has failed.
pub(in crate::store) fn reason(error: &reqwest::Error) -> String {
    failed(error).detail
}

/// When the service sent it, as it says.
pub(in crate::store) fn date(reply: &reqwest::Response) -> Option<&str> {
    reply.headers().get(reqwest::header::DATE)?.to_str().ok()
}

/// How long the other side asks to be left alone.
pub(in crate::store) fn retry_after(reply: &reqwest::Response) -> Option<Duration> {
    retry::retry_after(
        reply.headers().get(reqwest::header::RETRY_AFTER).and_then(|value| value.to_str().ok()),
    )
}

pub(super) fn is_timeout(error: &reqwest::Error) -> bool {
    let too_late = |error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut;
    error.is_timeout() || find::<std::io::Error>(error).is_some_and(too_late)
}

/// An answer that is no success. A 404 to `get` is an answer about the object, and to all others a missing
/// bucket.
pub(in crate::store) fn refused(operation: &str, status: u16) -> StoreErrorKind {
    use StoreErrorKind::{Denied, Invalid, NotFound, Unreachable};
    match status {
        404 if operation == "get" => NotFound,
        401 | 403 | 404 | 300..=399 => Denied,
        408 | 409 | 425 | 429 | 500 | 502..=599 => Unreachable,
        _ => Invalid,
    }
}

pub(in crate::store) fn with_hint(detail: String, hint: &str) -> String {
    if hint.is_empty() { detail } else { format!("{}; {hint}", detail.trim_end_matches('.')) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StoreErrorKind::{Denied, Invalid, NotFound, Unreachable};

    #[test]
    fn answers_map_to_kinds() {
        for (operation, status, kind) in [
            ("get", 404, NotFound),
            ("list", 404, Denied),
            ("create", 403, Denied),
            ("create", 401, Denied),
            ("create", 307, Denied),
            ("create", 400, Invalid),
            ("create", 501, Invalid),
            ("create", 409, Unreachable),
            ("create", 429, Unreachable),
            ("create", 500, Unreachable),
            ("create", 503, Unreachable),
        ] {
            assert_eq!(refused(operation, status), kind, "{operation} {status}");
        }
    }
}

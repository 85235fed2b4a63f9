//! What a failed request means: by status and error type, never by the text of a message.

use crate::store::StoreErrorKind;
use crate::store::chain::{chain, find};

const TRUST: &str = "the server's certificate is not trusted: set ca_file (or SSL_CERT_FILE) to the CA that signed it";
const ROAD: &str = "check the endpoint, and whether it can be reached from here";

/// No answer, or one that broke off.
pub(in crate::store) fn failed(error: &reqwest::Error) -> (StoreErrorKind, String) {
    // Its own text repeats the URL, whose query may hold a signature.
    let detail = std::error::Error::source(error).map_or_else(|| "the request failed".to_owned(), chain);
    if let Some(rustls::Error::InvalidCertificate(_)) = find::<rustls::Error>(error) {
        return (StoreErrorKind::Denied, with_hint(detail, TRUST));
    }
    match error {
        error if error.is_timeout() => (StoreErrorKind::TimedOut, with_hint(detail, ROAD)),
        error if error.is_builder() => (StoreErrorKind::Invalid, detail),
        error if error.is_connect() => {
            (StoreErrorKind::Unreachable, with_hint(format!("no connection: {detail}"), ROAD))
        }
        _ => (StoreErrorKind::Unreachable, detail),
    }
}

/// An answer that is no success. A 404 to `get` is an answer about the object, and to all others a missing bucket.
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

//! What a failed request means: the kind of the error, and a text that names what the service said and what
//! the user can do. Status, code and error type decide, never the text of a message.

use super::key_source_reply::NoKeys;
use crate::store::chain::{chain, errors, find};
use crate::store::failure::Failure;
use crate::store::http::{TransportError, with_hint};
use crate::store::{StoreErrorKind, retry};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use std::error::Error;

/// A 404 to `get` is an answer about the object, and to all other operations a missing bucket. `endpoint`: of
/// the configuration.
pub(super) fn explain<E>(operation: &str, endpoint: Option<&str>, error: &SdkError<E>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let (kind, detail) = match error {
        SdkError::TimeoutError(_) => (StoreErrorKind::TimedOut, chain(error)),
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            not_sent(error, endpoint.unwrap_or("AWS"))
        }
        _ => answered(operation, error),
    };
    let asked = error.raw_response().and_then(|response| response.headers().get("retry-after"));
    Failure { retry_after: retry::retry_after(asked), ..Failure::new(kind, detail) }
}

/// The status of the answer, if there was one.
pub(super) fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn answered<E>(operation: &str, error: &SdkError<E>) -> (StoreErrorKind, String)
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Some(status) = status(error) else { return (StoreErrorKind::Invalid, chain(error)) };
    let (kind, hint) = classify(operation, status, error.code().unwrap_or_default());
    let detail = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("HTTP {status} {code}: {message}"),
        (Some(said), None) | (None, Some(said)) => format!("HTTP {status} {said}"),
        (None, None) => format!("HTTP {status} ({})", chain(error)),
    };
    (kind, with_hint(detail, hint))
}

const KEYS: &str = "check access_key_id, secret_access_key and region, and what the bucket's policy grants";
const NO_BUCKET: &str =
    "the bucket does not exist: create it, or check its name, the endpoint and the region";
const REGION: &str = "the bucket is in another region: set `region` (or the endpoint) to where it is";
const CLOCK: &str = "the clocks of this machine and the store differ: set this machine's clock";
const EXPIRED: &str = "the credentials have expired or are wrong: renew them";
const DOUBTFUL: &str =
    "this may not be the store's own answer: check whether a proxy or a login page is in between";
const LACKING: &str =
    "the store does not support what this request needs (conditional writes, multipart uploads)";

/// Codes speak first where a status has several meanings.
pub(super) fn classify(operation: &str, status: u16, code: &str) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Denied, Invalid, NotFound, Unreachable};
    match (status, code) {
        (_, "NoSuchBucket") => (Denied, NO_BUCKET),
        (_, "NoSuchUpload") => (Unreachable, "the multipart upload is gone; it starts again"),
        (_, "RequestTimeTooSkewed") => (Denied, CLOCK),
        (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => (Denied, REGION),
        (_, "InvalidAccessKeyId") => (Denied, EXPIRED),
        (_, code) if has_expired(code) => (Denied, EXPIRED),
        (400, "RequestTimeout" | "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch") => {
            (Unreachable, "")
        }
        (404, _) if operation == "get" => (NotFound, ""),
        (404, _) => (Denied, NO_BUCKET),
        (401 | 403, _) => (Denied, KEYS),
        (300..=399, _) => (Denied, REGION),
        // Another writer writes the same key at this moment.
        (409, _) => (Unreachable, ""),
        (405 | 501, _) => (Invalid, LACKING),
        (408 | 425 | 429 | 500..=599, _) => (Unreachable, ""),
        // A success that makes no sense, or an error that begins like a success.
        (200..=299, _) => (Unreachable, DOUBTFUL),
        _ => (Invalid, ""),
    }
}

/// The keys were good once.
pub(super) fn has_expired(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "InvalidToken" | "TokenRefreshRequired"
    )
}

const TRUST: &str =
    "the server's certificate is not trusted: set ca_file (or SSL_CERT_FILE) to the CA that signed it";
const ROAD: &str = "check the endpoint, and whether it can be reached from here";
const NOWHERE: &str = "no credentials found (environment, profile, web identity, container role, machine \
    role): set access_key_id and secret_access_key, or give the machine a role";
const NO_KEYS: &str =
    "no usable credentials: set access_key_id and secret_access_key, or give the machine a role";

/// No answer: no credentials, no connection, no trust, or a request that cannot be built.
fn not_sent<E>(error: &SdkError<E>, endpoint: &str) -> (StoreErrorKind, String)
where
    E: Error + 'static,
{
    if let Some(credentials) = find::<CredentialsError>(error) {
        return no_credentials(credentials);
    }
    let SdkError::DispatchFailure(failure) = error else {
        return (
            StoreErrorKind::Invalid,
            with_hint(chain(error), "check the bucket's name and the endpoint"),
        );
    };
    if let Some(TransportError::Suspicious(detail)) = find::<TransportError>(error) {
        return (StoreErrorKind::Unreachable, detail.clone());
    }
    let detail = format!("no connection to {endpoint}: {}", reason(error));
    if let Some(rustls::Error::InvalidCertificate(_)) = find::<rustls::Error>(error) {
        return (StoreErrorKind::Denied, with_hint(detail, TRUST));
    }
    match failure {
        failure if failure.is_timeout() => (StoreErrorKind::TimedOut, with_hint(detail, ROAD)),
        failure if failure.is_user() => (StoreErrorKind::Invalid, chain(error)),
        _ => (StoreErrorKind::Unreachable, with_hint(detail, ROAD)),
    }
}

/// Without the wrappers: the SDK's error, the connector's, and the client's where it carries another one.
fn reason(error: &(dyn Error + 'static)) -> String {
    if let Some(TransportError::Request(request)) = find::<TransportError>(error) {
        // The innermost error says it all; its own text repeats the address.
        return errors(request).last().map_or_else(|| chain(request), ToString::to_string);
    }
    let wrappers = (errors(error).count().saturating_sub(1)).min(3);
    errors(error).nth(wrappers).map_or_else(|| chain(error), chain)
}

fn no_credentials(error: &CredentialsError) -> (StoreErrorKind, String) {
    if let Some(no_keys) = find::<NoKeys>(error) {
        return (no_keys.kind, with_hint(no_keys.to_string(), NO_KEYS));
    }
    let detail = chain(error);
    match error {
        CredentialsError::ProviderTimedOut(_) => (StoreErrorKind::TimedOut, with_hint(detail, NO_KEYS)),
        // The token service or the metadata server could not be reached.
        CredentialsError::ProviderError(_) if find::<ConnectorError>(error).is_some() => {
            (StoreErrorKind::Unreachable, with_hint(detail, NO_KEYS))
        }
        // Every provider's own "not here", one a line, says no more than this.
        CredentialsError::CredentialsNotLoaded(_) => (StoreErrorKind::Denied, NOWHERE.to_owned()),
        _ => (StoreErrorKind::Denied, with_hint(detail, NO_KEYS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StoreErrorKind::{Denied, Invalid, NotFound, TimedOut, Unreachable};
    use aws_sdk_s3::operation::get_object::GetObjectError;

    #[test]
    fn answers_map_to_kinds() {
        for (operation, status, code, kind) in [
            ("get", 404, "NoSuchKey", NotFound),
            ("get", 404, "", NotFound),
            ("get", 404, "NoSuchBucket", Denied),
            ("list", 404, "NoSuchBucket", Denied),
            ("list", 404, "", Denied),
            ("create", 404, "NoSuchUpload", Unreachable),
            ("create", 403, "SignatureDoesNotMatch", Denied),
            ("create", 403, "RequestTimeTooSkewed", Denied),
            ("create", 401, "", Denied),
            ("create", 400, "AuthorizationHeaderMalformed", Denied),
            ("create", 400, "ExpiredToken", Denied),
            ("create", 400, "RequestTimeout", Unreachable),
            ("create", 400, "InvalidArgument", Invalid),
            ("create", 301, "PermanentRedirect", Denied),
            ("create", 409, "ConditionalRequestConflict", Unreachable),
            ("create", 501, "NotImplemented", Invalid),
            ("create", 429, "", Unreachable),
            ("create", 500, "InternalError", Unreachable),
            ("create", 503, "SlowDown", Unreachable),
            ("list", 200, "", Unreachable),
            ("create", 200, "InternalError", Unreachable),
        ] {
            assert_eq!(classify(operation, status, code).0, kind, "{operation} {status} {code}");
        }
    }

    #[test]
    fn requests_without_an_answer_map_to_kinds() {
        let io = |error: std::io::Error| {
            SdkError::<GetObjectError>::dispatch_failure(ConnectorError::io(Box::new(error)))
        };
        let other = |error: CredentialsError| {
            SdkError::<GetObjectError>::dispatch_failure(ConnectorError::other(Box::new(error), None))
        };
        let refused = std::io::Error::from_raw_os_error(nix::libc::ECONNREFUSED);
        let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let unreachable = ConnectorError::io("no route".into());
        for (error, kind) in [
            (io(refused), Unreachable),
            (io(std::io::Error::other(untrusted)), Denied),
            (SdkError::dispatch_failure(ConnectorError::timeout("slow".into())), TimedOut),
            (SdkError::timeout_error("slow"), TimedOut),
            (SdkError::construction_failure("bad bucket"), Invalid),
            (other(CredentialsError::not_loaded_no_source()), Denied),
            (other(CredentialsError::provider_error("refused by the token service")), Denied),
            (other(CredentialsError::provider_error(unreachable)), Unreachable),
            (other(CredentialsError::provider_timed_out(std::time::Duration::from_secs(1))), TimedOut),
        ] {
            assert_eq!(explain("get", None, &error).kind, kind, "{error:?}");
        }
    }

    #[test]
    fn a_dead_endpoint_is_named_without_the_wrappers() {
        let refused = std::io::Error::from_raw_os_error(nix::libc::ECONNREFUSED);
        let client = std::io::Error::other(std::io::Error::other(refused));
        for io in [client, std::io::Error::from_raw_os_error(nix::libc::ECONNREFUSED)] {
            let error = SdkError::<GetObjectError>::dispatch_failure(ConnectorError::io(Box::new(io)));
            let detail = explain("get", Some("http://store:9000"), &error).detail;
            let expected =
                format!("no connection to http://store:9000: Connection refused (os error 111); {ROAD}");
            assert_eq!(detail, expected);
        }
    }

    #[test]
    fn every_message_of_the_chain_is_told_once() {
        let error = std::io::Error::other(std::io::Error::from_raw_os_error(nix::libc::ECONNREFUSED));
        assert_eq!(chain(&error), "Connection refused (os error 111)");
    }
}

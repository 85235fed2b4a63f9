//! What a refused request means: the kind of the error, and what the user can do. The status, Azure's error
//! code, the kind of credential and the difference of the clocks decide, never the text of a message. Pure.

use crate::store::StoreErrorKind::{self, Denied, Invalid, NotFound};
use crate::store::http;
use object_store::azure::AzureCredential;

const NO_CONTAINER: &str = "the container does not exist: create it, or check its name and the account's";
const CLOCK: &str = "the clocks of this machine and the store differ: set this machine's clock";
const NETWORK: &str = "; or the storage account's network rules shut this machine out";
const NO_KEYS: &str = "the storage account allows no keys: use a managed identity";
const ROLE: &str = "grant the identity the role \"Storage Blob Data Contributor\" on the container";
const KEPT: &str = "a policy, a lease, a snapshot or its tier protects the blob: it has to be lifted first";
const OTHERS: &str = "another program's unfinished upload of this blob is in the way: Azure drops it after a \
    week, or when the blob is deleted";

/// Azure refuses what was signed this much earlier or later.
const SKEW_S: i64 = 15 * 60;

/// The answer to a request that was not met. `skew_s`: seconds between this clock and the answer's. A 404 to
/// `get` is an answer about the blob, and to all others a missing container.
pub(super) fn classify(
    operation: &str,
    status: u16,
    code: &str,
    credential: Option<&AzureCredential>,
    skew_s: i64,
) -> (StoreErrorKind, String) {
    let plain = |kind, hint: &str| (kind, hint.to_owned());
    match (status, code) {
        (_, "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled") => {
            plain(Denied, NO_CONTAINER)
        }
        (401 | 403, _) if skew_s.abs() > SKEW_S => plain(Denied, CLOCK),
        (_, "AuthorizationFailure" | "AuthorizationSourceIPMismatch") => {
            (Denied, advice(credential) + NETWORK)
        }
        (_, "KeyBasedAuthenticationNotPermitted") => plain(Denied, NO_KEYS),
        (_, "AuthorizationPermissionMismatch" | "InsufficientAccountPermissions")
            if matches!(credential, Some(AzureCredential::BearerToken(_))) =>
        {
            plain(Denied, ROLE)
        }
        (_, "PublicAccessNotPermitted" | "NoAuthenticationInformation" | "InvalidAuthenticationInfo")
        | (401 | 403, _) => (Denied, advice(credential)),
        (
            _,
            "BlobImmutableDueToPolicy"
            | "BlobArchived"
            | "BlobBeingRehydrated"
            | "SnapshotsPresent"
            | "LeaseIdMissing"
            | "InvalidBlobType",
        ) => plain(Denied, KEPT),
        (404, "" | "BlobNotFound" | "ResourceNotFound") if operation == "get" => plain(NotFound, ""),
        (404, _) => plain(Denied, NO_CONTAINER),
        // Another upload of the same blob was completed in between: the next one will see it.
        (400, "InvalidBlockList") => plain(StoreErrorKind::Unreachable, ""),
        (400, "InvalidBlobOrBlock" | "InvalidBlockId") => plain(Invalid, OTHERS),
        _ => plain(http::refused(operation, status), ""),
    }
}

/// What to look at when the credential was not accepted.
fn advice(credential: Option<&AzureCredential>) -> String {
    match credential {
        Some(AzureCredential::AccessKey(_)) => "check account_key, and the account's name".to_owned(),
        Some(AzureCredential::BearerToken(_)) => format!("the identity's token is not accepted: {ROLE}"),
        Some(AzureCredential::SASToken(pairs)) => {
            let end = pairs.iter().find(|(name, _)| name == "se").map(|(_, value)| value.as_str());
            match end.filter(|end| has_passed(end)) {
                Some(end) => format!("the SAS token has expired ({end}): make a new one"),
                None => {
                    "check sas_token: its signature, its times (st, se), and that sp grants racwdl".to_owned()
                }
            }
        }
        None => "check the credentials".to_owned(),
    }
}

fn has_passed(end: &str) -> bool {
    end.parse::<jiff::Timestamp>().is_ok_and(|end| end < jiff::Timestamp::now())
}

/// An object of that name is there already.
pub(super) fn exists(status: u16, code: &str) -> bool {
    (status, code) == (409, "BlobAlreadyExists") || status == 412
}

#[cfg(test)]
mod tests {
    use super::*;
    use StoreErrorKind::Unreachable;
    use object_store::azure::AzureAccessKey;

    #[test]
    fn answers_map_to_kinds() {
        for (operation, status, code, kind) in [
            ("get", 404, "BlobNotFound", NotFound),
            ("get", 404, "", NotFound),
            ("get", 404, "ContainerNotFound", Denied),
            ("list", 404, "ContainerNotFound", Denied),
            ("list", 404, "ResourceNotFound", Denied),
            ("create", 404, "", Denied),
            ("create", 403, "AuthenticationFailed", Denied),
            ("create", 403, "AuthorizationPermissionMismatch", Denied),
            ("create", 401, "InvalidAuthenticationInfo", Denied),
            ("create", 400, "InvalidAuthenticationInfo", Denied),
            ("create", 409, "PublicAccessNotPermitted", Denied),
            ("create", 409, "ContainerBeingDeleted", Denied),
            ("delete", 409, "BlobImmutableDueToPolicy", Denied),
            ("get", 409, "BlobArchived", Denied),
            ("create", 409, "Other", Unreachable),
            ("create", 400, "InvalidBlockList", Unreachable),
            ("create", 400, "InvalidBlobOrBlock", Invalid),
            ("create", 400, "InvalidHeaderValue", Invalid),
            ("create", 307, "", Denied),
            ("create", 429, "", Unreachable),
            ("create", 500, "OperationTimedOut", Unreachable),
            ("create", 503, "ServerBusy", Unreachable),
        ] {
            assert_eq!(classify(operation, status, code, None, 0).0, kind, "{operation} {status} {code}");
        }
    }

    #[test]
    fn only_a_blob_that_is_there_exists() {
        for (status, code, there) in [
            (409, "BlobAlreadyExists", true),
            (412, "ConditionNotMet", true),
            (409, "ContainerBeingDeleted", false),
            (409, "", false),
            (201, "", false),
        ] {
            assert_eq!(exists(status, code), there, "{status} {code}");
        }
    }

    #[test]
    fn the_hint_is_about_the_credential_that_was_used() {
        let sas = |end: &str| {
            AzureCredential::SASToken(vec![
                ("se".to_owned(), end.to_owned()),
                ("sig".to_owned(), "hush".to_owned()),
            ])
        };
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new("aHVzaA==").unwrap());
        let token = AzureCredential::BearerToken("hush".to_owned());
        for (credential, code, skew, expected) in [
            (&key, "AuthenticationFailed", 0, "check account_key"),
            (&key, "AuthenticationFailed", 1000, "clock"),
            (&key, "KeyBasedAuthenticationNotPermitted", 0, "managed identity"),
            (
                &key,
                "AuthorizationFailure",
                0,
                "check account_key, and the account's name; or the storage account's network",
            ),
            (&sas("2020-01-01T00:00:00Z"), "AuthorizationFailure", 0, "has expired (2020-01-01T00:00:00Z)"),
            (&sas("2020-01-01T00:00:00Z"), "AuthenticationFailed", 0, "has expired (2020-01-01T00:00:00Z)"),
            (&sas("2099-01-01T00:00:00Z"), "AuthenticationFailed", 0, "check sas_token"),
            (&sas("2099-01-01"), "AuthorizationPermissionMismatch", 0, "sp grants"),
            (&token, "AuthorizationPermissionMismatch", 0, "Storage Blob Data Contributor"),
        ] {
            let (kind, hint) = classify("create", 403, code, Some(credential), skew);
            assert!(kind == Denied && hint.contains(expected) && !hint.contains("hush"), "{code}: {hint}");
        }
    }
}

//! Which credentials are used, and how a credentials file is read: pure. No error shows what is in the file.

use super::address::is_plain;
use crate::model::Secret;
use crate::store::StoreSettings;
use serde::Deserialize;
use std::path::PathBuf;

/// The metadata server's address; it has a name, too, but not every container can look names up.
const METADATA: &str = "169.254.169.254";
const TOKENS: &str = "https://oauth2.googleapis.com/token";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// An emulator asks for nothing.
    Anonymous,
    File(PathBuf),
    /// The machine's (or the pod's) service account.
    Metadata(String),
}

/// The configuration counts, also with an emulator; an emulator gets no other credentials. `exists`: whether
/// there is a file.
pub(super) fn source(settings: &StoreSettings, exists: impl Fn(&PathBuf) -> bool) -> Source {
    let gs = &settings.gs;
    let emulator = settings.endpoint.as_deref().is_some_and(is_plain);
    match (&gs.credentials_file, &gs.default_file, &gs.metadata_host) {
        (Some(file), ..) => Source::File(file.clone()),
        (None, _, None) if emulator => Source::Anonymous,
        (None, Some(file), _) if !emulator && exists(file) => Source::File(file.clone()),
        (None, _, host) => Source::Metadata(bare(host.as_deref().unwrap_or(METADATA))),
    }
}

/// Without what some write around it.
fn bare(host: &str) -> String {
    host.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// What a credentials file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// A service account with its own key.
    Service { email: String, key_id: Option<String>, key: Secret, token_url: String },
    /// A person, as `gcloud auth application-default login` writes it.
    User { id: String, secret: Secret, refresh: Secret, token_url: String },
}

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "type", default)]
    kind: String,
    client_email: Option<String>,
    private_key_id: Option<String>,
    private_key: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
    token_uri: Option<String>,
}

/// The error is the rest of a sentence about the file.
pub(super) fn account(text: &[u8]) -> Result<Account, String> {
    // Its own words could repeat what is in the file.
    let written: Written = serde_json::from_slice(text).map_err(|error| {
        format!("is no JSON of Google's (line {}); download a service account's key as JSON", error.line())
    })?;
    let token_url = written.token_uri.filter(|url| !url.is_empty()).unwrap_or_else(|| TOKENS.to_owned());
    let needed = |value: Option<String>, name: &str| {
        value
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("has no \"{name}\": download the key again"))
    };
    match written.kind.as_str() {
        "service_account" => Ok(Account::Service {
            email: needed(written.client_email, "client_email")?,
            key_id: written.private_key_id,
            key: Secret::new(needed(written.private_key, "private_key")?),
            token_url,
        }),
        "authorized_user" => Ok(Account::User {
            id: needed(written.client_id, "client_id")?,
            secret: Secret::new(needed(written.client_secret, "client_secret")?),
            refresh: Secret::new(needed(written.refresh_token, "refresh_token")?),
            token_url,
        }),
        "" => Err("has no \"type\": download a service account's key as JSON".to_owned()),
        other => Err(format!(
            "is of type \"{}\", which cannot be used here: give a service account's key \
             (\"service_account\"), \"authorized_user\", or run with the machine's own service account",
            other.chars().take(40).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Scheme;
    use crate::store::settings::GsSettings;

    #[test]
    fn what_is_configured_counts_and_an_emulator_asks_for_nothing() {
        let file = |name: &str| Source::File(name.into());
        let metadata = |host: &str| Source::Metadata(host.into());
        let (http, https) = (Some("http://fake:4443"), Some("https://restricted.googleapis.com"));
        for (given, default, there, host, endpoint, expected) in [
            (Some("key"), None, false, None, None, file("key")),
            (Some("key"), Some("adc"), true, Some("h"), None, file("key")),
            (Some("key"), None, false, None, http, file("key")),
            (None, Some("adc"), true, None, None, file("adc")),
            (None, Some("adc"), true, Some("h"), None, file("adc")),
            (None, Some("adc"), true, None, https, file("adc")),
            (None, Some("adc"), true, None, http, Source::Anonymous),
            (None, Some("adc"), true, Some("h:80"), http, metadata("h:80")),
            (None, Some("adc"), false, None, None, metadata(METADATA)),
            (None, None, false, Some("http://h:80/"), None, metadata("h:80")),
            (None, None, false, None, https, metadata(METADATA)),
            (None, None, false, None, http, Source::Anonymous),
        ] {
            let gs = GsSettings {
                credentials_file: given.map(Into::into),
                default_file: default.map(Into::into),
                metadata_host: host.map(str::to_owned),
            };
            let settings = StoreSettings::new(Scheme::Gs, "gs://b".into(), "b".into(), String::new());
            let settings = StoreSettings { gs, endpoint: endpoint.map(str::to_owned), ..settings };
            assert_eq!(
                source(&settings, |_| there),
                expected,
                "{given:?} {default:?} {there} {host:?} {endpoint:?}"
            );
        }
    }

    #[test]
    fn files_of_both_kinds_are_read() {
        let service =
            br#"{"type":"service_account","client_email":"a@b","private_key_id":"7","private_key":"PEM",
                           "token_uri":"https://t/token","more":1}"#;
        let expected = Account::Service {
            email: "a@b".into(),
            key_id: Some("7".into()),
            key: Secret::new("PEM"),
            token_url: "https://t/token".into(),
        };
        assert_eq!(account(service), Ok(expected));
        let user = br#"{"type":"authorized_user","client_id":"i","client_secret":"s","refresh_token":"r"}"#;
        let expected = Account::User {
            id: "i".into(),
            secret: Secret::new("s"),
            refresh: Secret::new("r"),
            token_url: TOKENS.into(),
        };
        assert_eq!(account(user), Ok(expected));
    }

    #[test]
    fn others_are_named_without_what_they_hold() {
        for (text, expected) in [
            (r#"{"type":"external_account","audience":"hunter2"}"#, "\"external_account\", which cannot"),
            (r#"{"type":"service_account","private_key":"hunter2"}"#, "no \"client_email\""),
            (r#"{"type":"service_account","client_email":"a","private_key":""}"#, "no \"private_key\""),
            (r#"{"private_key":"hunter2"}"#, "no \"type\""),
            (r#"{"type":"service_account","private_key":{"hunter2":1}}"#, "no JSON of Google's (line 1)"),
            ("hunter2", "no JSON of Google's"),
            ("", "no JSON of Google's"),
        ] {
            let message = account(text.as_bytes()).unwrap_err();
            assert!(message.contains(expected) && !message.contains("hunter2"), "{text}: {message}");
        }
    }
}

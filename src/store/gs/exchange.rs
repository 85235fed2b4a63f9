//! Gets a token: from the metadata server, or for the account in a credentials file. The file is read each
//! time, so that a replaced key is used.

use super::cause::explain_token;
use super::jwt;
use super::source::{Account, Source, account};
use crate::model::Secret;
use crate::store::StoreErrorKind;
use crate::store::failure::Failure;
use crate::store::http::{self, body, failed, with_hint};
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Before its end. A metadata server hands out the same token until shortly before that, then another.
const EARLY: Duration = Duration::from_secs(225);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub bearer: Secret,
    pub renew_at: Instant,
    pub expires_at: Instant,
}

impl Token {
    /// `life`: how long it is good from `now` on.
    pub(super) fn new(bearer: Secret, life: Duration, now: Instant) -> Token {
        // One that lives only shortly is used for half of its life.
        let use_for = life.saturating_sub(EARLY).max(life / 2);
        let at = |span| now.checked_add(span).unwrap_or(now);
        Token { bearer, renew_at: at(use_for), expires_at: at(life) }
    }
}

const NOWHERE: &str = "there are no other credentials: set credentials_file (or \
    GOOGLE_APPLICATION_CREDENTIALS), or run where the machine has a service account";
const NO_ACCOUNT: &str =
    "give the machine (or the pod) a service account that may use the bucket, or set credentials_file";
const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// A token is about 1 KiB.
const ANSWER: usize = 64 << 10;

pub(super) enum Exchange {
    /// Its client goes through no proxy: the server is on this machine.
    Metadata {
        host: String,
        client: reqwest::Client,
    },
    File {
        path: PathBuf,
        client: reqwest::Client,
    },
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

impl Exchange {
    /// `client`: for all but the metadata server. The error is a text for the user.
    pub(super) fn new(source: Source, client: &reqwest::Client) -> Result<Option<Exchange>, String> {
        Ok(match source {
            Source::Anonymous => None,
            Source::Metadata(host) => Some(Exchange::Metadata { host, client: http::local_client()? }),
            Source::File(path) => Some(Exchange::File { path, client: client.clone() }),
        })
    }

    pub(super) async fn token(&self) -> Result<Token, Failure> {
        match self {
            Exchange::Metadata { host, client } => from_metadata(host, client).await,
            Exchange::File { path, client } => from_file(path, client).await,
        }
    }
}

async fn from_metadata(host: &str, client: &reqwest::Client) -> Result<Token, Failure> {
    let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
    let named = |failure: Failure| failure.context(&format!("no token from the metadata server at {host}"));
    let asked = Instant::now();
    let reply = client.get(url).header("Metadata-Flavor", "Google").send().await;
    // The metadata server may start later than litevisor, so this may heal; but outside Google it never will.
    let reply = reply.map_err(|error| {
        named(Failure::new(failed(&error).kind, format!("it cannot be reached; {NOWHERE}")))
    })?;
    granted(reply, asked, NO_ACCOUNT).await.map_err(named)
}

async fn from_file(path: &Path, client: &reqwest::Client) -> Result<Token, Failure> {
    let unusable = |detail: String| {
        Failure::new(StoreErrorKind::Denied, format!("the credentials file {} {detail}", path.display()))
    };
    let file = path.to_owned();
    let text = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
    let text = text.map_err(|_| unusable("was not read to its end".to_owned()))?;
    let text = text.map_err(|error| unusable(format!("cannot be read: {error}")))?;
    let account = account(&text).map_err(unusable)?;
    let (url, form) = request(&account).map_err(unusable)?;
    let named = |failure: Failure| {
        failure.context(&format!("no token for the credentials file {} from {url}", path.display()))
    };
    let asked = Instant::now();
    let request = client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
    let reply = request.send().await.map_err(|error| named(failed(&error)))?;
    let hint = "check that the account and its key still exist, and this machine's clock";
    granted(reply, asked, hint).await.map_err(named)
}

/// Where to ask, and what to send there.
fn request(account: &Account) -> Result<(&str, String), String> {
    match account {
        Account::Service { email, key_id, key, token_url } => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let assertion = jwt::signed(email, key_id.as_deref(), key, token_url, now)?;
            Ok((token_url, form(&[("grant_type", JWT_GRANT), ("assertion", assertion.reveal())])))
        }
        Account::User { id, secret, refresh, token_url } => {
            let fields = [
                ("grant_type", "refresh_token"),
                ("client_id", id.as_str()),
                ("client_secret", secret.reveal()),
                ("refresh_token", refresh.reveal()),
            ];
            Ok((token_url, form(&fields)))
        }
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let escaped = super::address::escaped;
    fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
}

/// Its life counts from when it was asked for.
async fn granted(reply: reqwest::Response, asked: Instant, hint: &str) -> Result<Token, Failure> {
    let status = reply.status();
    let body = body(reply, ANSWER).await?;
    if !status.is_success() {
        return Err(explain_token(status.as_u16(), &body, hint));
    }
    // What was sent is not shown: it may be half a token.
    let Ok(Granted { access_token, expires_in }) = serde_json::from_slice(&body) else {
        return Err(Failure::invalid(with_hint("the answer holds no token".to_owned(), hint)));
    };
    let bearer = Secret::new(access_token);
    Ok(Token::new(bearer, Duration::from_secs(expires_in), asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_escaped() {
        assert_eq!(form(&[("a", "x y"), ("b", "1:/+=&")]), "a=x%20y&b=1%3A%2F%2B%3D%26");
    }

    #[test]
    fn a_person_asks_with_what_gcloud_kept() {
        let account = Account::User {
            id: "i".into(),
            secret: Secret::new("s"),
            refresh: Secret::new("r/1"),
            token_url: "https://t".into(),
        };
        let (url, form) = request(&account).unwrap();
        assert_eq!(url, "https://t");
        assert_eq!(form, "grant_type=refresh_token&client_id=i&client_secret=s&refresh_token=r%2F1");
    }

    #[test]
    fn a_key_that_is_none_is_not_shown() {
        let key = Secret::new("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n");
        let account =
            Account::Service { email: "a@b".into(), key_id: None, key, token_url: "https://t".into() };
        let message = request(&account).unwrap_err();
        assert!(message.contains("private key") && !message.contains("hunter2"), "{message}");
    }
}

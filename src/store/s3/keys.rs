//! Keys that change: of a role, of a profile, or in files that are replaced. They are renewed before they
//! expire, and at once when the store refuses them. If they cannot be renewed, the old keys are used as long
//! as they are valid.

use super::key_source_reply::LastReply;
use crate::model::Secret;
use crate::store::S3Settings;
use crate::store::chain::chain;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{
    ProvideCredentials, Result as Provided, SharedCredentialsProvider, future,
};
use aws_sdk_s3::config::Credentials;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// AWS renews a role's keys this long before the old ones end, at the latest.
const BEFORE_THE_END: Duration = Duration::from_secs(300);
/// Files are looked at again after this long, at the next request.
const FILES_LAST: Duration = Duration::from_secs(10);
/// At least so long between two attempts.
const BETWEEN: Duration = Duration::from_secs(2);
/// A token service, or the metadata of a machine that has none.
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    No,
    /// The old ones serve if there are no new ones.
    Soon,
    Now,
}

/// Whether to ask for new keys. `asked`: when that was done last.
fn due(now: SystemTime, asked: SystemTime, expiry: Option<SystemTime>, refused: bool, files: bool) -> Due {
    let since = now.duration_since(asked).unwrap_or_default();
    if expiry.is_some_and(|expiry| expiry <= now) {
        return Due::Now;
    }
    if since < BETWEEN {
        return Due::No;
    }
    let ending = expiry.is_some_and(|expiry| {
        let life = expiry.duration_since(asked).unwrap_or_default();
        // Of keys that live for minutes only, the second half.
        let early = BEFORE_THE_END.min(life / 2);
        now.checked_add(early).is_none_or(|soon| soon >= expiry)
    });
    if refused || ending || files && since >= FILES_LAST { Due::Soon } else { Due::No }
}

pub(super) type Loading = Pin<Box<dyn Future<Output = SharedCredentialsProvider> + Send>>;

pub(super) enum Source {
    Files(Files),
    Chain {
        /// Makes the SDK's chain: an existing chain does not read profile files again.
        make: Box<dyn Fn() -> Loading + Send + Sync>,
        /// The last reply of the services that the chain asks.
        last_reply: Arc<LastReply>,
    },
}

/// Keys of which one at least is in a file that may be replaced.
#[derive(Clone)]
pub(super) struct Files {
    id: Part,
    secret: Part,
    token: Option<Part>,
}

#[derive(Clone)]
enum Part {
    Given(Secret),
    In(PathBuf),
}

impl Files {
    /// None when no file was named.
    pub(super) fn of(settings: &S3Settings) -> Option<Files> {
        let files = &settings.key_files;
        let part = |file: &Option<PathBuf>, given: Option<&Secret>| {
            file.clone().map(Part::In).or_else(|| given.cloned().map(Part::Given))
        };
        let any = [&files.access_key_id, &files.secret_access_key, &files.session_token];
        any.iter().find(|file| file.is_some())?;
        let id = settings.access_key_id.as_deref().map(Secret::new);
        Some(Files {
            id: part(&files.access_key_id, id.as_ref())?,
            secret: part(&files.secret_access_key, settings.secret_access_key.as_ref())?,
            token: part(&files.session_token, settings.session_token.as_ref()),
        })
    }
}

impl Part {
    fn read(&self) -> Result<String, String> {
        match self {
            Part::Given(secret) => Ok(secret.reveal().to_owned()),
            Part::In(file) => line(file),
        }
    }
}

pub(super) struct Keys {
    source: Source,
    held: tokio::sync::Mutex<Option<Held>>,
    refused: Arc<AtomicBool>,
}

struct Held {
    keys: Credentials,
    asked: SystemTime,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(***)")
    }
}

impl Keys {
    /// `refused` is set when the store refuses the keys.
    pub(super) fn new(source: Source, refused: Arc<AtomicBool>) -> Keys {
        Keys { source, held: tokio::sync::Mutex::default(), refused }
    }

    /// One at a time: all requests wait for the same new keys.
    async fn current(&self) -> Provided {
        let mut held = self.held.lock().await;
        let now = SystemTime::now();
        let Some(old) = held.as_mut() else {
            let keys = self.load().await?;
            *held = Some(Held { keys: keys.clone(), asked: now });
            return Ok(keys);
        };
        let refused = self.refused.load(Ordering::Relaxed);
        let files = matches!(self.source, Source::Files(_));
        let due = due(now, old.asked, old.keys.expiry(), refused, files);
        if due == Due::No {
            return Ok(old.keys.clone());
        }
        self.refused.store(false, Ordering::Relaxed);
        old.asked = now;
        match self.load().await {
            Ok(new) => old.keys = new,
            Err(error) if due == Due::Now => return Err(error),
            Err(error) => {
                tracing::warn!(
                    "cannot renew the keys of the store; the old ones serve as long as they last: {}",
                    chain(&error)
                )
            }
        }
        Ok(old.keys.clone())
    }

    async fn load(&self) -> Provided {
        let loading = async {
            match &self.source {
                Source::Files(files) => read(files.clone()).await,
                Source::Chain { make, last_reply } => {
                    last_reply.forget();
                    make().await.provide_credentials().await
                }
            }
        };
        let timed_out = |_| CredentialsError::provider_timed_out(LONGEST);
        let loaded = tokio::time::timeout(LONGEST, loading).await.map_err(timed_out)?;
        loaded.map_err(|error| match &self.source {
            Source::Chain { last_reply, .. } => match last_reply.no_keys() {
                Some(no_keys) => CredentialsError::provider_error(no_keys),
                None => error,
            },
            Source::Files(_) => error,
        })
    }
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

async fn read(files: Files) -> Provided {
    let reading = tokio::task::spawn_blocking(move || {
        let id = files.id.read()?;
        let secret = files.secret.read()?;
        let token = files.token.as_ref().map(Part::read).transpose()?;
        Ok(Credentials::new(id, secret, token, None, "litevisor's key files"))
    });
    reading
        .await
        .map_err(CredentialsError::unhandled)?
        .map_err(|error: String| CredentialsError::invalid_configuration(error))
}

/// The content of a file of one line. The error names the file, never its content.
fn line(file: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{} is empty", file.display())),
        line => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_renewed_in_time_and_not_too_often() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        for (now, asked, expiry, refused, files, expected) in [
            // An hour's keys.
            (10, 0, Some(3600), false, false, Due::No),
            (3299, 0, Some(3600), false, false, Due::No),
            (3300, 0, Some(3600), false, false, Due::Soon),
            (3600, 0, Some(3600), false, false, Due::Now),
            (9999, 9998, Some(3600), false, false, Due::Now),
            // After a failed renewal.
            (3301, 3300, Some(3600), false, false, Due::No),
            (3302, 3300, Some(3600), false, false, Due::No),
            (3450, 3300, Some(3600), false, false, Due::Soon),
            // Short ones.
            (20, 0, Some(60), false, false, Due::No),
            (30, 0, Some(60), false, false, Due::Soon),
            // Refused by the store.
            (1, 0, None, true, false, Due::No),
            (2, 0, None, true, false, Due::Soon),
            (2, 0, Some(3600), true, false, Due::Soon),
            // Without an end.
            (99_999, 0, None, false, false, Due::No),
            (9, 0, None, false, true, Due::No),
            (10, 0, None, false, true, Due::Soon),
            // The clock was set back.
            (0, 500, Some(3600), false, false, Due::No),
        ] {
            let due = due(at(now), at(asked), expiry.map(at), refused, files);
            assert_eq!(
                due, expected,
                "now {now}, asked {asked}, expiry {expiry:?}, refused {refused}, files {files}"
            );
        }
    }

    #[test]
    fn a_key_file_is_one_line_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        for (text, expected) in
            [("abc\n", Ok("abc")), ("abc", Ok("abc")), ("abc\r\n", Ok("abc")), ("\n", Err("is empty"))]
        {
            std::fs::write(&file, text).unwrap();
            match (line(&file), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(message), Err(part)) => {
                    assert!(message.contains(part) && message.contains("key"), "{message}")
                }
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
        assert!(line(&directory.path().join("none")).unwrap_err().contains("none"));
    }
}

//! Whether the store keeps a create from overwriting. In: the outcomes of two conditional puts of a probe object. Out: what
//! it makes of the condition. Never: probes a provider that is known, or leaves the probe behind where it may delete.

use super::service::Service;
use super::{CREATE, S3Store, cause};
use crate::store::{StoreError, StoreErrorKind};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use bytes::Bytes;

/// Right under the root, where nobody looks for LTX files, and with the ending that our own listings leave out. The same
/// name each time: what a killed run left is found, and removed, by the next one.
const PROBE: &str = ".litevisor-probe.tmp";
/// Another writer that probes just now may take our first object away before our second comes; hardly three times.
const ROUNDS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conditions {
    Honoured,
    /// Taken, and not looked at.
    Ignored,
    /// Answered with an error.
    Refused,
}

/// What came of one conditional put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Exists,
    Refused,
}

/// One round. None: it looks ignored, but another writer may have been in between.
fn verdict(first: Outcome, second: Option<Outcome>) -> Option<Conditions> {
    match (first, second) {
        (Outcome::Exists, _) | (_, Some(Outcome::Exists)) => Some(Conditions::Honoured),
        (Outcome::Refused, _) | (_, Some(Outcome::Refused)) => Some(Conditions::Refused),
        (Outcome::Created, _) => None,
    }
}

impl S3Store {
    /// Known of the provider, or found out at the first create and kept for all databases of the service.
    pub(super) async fn conditions(&self, service: &Service) -> Result<Conditions, StoreError> {
        if service.rules.honours {
            return Ok(Conditions::Honoured);
        }
        service.conditions.get_or_try_init(|| self.probe(service)).await.copied()
    }

    async fn probe(&self, service: &Service) -> Result<Conditions, StoreError> {
        let mut found = None;
        for _ in 0..ROUNDS {
            let first = self.try_probe(service).await?;
            let second = match first {
                Outcome::Created => Some(self.try_probe(service).await?),
                _ => None,
            };
            self.remove_probe(service).await;
            found = verdict(first, second);
            if found.is_some() {
                break;
            }
        }
        let found = found.unwrap_or(Conditions::Ignored);
        self.tell(found);
        Ok(found)
    }

    async fn try_probe(&self, service: &Service) -> Result<Outcome, StoreError> {
        let put = || self.put_request(service, format!("{}{PROBE}", self.root), Bytes::from_static(b"litevisor"));
        let error = match put().if_none_match("*").send().await {
            Ok(_) => return Ok(Outcome::Created),
            Err(error) if exists(&error) => return Ok(Outcome::Exists),
            Err(error) => error,
        };
        let told = self.explain(CREATE, PROBE, &error);
        // Something in it is not supported. If it goes without the condition, it was that.
        if told.kind == StoreErrorKind::Invalid && put().send().await.is_ok() {
            return Ok(Outcome::Refused);
        }
        Err(told)
    }

    async fn remove_probe(&self, service: &Service) {
        let key = format!("{}{PROBE}", self.root);
        if let Err(error) = service.client.delete_object().bucket(&self.settings.bucket).key(key).send().await {
            let error = self.explain("delete", PROBE, &error);
            tracing::debug!(replica = %self.url, %error, "the probe object stays: {PROBE}");
        }
    }

    fn tell(&self, found: Conditions) {
        let what = match found {
            Conditions::Honoured => return,
            Conditions::Ignored => "ignores",
            Conditions::Refused => "refuses",
        };
        tracing::warn!(
            replica = %self.url,
            "this store {what} conditional writes (If-None-Match). litevisor looks before and after each write instead, but \
             two instances that write to the same replica at the same moment cannot be told apart for certain: make sure \
             that there is only one (in Kubernetes: one replica, strategy Recreate)"
        );
    }
}

/// The condition was not met.
pub(super) fn exists<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    cause::status(error) == Some(412)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_puts_tell() {
        use Outcome::*;
        for (first, second, expected) in [
            (Created, Some(Exists), Some(Conditions::Honoured)),
            // Left over by a killed run: it was found, so the condition counts.
            (Exists, None, Some(Conditions::Honoured)),
            (Refused, None, Some(Conditions::Refused)),
            (Created, Some(Refused), Some(Conditions::Refused)),
            (Created, Some(Created), None),
        ] {
            assert_eq!(verdict(first, second), expected, "{first:?} {second:?}");
        }
    }

    #[test]
    fn the_probe_is_no_object_of_ours() {
        assert!(!crate::store::key::is_object(PROBE));
        assert_eq!(crate::store::layout::Layout::S3.parse(PROBE), None);
    }
}

//! What the store makes of a create's condition (`If-None-Match: *`): known of some providers, else found out
//! by two conditional puts of a probe object, which is then deleted.

use super::service::{Conditions, Service};
use super::{CREATE, S3, cause, stored};
use crate::store::StoreErrorKind;
use crate::store::failure::Failure;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use bytes::Bytes;

/// Right under the root, where no reader looks for LTX files, and with the ending that our own listings skip.
/// The name is the same each time, so that the next run finds and deletes the probe of a run that was killed.
const PROBE: &str = ".litevisor-probe.tmp";
/// Another writer that probes at the same time may delete our first object before our second put; hardly
/// three times.
const ROUNDS: u32 = 3;

/// The result of one conditional put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Exists,
    Refused,
}

/// The result of one round. None: the condition seems to be ignored, but another writer may have deleted the
/// probe.
fn conclude(first: Outcome, second: Option<Outcome>) -> Option<Conditions> {
    match (first, second) {
        (Outcome::Exists, _) | (_, Some(Outcome::Exists)) => Some(Conditions::Honoured),
        (Outcome::Refused, _) | (_, Some(Outcome::Refused)) => Some(Conditions::Refused),
        (Outcome::Created, _) => None,
    }
}

impl S3 {
    /// Known of the provider, or found out at the first create and kept for all databases of the service.
    pub(super) async fn conditions(&self, service: &Service) -> Result<Conditions, Failure> {
        if service.rules.honours {
            return Ok(Conditions::Honoured);
        }
        service.conditions.get_or_try_init(|| self.probe(service)).await.copied()
    }

    async fn probe(&self, service: &Service) -> Result<Conditions, Failure> {
        let mut conditions = None;
        for _ in 0..ROUNDS {
            let first = self.try_probe(service).await?;
            let second = match first {
                Outcome::Created => Some(self.try_probe(service).await?),
                _ => None,
            };
            self.remove_probe(service).await;
            conditions = conclude(first, second);
            if conditions.is_some() {
                break;
            }
        }
        let conditions = conditions.unwrap_or(Conditions::Ignored);
        self.warn(conditions);
        Ok(conditions)
    }

    async fn try_probe(&self, service: &Service) -> Result<Outcome, Failure> {
        let name = format!("{}{PROBE}", self.root);
        let put = || self.put_request(service, &name, Bytes::from_static(b"litevisor"));
        let error = match put().if_none_match("*").send().await {
            Ok(reply) => return stored(reply.e_tag()).map(|_| Outcome::Created),
            Err(error) if exists(&error) => return Ok(Outcome::Exists),
            Err(error) => error,
        };
        let failure = self.explain(CREATE, &error);
        // The store does not support something in the request. If it takes the same without the condition, it
        // is the condition.
        if failure.kind == StoreErrorKind::Invalid && put().send().await.is_ok() {
            return Ok(Outcome::Refused);
        }
        Err(failure)
    }

    async fn remove_probe(&self, service: &Service) {
        let name = format!("{}{PROBE}", self.root);
        if let Err(error) =
            service.client.delete_object().bucket(&self.settings.bucket).key(&name).send().await
        {
            let error = self.explain("delete", &error).detail;
            tracing::debug!(
                replica = self.settings.url,
                object = name,
                error,
                "cannot delete the probe object"
            );
        }
    }

    fn warn(&self, conditions: Conditions) {
        let what = match conditions {
            Conditions::Honoured => return,
            Conditions::Ignored => "ignores",
            Conditions::Refused => "refuses",
        };
        tracing::warn!(
            replica = self.settings.url,
            "this store {what} conditional writes (If-None-Match). litevisor looks before and after each \
             write instead, but two instances that write to the same replica at the same moment cannot be \
             told apart for certain: make sure that there is only one (in Kubernetes: one replica, strategy \
             Recreate)"
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
    fn two_puts_show_what_the_store_does() {
        use Outcome::*;
        for (first, second, expected) in [
            (Created, Some(Exists), Some(Conditions::Honoured)),
            // Left over by a killed run: it was found, so the condition counts.
            (Exists, None, Some(Conditions::Honoured)),
            (Refused, None, Some(Conditions::Refused)),
            (Created, Some(Refused), Some(Conditions::Refused)),
            (Created, Some(Created), None),
        ] {
            assert_eq!(conclude(first, second), expected, "{first:?} {second:?}");
        }
    }

    #[test]
    fn the_probe_is_no_object_of_ours() {
        assert!(!crate::store::key::is_object(PROBE));
        assert_eq!(crate::store::layout::Layout::S3.parse(PROBE), None);
    }
}

//! Deletions: many in one request where the store knows that, else one by one, a few at a time. Never: minds objects that are
//! not there.

use super::service::Service;
use super::{S3Store, cause};
use crate::store::chain::chain;
use crate::store::{StoreError, StoreErrorKind};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use md5::{Digest, Md5};
use std::sync::atomic::Ordering;

const OPERATION: &str = "delete in";
/// S3's limit for one DeleteObjects request.
const BATCH: usize = 1000;
/// Deletions of one object each, at once.
const AT_ONCE: usize = 8;

impl S3Store {
    pub(super) async fn remove(&self, keys: &[String]) -> Result<(), StoreError> {
        let service = self.service().await?;
        let keys: Vec<String> = keys.iter().map(|key| self.full("delete", key)).collect::<Result<_, _>>()?;
        for batch in keys.chunks(BATCH) {
            if service.one_by_one.load(Ordering::Relaxed) {
                self.remove_one_by_one(service, batch).await?;
                continue;
            }
            match self.remove_together(service, batch).await {
                // A store without that request.
                Err(error) if error.kind == StoreErrorKind::Invalid => {
                    self.remove_one_by_one(service, batch).await.map_err(|_| error)?;
                    service.one_by_one.store(true, Ordering::Relaxed);
                }
                done => done?,
            }
        }
        Ok(())
    }

    async fn remove_together(&self, service: &Service, keys: &[String]) -> Result<(), StoreError> {
        let mut delete = Delete::builder().quiet(true);
        for key in keys {
            let id = ObjectIdentifier::builder().key(key).build();
            delete = delete.objects(id.map_err(|error| self.not_deleted(chain(&error)))?);
        }
        let delete = delete.build().map_err(|error| self.not_deleted(chain(&error)))?;
        let request = service.client.delete_objects().bucket(&self.settings.bucket).delete(delete).customize();
        let takes_md5 = service.rules.takes_md5;
        // Stores that do not know the newer checksums insist on this one.
        let request = request.mutate_request(move |request| {
            let body = request.body().bytes().filter(|_| takes_md5);
            if let Some(md5) = body.map(|body| aws_smithy_types::base64::encode(Md5::digest(body))) {
                request.headers_mut().insert("content-md5", md5);
            }
        });
        let reply = request
            .send()
            .await
            .map_err(|error| cause::explain(OPERATION, &self.url, self.settings.endpoint.as_deref(), &error))?;
        match reply.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
            Some(error) => Err(self.refused_deletion(error)),
            None => Ok(()),
        }
    }

    /// All are tried; the first that failed is told.
    async fn remove_one_by_one(&self, service: &Service, keys: &[String]) -> Result<(), StoreError> {
        let mut tasks = tokio::task::JoinSet::new();
        let mut failed = None;
        for key in keys {
            if tasks.len() >= AT_ONCE {
                failed = failed.or(outcome(tasks.join_next().await));
            }
            let request = service.client.delete_object().bucket(&self.settings.bucket).key(key);
            let (url, endpoint) =
                (self.subject(key.strip_prefix(&self.root).unwrap_or(key)), self.settings.endpoint.clone());
            tasks.spawn(async move {
                match request.send().await {
                    Ok(_) => None,
                    Err(error) if cause::status(&error) == Some(404) => {
                        let error = cause::explain("get", &url, endpoint.as_deref(), &error);
                        (error.kind != StoreErrorKind::NotFound).then_some(error)
                    }
                    Err(error) => Some(cause::explain("delete", &url, endpoint.as_deref(), &error)),
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            failed = failed.or(outcome(Some(done)));
        }
        failed.map_or(Ok(()), Err)
    }

    fn not_deleted(&self, detail: String) -> StoreError {
        StoreError::new(StoreErrorKind::Invalid, OPERATION, self.url.as_str(), detail)
    }

    /// The request went through, but one key of it did not; there is no status for that, only a code.
    fn refused_deletion(&self, error: &aws_sdk_s3::types::Error) -> StoreError {
        let code = error.code().unwrap_or_default();
        let status = if code == "AccessDenied" { 403 } else { 503 };
        let (kind, hint) = cause::classify(OPERATION, status, code);
        let key = error.key().and_then(|key| key.strip_prefix(&self.root)).unwrap_or_default();
        let detail = format!("{code} {}; {hint}", error.message().unwrap_or_default());
        StoreError::new(kind, "delete", self.subject(key), detail.trim_end_matches("; ").to_owned())
    }
}

/// A task that was broken off goes with its caller.
fn outcome(done: Option<Result<Option<StoreError>, tokio::task::JoinError>>) -> Option<StoreError> {
    done.and_then(Result::ok).flatten()
}

//! Deletes many objects by one request, or one by one where the store does not know that request.

use super::service::Service;
use super::{S3, cause};
use crate::store::StoreErrorKind;
use crate::store::chain::chain;
use crate::store::failure::Failure;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures_util::stream::{FuturesUnordered, StreamExt};
use md5::{Digest, Md5};
use std::sync::atomic::Ordering;

const OPERATION: &str = "delete in";
/// Deletions of one object each, at once.
const AT_ONCE: usize = 8;

impl S3 {
    pub(super) async fn delete_batch(&self, service: &Service, names: &[String]) -> Result<(), Failure> {
        if service.one_by_one.load(Ordering::Relaxed) {
            return self.delete_one_by_one(service, names).await;
        }
        match self.delete_together(service, names).await {
            // A store without that request.
            Err(failure) if failure.kind == StoreErrorKind::Invalid => {
                self.delete_one_by_one(service, names).await.map_err(|_| failure)?;
                service.one_by_one.store(true, Ordering::Relaxed);
                Ok(())
            }
            done => done,
        }
    }

    async fn delete_together(&self, service: &Service, names: &[String]) -> Result<(), Failure> {
        let mut delete = Delete::builder().quiet(true);
        for name in names {
            let id = ObjectIdentifier::builder().key(name).build();
            delete = delete.objects(id.map_err(|error| Failure::invalid(chain(&error)))?);
        }
        let delete = delete.build().map_err(|error| Failure::invalid(chain(&error)))?;
        let request =
            service.client.delete_objects().bucket(&self.settings.bucket).delete(delete).customize();
        let takes_md5 = service.rules.takes_md5;
        // Stores that do not know the newer checksums insist on this one.
        let request = request.mutate_request(move |request| {
            let body = request.body().bytes().filter(|_| takes_md5);
            if let Some(md5) = body.map(|body| aws_smithy_types::base64::encode(Md5::digest(body))) {
                request.headers_mut().insert("content-md5", md5);
            }
        });
        let reply = request.send().await.map_err(|error| self.explain(OPERATION, &error))?;
        match reply.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
            Some(error) => Err(refused(error)),
            None => Ok(()),
        }
    }

    /// Tries all; returns the first failure.
    async fn delete_one_by_one(&self, service: &Service, names: &[String]) -> Result<(), Failure> {
        let mut names = names.iter();
        let mut deleting = FuturesUnordered::new();
        let mut result = Ok(());
        loop {
            while deleting.len() < AT_ONCE
                && let Some(name) = names.next()
            {
                deleting.push(self.delete_one(service, name));
            }
            let Some(deleted) = deleting.next().await else { return result };
            result = result.and(deleted);
        }
    }

    async fn delete_one(&self, service: &Service, name: &str) -> Result<(), Failure> {
        let request = service.client.delete_object().bucket(&self.settings.bucket).key(name);
        let failure = match request.send().await {
            Ok(_) => return Ok(()),
            Err(error) if cause::status(&error) == Some(404) => match self.explain("get", &error) {
                failure if failure.kind == StoreErrorKind::NotFound => return Ok(()),
                failure => failure,
            },
            Err(error) => self.explain("delete", &error),
        };
        Err(failure.deleting(name))
    }
}

/// The request went through, but one object was not deleted; there is no status for that, only a code.
fn refused(error: &aws_sdk_s3::types::Error) -> Failure {
    let code = error.code().unwrap_or_default();
    let status = if code == "AccessDenied" { 403 } else { 503 };
    let (kind, hint) = cause::classify(OPERATION, status, code);
    let detail = format!("{code} {}; {hint}", error.message().unwrap_or_default());
    Failure::new(kind, detail.trim_end_matches("; ")).deleting(error.key().unwrap_or_default())
}

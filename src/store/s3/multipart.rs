//! One multipart upload, from its creation to a conditional completion. An upload that is not completed is
//! aborted, whatever ends it: an error, the deadline, or a caller that drops the call.

use super::conditions::exists;
use super::service::Conditions;
use super::service::Service;
use super::{CREATE, S3, cause, stored};
use crate::model::Deadline;
use crate::store::failure::Failure;
use crate::store::limit::{SHORT_TRY, part_try, repeat};
use crate::store::parts::{Parts, send_all};
use crate::store::{Put, timestamp};
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use std::time::Duration;

/// S3's limit.
const MAX_PARTS: (usize, &str) = (10_000, "more than 10000 parts: raise part_size");
const ABORT: Duration = Duration::from_secs(10);

pub(super) struct Target<'a> {
    pub(super) dialect: &'a S3,
    pub(super) service: &'a Service,
    pub(super) conditions: Conditions,
    pub(super) name: String,
}

impl Target<'_> {
    pub(super) async fn upload(
        &self,
        parts: (Bytes, Parts),
        timestamp: String,
        by: Deadline,
    ) -> Result<Put, Failure> {
        let id = repeat(by, SHORT_TRY, || self.start(&timestamp)).await?;
        let mut open = OpenUpload {
            client: self.service.client.clone(),
            bucket: self.dialect.settings.bucket.clone(),
            name: self.name.clone(),
            id: Some(id.clone()),
        };
        // Parts are numbered from 1.
        let send = |number, body| self.send(&id, i32::try_from(number + 1).unwrap_or(i32::MAX), body, by);
        let result = match send_all(parts, self.dialect.concurrency, MAX_PARTS, send).await {
            Ok(parts) => self.complete(&id, parts, by).await,
            Err(failure) => Err(failure),
        };
        match result {
            Ok(Put::Created) => {
                open.id = None;
                self.dialect.sweep(self.service);
            }
            // A refused completion leaves the upload open too.
            _ => open.abort().await,
        }
        result
    }

    async fn start(&self, timestamp: &str) -> Result<String, Failure> {
        let client = &self.service.client;
        let request = client.create_multipart_upload().bucket(&self.dialect.settings.bucket).key(&self.name);
        let request =
            request.set_storage_class(self.dialect.storage_class()).metadata(timestamp::NAME, timestamp);
        let reply = self.dialect.encryption.starting(request).send().await;
        let reply = reply.map_err(|error| self.dialect.explain(CREATE, &error))?;
        let id = reply.upload_id().filter(|id| !id.is_empty());
        id.map(str::to_owned).ok_or_else(|| Failure::suspicious("the reply names no upload"))
    }

    /// A stream cannot be replayed, so a part is repeated for as long as the deadline allows.
    async fn send(&self, id: &str, number: i32, body: Bytes, by: Deadline) -> Result<CompletedPart, Failure> {
        let once = || async {
            let request =
                self.service.client.upload_part().bucket(&self.dialect.settings.bucket).key(&self.name);
            let request = request.upload_id(id).part_number(number).body(ByteStream::from(body.clone()));
            let reply = self.dialect.encryption.sending(request).send().await;
            let reply = reply.map_err(|error| self.dialect.explain(CREATE, &error))?;
            Ok(CompletedPart::builder().part_number(number).e_tag(stored(reply.e_tag())?).build())
        };
        repeat(by, part_try(body.len()), once).await
    }

    async fn complete(&self, id: &str, parts: Vec<CompletedPart>, by: Deadline) -> Result<Put, Failure> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        repeat(by, SHORT_TRY, || self.complete_once(id, parts.clone())).await?
    }

    /// The outer error is worth another try of this, the inner one is not.
    async fn complete_once(
        &self,
        id: &str,
        parts: CompletedMultipartUpload,
    ) -> Result<Result<Put, Failure>, Failure> {
        let dialect = self.dialect;
        let service = self.service;
        // A store that honours the condition of a put may still not know it here.
        if !service.rules.honours_in_parts && dialect.etag_of(service, &self.name).await?.is_some() {
            return Ok(Ok(Put::Exists));
        }
        let request =
            service.client.complete_multipart_upload().bucket(&dialect.settings.bucket).key(&self.name);
        let request =
            request.upload_id(id).multipart_upload(parts).set_if_none_match(self.conditions.header());
        match dialect.encryption.completing(request).send().await {
            Ok(reply) => Ok(dialect.is_ours(service, self.conditions, &self.name, reply.e_tag()).await),
            Err(error) if exists(&error) => Ok(Ok(Put::Exists)),
            // Gone (an earlier try went through, or the upload was aborted) or in conflict with another
            // writer: only a new upload shows which.
            Err(error) if matches!(cause::status(&error), Some(404 | 409)) => {
                Ok(Err(dialect.explain(CREATE, &error)))
            }
            Err(error) => Err(dialect.explain(CREATE, &error)),
        }
    }
}

/// An upload that is not completed.
struct OpenUpload {
    client: Client,
    bucket: String,
    name: String,
    id: Option<String>,
}

impl OpenUpload {
    /// If this fails, too, the store's own rules clean up.
    async fn abort(mut self) {
        let Some(id) = self.id.clone() else { return };
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.name).upload_id(id);
        // `id` is cleared only afterwards: if the deadline ends this, `drop` aborts the upload.
        let _ = request.send().await;
        self.id = None;
    }
}

impl Drop for OpenUpload {
    /// The call was dropped: a task of its own aborts the upload.
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.name).upload_id(id);
        runtime.spawn(tokio::time::timeout(ABORT, request.send()));
    }
}

//! One multipart upload, from creation to a conditional completion. In: parts. Out: the object, or nothing at all. Never:
//! leaves the upload open: whatever ends the work, also a caller that stops waiting, aborts it.

use super::conditions::{Conditions, exists};
use super::service::Service;
use super::{CREATE, S3Store, cause};
use crate::model::Deadline;
use crate::store::{Put, StoreError, StoreErrorKind, limit::within, retry};
use crate::store::{parts::Parts, stamp};
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// S3's limit.
const MAX_PARTS: i32 = 10_000;
/// A part that moves slower than this is tried again on a new connection.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
const SHORT_TRY: Duration = Duration::from_secs(30);
const ABORT: Duration = Duration::from_secs(10);

type PartFuture<'a> = Pin<Box<dyn Future<Output = Result<CompletedPart, StoreError>> + Send + 'a>>;

pub(super) struct Target<'a> {
    pub(super) store: &'a S3Store,
    pub(super) service: &'a Service,
    pub(super) conditions: Conditions,
    pub(super) key: String,
    pub(super) subject: String,
}

impl Target<'_> {
    pub(super) async fn upload(
        &self,
        first: Bytes,
        source: Parts,
        stamp: String,
        by: Deadline,
    ) -> Result<Put, StoreError> {
        let id =
            retry::run(by, SHORT_TRY, |_, _| {}, |by| within(by, CREATE, &self.subject, self.start(&stamp))).await?;
        let mut open = OpenUpload {
            client: self.service.client.clone(),
            bucket: self.store.settings.bucket.clone(),
            key: self.key.clone(),
            id: Some(id.clone()),
        };
        let result = match self.send_all(&id, first, source, by).await {
            Ok(parts) => self.complete(&id, parts, by).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(Put::Created) => {
                open.id = None;
                self.store.sweep(self.service);
            }
            // A refused completion leaves the upload open too.
            _ => open.abort().await,
        }
        result
    }

    async fn start(&self, stamp: &str) -> Result<String, StoreError> {
        let request = self.service.client.create_multipart_upload().bucket(&self.store.settings.bucket).key(&self.key);
        let request = request.set_storage_class(self.store.storage_class()).metadata(stamp::NAME, stamp);
        let reply = self.store.encryption.starting(request).send().await.map_err(|error| self.explain(&error))?;
        let missing = || StoreError::new(StoreErrorKind::Invalid, CREATE, &self.subject, "the reply names no upload");
        reply.upload_id().map(str::to_owned).ok_or_else(missing)
    }

    /// Sends the parts, a few at a time; the next one is cut only when there is room for it.
    async fn send_all(
        &self,
        id: &str,
        first: Bytes,
        mut source: Parts,
        by: Deadline,
    ) -> Result<Vec<CompletedPart>, StoreError> {
        let mut under_way: Vec<PartFuture<'_>> = Vec::new();
        let mut done = Vec::new();
        let mut part = Some(first);
        for number in 1.. {
            let Some(body) = part else { break };
            if number > MAX_PARTS {
                return Err(self.invalid("more than 10000 parts: raise part_size"));
            }
            if under_way.len() >= self.store.concurrency {
                done.push(first_of(&mut under_way).await?);
            }
            under_way.push(Box::pin(self.send(id, number, body, by)));
            // The parts under way go on while the producer makes the next one.
            part = self.next_part(&mut source, &mut under_way, &mut done).await?;
        }
        while !under_way.is_empty() {
            done.push(first_of(&mut under_way).await?);
        }
        done.sort_by_key(CompletedPart::part_number);
        Ok(done)
    }

    async fn next_part(
        &self,
        source: &mut Parts,
        under_way: &mut Vec<PartFuture<'_>>,
        done: &mut Vec<CompletedPart>,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut next = std::pin::pin!(source.next());
        loop {
            tokio::select! {
                biased;
                sent = first_of(under_way), if !under_way.is_empty() => done.push(sent?),
                part = &mut next => return part.map_err(|detail| self.invalid(detail)),
            }
        }
    }

    /// A stream cannot be replayed, so a part is repeated for as long as the deadline allows.
    async fn send(&self, id: &str, number: i32, body: Bytes, by: Deadline) -> Result<CompletedPart, StoreError> {
        let slowest = Duration::from_secs(body.len() as u64 / SLOWEST_BYTES_PER_SECOND).max(SHORT_TRY);
        retry::run(by, slowest, |_, _| {}, |by| self.send_once(id, number, body.clone(), by)).await
    }

    async fn send_once(&self, id: &str, number: i32, body: Bytes, by: Deadline) -> Result<CompletedPart, StoreError> {
        let request = self.service.client.upload_part().bucket(&self.store.settings.bucket).key(&self.key);
        let request = request.upload_id(id).part_number(number).body(ByteStream::from(body));
        let request = self.store.encryption.sending(request);
        within(by, CREATE, &self.subject, async {
            let reply = request.send().await.map_err(|error| self.explain(&error))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(reply.e_tag).build())
        })
        .await
    }

    async fn complete(&self, id: &str, parts: Vec<CompletedPart>, by: Deadline) -> Result<Put, StoreError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let once = |by| within(by, CREATE, &self.subject, self.complete_once(id, parts.clone()));
        retry::run(by, SHORT_TRY, |_, _| {}, once).await?
    }

    /// The outer error is worth another try of this, the inner one is not.
    async fn complete_once(
        &self,
        id: &str,
        parts: CompletedMultipartUpload,
    ) -> Result<Result<Put, StoreError>, StoreError> {
        let (store, service) = (self.store, self.service);
        // Who honours the condition of a put may still not know it here.
        if !service.rules.honours_in_parts && store.etag(service, &self.key).await?.is_some() {
            return Ok(Ok(Put::Exists));
        }
        let request = service.client.complete_multipart_upload().bucket(&store.settings.bucket).key(&self.key);
        let request = request.upload_id(id).multipart_upload(parts);
        let request = request.set_if_none_match((self.conditions != Conditions::Refused).then(|| "*".to_owned()));
        match store.encryption.completing(request).send().await {
            Ok(reply) => Ok(store.is_ours(service, self.conditions, &self.key, reply.e_tag()).await),
            Err(error) if exists(&error) => Ok(Ok(Put::Exists)),
            // Gone (an earlier try went through, or somebody aborted it) or in conflict with another writer:
            // only a whole new upload can tell.
            Err(error) if matches!(cause::status(&error), Some(404 | 409)) => Ok(Err(self.explain(&error))),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn explain<E>(&self, error: &aws_sdk_s3::error::SdkError<E>) -> StoreError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        cause::explain(CREATE, &self.subject, self.store.settings.endpoint.as_deref(), error)
    }

    fn invalid(&self, detail: &str) -> StoreError {
        StoreError::new(StoreErrorKind::Invalid, CREATE, &self.subject, detail)
    }
}

/// The result of the first part that is through; the others stay under way. Pends forever when there is none.
async fn first_of(under_way: &mut Vec<PartFuture<'_>>) -> Result<CompletedPart, StoreError> {
    poll_fn(|context| {
        for at in 0..under_way.len() {
            let poll = under_way.get_mut(at).map(|part| part.as_mut().poll(context));
            if let Some(Poll::Ready(result)) = poll {
                drop(under_way.swap_remove(at));
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}

/// An upload that nobody has completed.
struct OpenUpload {
    client: Client,
    bucket: String,
    key: String,
    id: Option<String>,
}

impl OpenUpload {
    /// As well as it can be done: the store's own rules clean up what even this cannot.
    async fn abort(mut self) {
        let Some(id) = self.id.clone() else { return };
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(id);
        // Its `id` is taken only afterwards: when the deadline cuts this short, `drop` goes on.
        let _ = request.send().await;
        self.id = None;
    }
}

impl Drop for OpenUpload {
    /// The caller stopped waiting, or the deadline passed: the abort goes on by itself, for a while.
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(id);
        runtime.spawn(tokio::time::timeout(ABORT, request.send()));
    }
}

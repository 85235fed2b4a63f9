//! Creates: one request, or parts. In: content. Out: the object, whole, if there was none of that name. Where the store keeps
//! no conditions, looks before and after: what can be seen then is told, the moment between is not.

use super::conditions::{Conditions, exists};
use super::service::Service;
use super::{CREATE, S3Store, cause, multipart};
use crate::model::Deadline;
use crate::store::{Body, Put, StoreError, StoreErrorKind, parts, stamp};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

impl S3Store {
    pub(super) async fn store_new(&self, key: &str, body: Body, unix_ms: i64, by: Deadline) -> Result<Put, StoreError> {
        let full = self.full(CREATE, key)?;
        let invalid =
            |detail: &'static str| StoreError::new(StoreErrorKind::Invalid, CREATE, self.subject(key), detail);
        let stamp = stamp::text(unix_ms).ok_or_else(|| invalid("the timestamp is beyond all calendars"))?;
        let service = self.service().await?;
        // What the probe met is told of the object that is wanted.
        let named = |error| StoreError { subject: self.subject(key), ..error };
        let conditions = self.conditions(service).await.map_err(named)?;
        let mut source = parts::Parts::new(body, self.part_size);
        let first = source.next().await.map_err(invalid)?.unwrap_or_default();
        if source.is_done() {
            return self.store_single(service, conditions, key, first, stamp).await;
        }
        let subject = self.subject(key);
        multipart::Target { store: self, service, conditions, key: full, subject }
            .upload(first, source, stamp, by)
            .await
    }

    async fn store_single(
        &self,
        service: &Service,
        conditions: Conditions,
        key: &str,
        body: Bytes,
        stamp: String,
    ) -> Result<Put, StoreError> {
        let full = self.full(CREATE, key)?;
        if conditions != Conditions::Honoured && self.etag(service, &full).await?.is_some() {
            return Ok(Put::Exists);
        }
        let request = self.put_request(service, full.clone(), body).metadata(stamp::NAME, stamp);
        let request = request.set_if_none_match((conditions != Conditions::Refused).then(|| "*".to_owned()));
        match request.send().await {
            Ok(reply) => self.is_ours(service, conditions, &full, reply.e_tag()).await,
            Err(error) if exists(&error) => Ok(Put::Exists),
            Err(error) => Err(self.explain(CREATE, key, &error)),
        }
    }

    /// After a create without a condition: whether the object that is there now is the one that we wrote.
    pub(super) async fn is_ours(
        &self,
        service: &Service,
        conditions: Conditions,
        full: &str,
        wrote: Option<&str>,
    ) -> Result<Put, StoreError> {
        let (false, Some(wrote)) = (conditions == Conditions::Honoured, wrote) else { return Ok(Put::Created) };
        let found = self.etag(service, full).await?;
        let gone = || {
            let detail = "it was there and is gone: somebody else writes or deletes here";
            StoreError::new(StoreErrorKind::Unreachable, CREATE, self.subject(self.relative(full)), detail)
        };
        Ok(if found.ok_or_else(gone)? == wrote { Put::Created } else { Put::Exists })
    }

    /// What the object is known by; None when there is none.
    pub(super) async fn etag(&self, service: &Service, full: &str) -> Result<Option<String>, StoreError> {
        let request = service.client.head_object().bucket(&self.settings.bucket).key(full);
        match self.encryption.asking(request).send().await {
            Ok(reply) => Ok(Some(reply.e_tag().unwrap_or_default().to_owned())),
            // A missing bucket looks the same; the write that follows tells.
            Err(error) if cause::status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.explain(CREATE, self.relative(full), &error)),
        }
    }

    fn relative<'a>(&self, full: &'a str) -> &'a str {
        full.strip_prefix(&self.root).unwrap_or(full)
    }

    pub(super) async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let request = self.put_request(self.service().await?, self.full("put", key)?, body);
        request.send().await.map(drop).map_err(|error| self.explain("put", key, &error))
    }

    pub(super) fn put_request(&self, service: &Service, full: String, body: Bytes) -> PutObjectFluentBuilder {
        let request = service.client.put_object().bucket(&self.settings.bucket).key(full);
        self.encryption.writing(request.set_storage_class(self.storage_class()).body(ByteStream::from(body)))
    }
}

//! Creates an object, by one request or in parts. Where the store ignores conditions, looks for the object
//! before and after: that finds an object that another writer has made earlier or later, but not one in the
//! moment between.

use super::conditions::exists;
use super::service::Conditions;
use super::service::Service;
use super::{CREATE, S3, cause, multipart, stored};
use crate::model::Deadline;
use crate::store::bucket::NewObject;
use crate::store::failure::Failure;
use crate::store::{Put, timestamp};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

impl S3 {
    pub(super) async fn create_new(
        &self,
        service: &Service,
        object: NewObject,
        by: Deadline,
    ) -> Result<Put, Failure> {
        let timestamp = object.timestamp()?;
        let conditions = self.conditions(service).await?;
        let NewObject { name, first, rest, .. } = object;
        if !rest.is_done() {
            let target = multipart::Target { dialect: self, service, conditions, name };
            return target.upload((first, rest), timestamp, by).await;
        }
        if conditions != Conditions::Honoured && self.etag_of(service, &name).await?.is_some() {
            return Ok(Put::Exists);
        }
        let request = self.put_request(service, &name, first).metadata(timestamp::NAME, timestamp);
        match request.set_if_none_match(conditions.header()).send().await {
            Ok(reply) => self.is_ours(service, conditions, &name, reply.e_tag()).await,
            Err(error) if exists(&error) => Ok(Put::Exists),
            Err(error) => Err(self.explain(CREATE, &error)),
        }
    }

    /// After a create without a condition: whether the object that is there now has the ETag that the create
    /// returned.
    pub(super) async fn is_ours(
        &self,
        service: &Service,
        conditions: Conditions,
        name: &str,
        created: Option<&str>,
    ) -> Result<Put, Failure> {
        let created = stored(created)?;
        if conditions == Conditions::Honoured {
            return Ok(Put::Created);
        }
        match self.etag_of(service, name).await? {
            Some(there) => Ok(if there == created { Put::Created } else { Put::Exists }),
            None => {
                Err(Failure::unreachable("it was there and is gone: another program writes or deletes here"))
            }
        }
    }

    /// None when there is no such object.
    pub(super) async fn etag_of(&self, service: &Service, name: &str) -> Result<Option<String>, Failure> {
        let request = service.client.head_object().bucket(&self.settings.bucket).key(name);
        match self.encryption.asking(request).send().await {
            Ok(reply) => stored(reply.e_tag()).map(|tag| Some(tag.to_owned())),
            // A missing bucket looks the same; the write that follows fails.
            Err(error) if cause::status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.explain(CREATE, &error)),
        }
    }

    pub(super) fn put_request(
        &self,
        service: &Service,
        name: &str,
        content: Bytes,
    ) -> PutObjectFluentBuilder {
        let request = service.client.put_object().bucket(&self.settings.bucket).key(name);
        self.encryption
            .writing(request.set_storage_class(self.storage_class()).body(ByteStream::from(content)))
    }
}

//! S3 and the services that speak it, through the SDK's client: the requests, and what their answers mean.

mod cause;
mod client;
mod conditions;
mod create;
mod delete;
mod encryption;
pub mod http_client;
mod interceptors;
mod key_source_reply;
mod keys;
mod list;
mod multipart;
mod provider;
mod renewal;
mod service;
mod sweep;

use super::bucket::{Dialect, NewObject};
use super::chain::chain;
use super::download::{Download, Got, ReplyHead};
use super::failure::Failure;
use super::paging::{Listing, PageRequest};
use super::{Put, StoreClock, StoreSettings, layout::Layout, suspicion};
use crate::model::Deadline;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::StorageClass;
use bytes::Bytes;
use encryption::Encryption;
pub(super) use service::Service;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const CREATE: &str = "create";
const MIN_PART: u64 = 5 << 20;
const MAX_PART: u64 = 5 << 30;
/// The smallest that S3 takes: memory counts for more than requests. Enough for an object of 48 GiB.
const DEFAULT_PART: u64 = 5 << 20;
/// Parts that are sent at once: with the one that is being filled, this many plus one are in memory.
const DEFAULT_CONCURRENCY: usize = 2;
/// S3's limit for one DeleteObjects request.
const DELETE_BATCH: usize = 1000;

pub(super) struct S3 {
    settings: StoreSettings,
    root: String,
    part_size: usize,
    concurrency: usize,
    encryption: Encryption,
    /// Whether `sweep` has begun.
    swept: AtomicBool,
}

impl S3 {
    fn explain<E>(&self, operation: &str, error: &SdkError<E>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        cause::explain(operation, self.settings.endpoint.as_deref(), error)
    }

    fn storage_class(&self) -> Option<StorageClass> {
        self.settings.s3.storage_class.as_deref().map(StorageClass::from)
    }
}

impl Dialect for S3 {
    type Client = Service;
    const LAYOUT: Layout = Layout::S3;
    const LISTS_FROM: bool = true;
    const DELETES: (usize, usize) = (DELETE_BATCH, 1);

    fn new(settings: &StoreSettings) -> Result<S3, String> {
        client::check(settings)?;
        let part_size = settings.part_size.unwrap_or(DEFAULT_PART);
        if !(MIN_PART..=MAX_PART).contains(&part_size) {
            return Err("part_size must be between 5 MiB and 5 GiB".to_owned());
        }
        Ok(S3 {
            root: S3::root(&settings.path),
            part_size: usize::try_from(part_size)
                .map_err(|_| "part_size is too big for this machine".to_owned())?,
            concurrency: settings.concurrency.unwrap_or(DEFAULT_CONCURRENCY).max(1),
            encryption: Encryption::new(settings)?,
            swept: AtomicBool::new(false),
            settings: settings.clone(),
        })
    }

    /// With an empty path it is "/", as Litestream has it.
    fn root(path: &str) -> String {
        format!("{path}/")
    }

    async fn connect(settings: &StoreSettings, clock: &Arc<StoreClock>) -> Result<Service, String> {
        client::build(settings, clock).await
    }

    fn part_size(&self) -> usize {
        self.part_size
    }

    async fn list(&self, service: &Arc<Service>, page: PageRequest<'_>) -> Result<Listing, Failure> {
        self.list_page(service, page).await
    }

    async fn get(
        &self,
        service: &Arc<Service>,
        name: &str,
        mut download: Download<'_>,
    ) -> Result<Got, Failure> {
        let request =
            service.client.get_object().bucket(&self.settings.bucket).key(name).set_range(download.header());
        let mut reply = match self.encryption.reading(request).send().await {
            Err(error) if download.range().is_some() && cause::status(&error) == Some(416) => {
                return Ok(Got::RangeRefused);
            }
            reply => reply.map_err(|error| self.explain("get", &error))?,
        };
        download.begin(&ReplyHead {
            has_etag: etag(reply.e_tag()).is_some(),
            partial: reply.content_range().is_some(),
            content_range: reply.content_range(),
            length: reply.content_length().and_then(|length| u64::try_from(length).ok()),
        })?;
        while let Some(piece) = reply.body.next().await {
            download.piece(piece.map_err(|error| Failure::unreachable(chain(&error)))?);
        }
        download.end()
    }

    async fn create(&self, service: &Arc<Service>, object: NewObject, by: Deadline) -> Result<Put, Failure> {
        self.create_new(service, object, by).await
    }

    async fn creates_exclusively(&self, service: &Arc<Service>) -> Result<bool, Failure> {
        Ok(self.conditions(service).await? == service::Conditions::Honoured)
    }

    async fn put(&self, service: &Arc<Service>, name: &str, content: Bytes) -> Result<(), Failure> {
        let reply = self
            .put_request(service, name, content)
            .send()
            .await
            .map_err(|error| self.explain("put", &error))?;
        stored(reply.e_tag()).map(drop)
    }

    async fn delete(&self, service: &Arc<Service>, names: &[String]) -> Result<(), Failure> {
        self.delete_batch(service, names).await
    }
}

fn etag(tag: Option<&str>) -> Option<&str> {
    tag.filter(|tag| !tag.is_empty())
}

/// Every service names the ETag of what it has stored; a service that does not may have stored nothing.
fn stored(tag: Option<&str>) -> Result<&str, Failure> {
    etag(tag).ok_or_else(|| Failure::suspicious(suspicion::NO_ETAG))
}

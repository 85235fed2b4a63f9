//! S3 and everything that speaks it. Owns: the requests and how keys map to the bucket. In: keys, bytes, deadlines. Out:
//! objects, or errors by kind. Never: builds its client before the first request, or repeats a whole call.

mod cause;
mod client;
mod conditions;
mod create;
mod delete;
mod dialect;
mod encryption;
mod keys;
mod listing;
mod multipart;
mod provider;
mod renewal;
mod service;
mod sweep;

use super::chain::chain;
use super::link::{self, Link};
use super::parts::overlap;
use super::{Body, Object, Page, Put, Store, StoreError, StoreErrorKind, StoreFuture, StoreSettings};
use super::{key, layout::Layout, limit::within};
use crate::model::Deadline;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::StorageClass;
use bytes::Bytes;
use encryption::Encryption;
use service::Service;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

const CREATE: &str = "create";
const MIN_PART: u64 = 5 << 20;
const MAX_PART: u64 = 5 << 30;
/// The smallest that S3 takes: memory counts for more than requests. Enough for an object of 48 GiB.
const DEFAULT_PART: u64 = 5 << 20;
/// Parts under way at once: with the one being filled, this many plus one are in memory.
const DEFAULT_CONCURRENCY: usize = 2;

pub(super) type Links = link::Links<Service>;

pub(super) struct S3Store {
    settings: StoreSettings,
    url: String,
    /// What every key begins with. With an empty path that is "/", as Litestream has it.
    root: String,
    part_size: usize,
    concurrency: usize,
    encryption: Encryption,
    link: Arc<Link<Service>>,
    /// Uploads that a killed run left open were looked for.
    swept: AtomicBool,
}

impl S3Store {
    /// The error is a text for the user: which setting is wrong.
    pub(super) fn new(settings: &StoreSettings, links: &Links) -> Result<S3Store, String> {
        client::check(settings)?;
        let part_size = settings.part_size.unwrap_or(DEFAULT_PART);
        if !(MIN_PART..=MAX_PART).contains(&part_size) {
            return Err("part_size must be between 5 MiB and 5 GiB".to_owned());
        }
        Ok(S3Store {
            url: settings.url.trim_end_matches('/').to_owned(),
            root: format!("{}/", settings.path),
            part_size: usize::try_from(part_size).map_err(|_| "part_size is too big for this machine".to_owned())?,
            concurrency: settings.concurrency.unwrap_or(DEFAULT_CONCURRENCY).max(1),
            encryption: Encryption::new(settings)?,
            link: links.to(settings),
            swept: AtomicBool::new(false),
            settings: settings.clone(),
        })
    }

    async fn service(&self) -> Result<&Service, StoreError> {
        self.link.client.get_or_try_init(|| client::build(&self.link.settings)).await.map_err(|detail| {
            StoreError::new(StoreErrorKind::Denied, "prepare the connection to", self.url.as_str(), detail)
        })
    }

    fn explain<E>(&self, operation: &'static str, key: &str, error: &SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        cause::explain(operation, &self.subject(key), self.settings.endpoint.as_deref(), error)
    }

    fn subject(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    fn full(&self, operation: &'static str, key: &str) -> Result<String, StoreError> {
        if key::is_object(key) {
            return Ok(format!("{}{key}", self.root));
        }
        Err(StoreError::new(StoreErrorKind::Invalid, operation, self.subject(key), "not a valid key"))
    }

    fn storage_class(&self) -> Option<StorageClass> {
        self.settings.s3.storage_class.as_deref().map(StorageClass::from)
    }

    async fn fetch(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let pieces = Mutex::new(Vec::new());
        let take = |bytes| pieces.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        self.fetch_into(key, range, &take).await?;
        let mut pieces = pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(if pieces.len() == 1 { pieces.pop().unwrap_or_default() } else { pieces.concat().into() })
    }

    async fn fetch_into(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        take: &(dyn Fn(Bytes) + Send + Sync),
    ) -> Result<(), StoreError> {
        let full = self.full("get", key)?;
        let fail = |kind, detail: String| StoreError::new(kind, "get", self.subject(key), detail);
        if range.as_ref().is_some_and(Range::is_empty) {
            return Err(fail(StoreErrorKind::Invalid, "the range asked for is empty".to_owned()));
        }
        let header = range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let request =
            self.service().await?.client.get_object().bucket(&self.settings.bucket).key(full).set_range(header);
        let mut reply = match self.encryption.reading(request).send().await {
            // The object ends before the range begins.
            Err(error) if cause::status(&error) == Some(416) && range.is_some() => return Ok(()),
            reply => reply.map_err(|error| self.explain("get", key, &error))?,
        };
        // A server that does not know ranges sends everything.
        let wanted = range.filter(|_| reply.content_range().is_none());
        let length = reply.content_length().and_then(|length| u64::try_from(length).ok());
        let mut got = 0;
        while let Some(piece) = reply.body.next().await {
            let piece = piece.map_err(|error| fail(StoreErrorKind::Unreachable, chain(&error)))?;
            let part = wanted.as_ref().map_or_else(|| piece.clone(), |wanted| overlap(&piece, got, wanted));
            got += piece.len() as u64;
            take(part);
        }
        if length.is_some_and(|length| length != got) {
            return Err(fail(StoreErrorKind::Unreachable, format!("the reply ended after {got} bytes")));
        }
        Ok(())
    }
}

impl Store for S3Store {
    fn url(&self) -> &str {
        &self.url
    }

    fn layout(&self) -> Layout {
        Layout::S3
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        Box::pin(
            async move { within(by, "list", &self.subject(prefix), self.link.in_turn(self.list_all(prefix))).await },
        )
    }

    fn directories<'a>(&'a self, by: Deadline) -> StoreFuture<'a, Vec<String>> {
        let work = self.link.in_turn(self.directories_of_root());
        Box::pin(async move { within(by, "list", &self.subject(""), work).await })
    }

    fn list_page<'a>(&'a self, prefix: &'a str, after: &'a str, by: Deadline) -> StoreFuture<'a, Page> {
        Box::pin(
            async move { within(by, "list", &self.subject(prefix), self.link.in_turn(self.page(prefix, after))).await },
        )
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes> {
        Box::pin(async move { within(by, "get", &self.subject(key), self.link.in_turn(self.fetch(key, range))).await })
    }

    fn get_into<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        take: &'a (dyn Fn(Bytes) + Send + Sync),
        by: Deadline,
    ) -> StoreFuture<'a, ()> {
        let work = self.link.in_turn(self.fetch_into(key, range, take));
        Box::pin(async move { within(by, "get", &self.subject(key), work).await })
    }

    fn put_new<'a>(&'a self, key: &'a str, body: Body, timestamp_ms: i64, by: Deadline) -> StoreFuture<'a, Put> {
        Box::pin(async move {
            let subject = self.subject(key);
            match body {
                // Its parts are few and slow: it would keep the turn of many small ones.
                Body::Stream(_) => within(by, CREATE, &subject, self.store_new(key, body, timestamp_ms, by)).await,
                Body::Whole(_) => {
                    let work = self.store_new(key, body, timestamp_ms, by);
                    within(by, CREATE, &subject, self.link.in_turn(work)).await
                }
            }
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move { within(by, "put", &self.subject(key), self.link.in_turn(self.replace(key, body))).await })
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move { within(by, "delete in", &self.url, self.link.in_turn(self.remove(keys))).await })
    }
}

//! S3 and everything that speaks it. Owns: the requests and how keys map to the bucket. In: keys, bytes, deadlines. Out:
//! objects, or errors by kind. Never: builds its client before the first request, or repeats a whole call.

mod cause;
mod client;
mod encryption;
mod multipart;

use super::chain::chain;
use super::link::{self, Link};
use super::parts::{self, overlap};
use super::{Body, Object, Page, Put, Store, StoreError, StoreErrorKind, StoreFuture, StoreSettings};
use super::{key, layout::Layout, limit::within, stamp};
use crate::model::Deadline;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier, StorageClass};
use bytes::Bytes;
use encryption::Encryption;
use md5::{Digest, Md5};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

const CREATE: &str = "create";
/// S3's limit for one DeleteObjects request.
const DELETE_BATCH: usize = 1000;
const MIN_PART: u64 = 5 << 20;
const MAX_PART: u64 = 5 << 30;
/// The smallest that S3 takes: memory counts for more than requests. Enough for an object of 48 GiB.
const DEFAULT_PART: u64 = 5 << 20;
/// Parts under way at once: with the one being filled, this many plus one are in memory.
const DEFAULT_CONCURRENCY: usize = 2;

pub(super) type Links = link::Links<Client>;

pub(super) struct S3Store {
    settings: StoreSettings,
    url: String,
    /// What every key begins with. With an empty path that is "/", as Litestream has it.
    root: String,
    part_size: usize,
    concurrency: usize,
    encryption: Encryption,
    link: Arc<Link<Client>>,
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
            settings: settings.clone(),
        })
    }

    async fn client(&self) -> Result<&Client, StoreError> {
        self.link.client.get_or_try_init(|| client::build(&self.link.settings)).await.map_err(|detail| {
            StoreError::new(StoreErrorKind::Denied, "prepare the connection to", self.url.as_str(), detail)
        })
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

    async fn list_all(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let objects = self.pages(prefix, format!("{}{prefix}", self.root)).await?;
        if objects.is_empty() && self.root == "/" {
            // Some stores drop the slash that an empty path puts in front of every key.
            return self.pages(prefix, prefix.to_owned()).await;
        }
        Ok(objects)
    }

    async fn pages(&self, prefix: &str, full: String) -> Result<Vec<Object>, StoreError> {
        let client = self.client().await?;
        let mut objects = Vec::new();
        let mut token = None;
        loop {
            let page = client
                .list_objects_v2()
                .bucket(&self.settings.bucket)
                .prefix(&full)
                .set_continuation_token(token)
                .send()
                .await
                .map_err(|error| {
                    cause::explain("list", &self.subject(prefix), self.settings.endpoint.as_deref(), &error)
                })?;
            objects.extend(page.contents().iter().filter_map(|object| self.listed(object)));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() || !page.is_truncated().unwrap_or_default() {
                return Ok(objects);
            }
        }
    }

    async fn page(&self, prefix: &str, after: &str) -> Result<Page, StoreError> {
        let full = |key: &str| format!("{}{key}", self.root);
        let request = self.client().await?.list_objects_v2().bucket(&self.settings.bucket).prefix(full(prefix));
        let request = request.set_start_after((!after.is_empty()).then(|| full(after)));
        let reply = request.send().await.map_err(|error| {
            cause::explain("list", &self.subject(prefix), self.settings.endpoint.as_deref(), &error)
        })?;
        let objects: Vec<Object> = reply.contents().iter().filter_map(|object| self.listed(object)).collect();
        let more = reply.is_truncated().unwrap_or_default();
        if self.root == "/" && reply.contents().is_empty() || more && objects.is_empty() {
            // A store that drops the slash of an empty path, or a page full of what is not ours: the long way.
            let mut objects = self.list_all(prefix).await?;
            objects.retain(|object| object.key.as_str() > after);
            return Ok(Page { objects, more: false });
        }
        Ok(Page { objects, more })
    }

    /// The first components of all keys that have more of them.
    async fn directories_of_root(&self) -> Result<Vec<String>, StoreError> {
        let (client, mut names, mut token) = (self.client().await?, Vec::new(), None);
        // "/" is what an empty path becomes: the names are then at the bucket's root.
        let root = if self.root == "/" { "" } else { self.root.as_str() };
        loop {
            let request = client.list_objects_v2().bucket(&self.settings.bucket).prefix(root).delimiter("/");
            let page = request.set_continuation_token(token).send().await.map_err(|error| {
                cause::explain("list", &self.subject(""), self.settings.endpoint.as_deref(), &error)
            })?;
            let prefixes = page.common_prefixes().iter().filter_map(|common| common.prefix());
            let found = prefixes.filter_map(|prefix| prefix.strip_prefix(root)?.strip_suffix('/'));
            names.extend(found.filter(|name| key::is_object(name)).map(str::to_owned));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() || !page.is_truncated().unwrap_or_default() {
                return Ok(names);
            }
        }
    }

    /// None for what is no object of ours: the marker of a directory, a key outside the root.
    fn listed(&self, object: &aws_sdk_s3::types::Object) -> Option<Object> {
        let full = object.key()?;
        let key = full.strip_prefix(&self.root).or((self.root == "/").then_some(full))?;
        if !key::is_object(key) {
            return None;
        }
        Some(Object {
            key: key.to_owned(),
            size: u64::try_from(object.size()?).ok()?,
            modified_ms: object.last_modified()?.to_millis().ok()?,
        })
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
        let request = self.client().await?.get_object().bucket(&self.settings.bucket).key(full).set_range(header);
        let mut reply = match self.encryption.reading(request).send().await {
            // The object ends before the range begins.
            Err(error) if cause::status(&error) == Some(416) && range.is_some() => return Ok(()),
            reply => reply.map_err(|error| {
                cause::explain("get", &self.subject(key), self.settings.endpoint.as_deref(), &error)
            })?,
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

    async fn store_new(&self, key: &str, body: Body, unix_ms: i64, by: Deadline) -> Result<Put, StoreError> {
        let full = self.full(CREATE, key)?;
        let stamp = stamp::text(unix_ms).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Invalid, CREATE, self.subject(key), "the timestamp is beyond all calendars")
        })?;
        let mut source = parts::Parts::new(body, self.part_size);
        let invalid =
            |detail: &'static str| StoreError::new(StoreErrorKind::Invalid, CREATE, self.subject(key), detail);
        let first = source.next().await.map_err(invalid)?.unwrap_or_default();
        if source.is_done() {
            return self.store_single(key, full, first, stamp).await;
        }
        let target =
            multipart::Target { store: self, client: self.client().await?, key: full, subject: self.subject(key) };
        target.upload(first, source, stamp, by).await
    }

    async fn store_single(&self, key: &str, full: String, body: Bytes, stamp: String) -> Result<Put, StoreError> {
        let request = self.put_request(full, body).await?.metadata(stamp::NAME, stamp).if_none_match("*");
        match request.send().await {
            Ok(_) => Ok(Put::Created),
            Err(error) if exists(&error) => Ok(Put::Exists),
            Err(error) => Err(cause::explain(CREATE, &self.subject(key), self.settings.endpoint.as_deref(), &error)),
        }
    }

    async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let request = self.put_request(self.full("put", key)?, body).await?;
        request
            .send()
            .await
            .map(drop)
            .map_err(|error| cause::explain("put", &self.subject(key), self.settings.endpoint.as_deref(), &error))
    }

    async fn put_request(&self, full: String, body: Bytes) -> Result<PutObjectFluentBuilder, StoreError> {
        let request = self.client().await?.put_object().bucket(&self.settings.bucket).key(full);
        let request = request.set_storage_class(self.storage_class()).body(ByteStream::from(body));
        Ok(self.encryption.writing(request))
    }

    async fn remove(&self, keys: &[String]) -> Result<(), StoreError> {
        let client = self.client().await?;
        for batch in keys.chunks(DELETE_BATCH) {
            let mut delete = Delete::builder().quiet(true);
            for key in batch {
                let id = ObjectIdentifier::builder().key(self.full("delete", key)?).build();
                delete = delete.objects(id.map_err(|error| self.not_deleted(chain(&error)))?);
            }
            let delete = delete.build().map_err(|error| self.not_deleted(chain(&error)))?;
            let request = client.delete_objects().bucket(&self.settings.bucket).delete(delete).customize();
            // Stores that do not know the newer checksums insist on this one.
            let request = request.mutate_request(|request| {
                if let Some(md5) =
                    request.body().bytes().map(|body| aws_smithy_types::base64::encode(Md5::digest(body)))
                {
                    request.headers_mut().insert("content-md5", md5);
                }
            });
            let reply = request
                .send()
                .await
                .map_err(|error| cause::explain("delete in", &self.url, self.settings.endpoint.as_deref(), &error))?;
            if let Some(error) = reply.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
                return Err(self.refused_deletion(error));
            }
        }
        Ok(())
    }

    fn not_deleted(&self, detail: String) -> StoreError {
        StoreError::new(StoreErrorKind::Invalid, "delete in", self.url.as_str(), detail)
    }

    /// The request went through, but one key of it did not; there is no status for that, only a code.
    fn refused_deletion(&self, error: &aws_sdk_s3::types::Error) -> StoreError {
        let code = error.code().unwrap_or_default();
        let status = if code == "AccessDenied" { 403 } else { 503 };
        let (kind, hint) = cause::classify("delete in", status, code);
        let key = error.key().and_then(|key| key.strip_prefix(&self.root)).unwrap_or_default();
        let detail = format!("{code} {}; {hint}", error.message().unwrap_or_default());
        StoreError::new(kind, "delete", self.subject(key), detail.trim_end_matches("; ").to_owned())
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

/// The condition `If-None-Match: *` was not met.
fn exists<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    cause::status(error) == Some(412)
}

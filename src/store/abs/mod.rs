//! Azure Blob Storage. Owns: the requests and how keys map to the container. In: keys, bytes, deadlines. Out: objects, or
//! errors by kind. Never: prepares anything before the first request, or repeats a whole call.

mod address;
mod blocks;
mod cause;
mod credentials;
mod identity;
mod listing;
mod service;

use super::http::content_into;
use super::link::{self, Link};
use super::parts::Parts;
use super::{Body, Object, Page, Put, Store, StoreError, StoreErrorKind, StoreFuture, StoreSettings};
use super::{key, layout::Layout, limit::within, stamp};
use crate::model::Deadline;
use ::http::Method;
use address::Account;
use bytes::Bytes;
use listing::Listed;
use service::{Call, Refusal, Service};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

const CREATE: &str = "create";
const IF_NONE_MATCH: &str = "if-none-match";
const OCTETS: &str = "application/octet-stream";
/// Where Litestream looks for a blob's timestamp; Azure allows no hyphen in it.
const METADATA: &str = "x-ms-meta-litestreamtimestamp";
const MIN_PART: u64 = 5 << 20;
const MAX_PART: u64 = 4000 << 20;
/// As small as the other stores': memory counts for more than requests. Enough for a blob of 240 GiB.
const DEFAULT_PART: u64 = MIN_PART;
/// Parts under way at once: with the one being filled, this many plus one are in memory.
const DEFAULT_CONCURRENCY: usize = 2;
/// Blobs are deleted one by one, this many at a time.
const DELETES: usize = 8;

pub(super) type Links = link::Links<Arc<Service>>;

pub(super) struct AbsStore {
    url: String,
    account: Account,
    container: String,
    /// What every key begins with.
    root: String,
    part_size: usize,
    concurrency: usize,
    link: Arc<Link<Arc<Service>>>,
}

impl AbsStore {
    /// The error is a text for the user: which setting is wrong.
    pub(super) fn new(settings: &StoreSettings, links: &Links) -> Result<AbsStore, String> {
        if settings.bucket.is_empty() {
            return Err("the container is missing: write abs://ACCOUNT@CONTAINER/PREFIX".to_owned());
        }
        credentials::check(settings)?;
        let part_size = settings.part_size.unwrap_or(DEFAULT_PART);
        if !(MIN_PART..=MAX_PART).contains(&part_size) {
            return Err("part_size must be between 5 MiB and 4000 MiB".to_owned());
        }
        let path = settings.path.as_str();
        Ok(AbsStore {
            url: settings.url.trim_end_matches('/').to_owned(),
            account: Account::of(settings)?,
            container: settings.bucket.clone(),
            root: if path.is_empty() { String::new() } else { format!("{path}/") },
            part_size: usize::try_from(part_size).map_err(|_| "part_size is too big for this machine".to_owned())?,
            concurrency: settings.concurrency.unwrap_or(DEFAULT_CONCURRENCY).max(1),
            link: links.to(settings),
        })
    }

    async fn service(&self) -> Result<&Arc<Service>, StoreError> {
        self.link
            .client
            .get_or_try_init(|| async { Service::build(&self.link.settings).await.map(Arc::new) })
            .await
            .map_err(|detail| {
                StoreError::new(StoreErrorKind::Denied, "prepare the connection to", self.url.as_str(), detail)
            })
    }

    fn subject(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    /// The blob's URL.
    fn blob(&self, operation: &'static str, key: &str) -> Result<String, StoreError> {
        if key::is_object(key) {
            return Ok(self.account.blob(&self.container, &format!("{}{key}", self.root)));
        }
        Err(StoreError::new(StoreErrorKind::Invalid, operation, self.subject(key), "not a valid key"))
    }

    fn explain(&self, operation: &'static str, key: &str, refusal: Refusal) -> StoreError {
        StoreError::new(refusal.kind, operation, self.subject(key), refusal.detail)
    }

    async fn list_once(&self, prefix: &str, delimiter: &str, marker: &str) -> Result<Listed, StoreError> {
        let full = format!("{}{prefix}", self.root);
        let parameters = [("prefix", full.as_str()), ("delimiter", delimiter), ("marker", marker)];
        let call = Call::new(Method::GET, self.account.listing(&self.container, &parameters));
        let reply = self.service().await?.send("list", call).await;
        let reply = reply.map_err(|refusal| self.explain("list", prefix, refusal))?;
        let fail = |kind, detail: String| StoreError::new(kind, "list", self.subject(prefix), detail);
        let text = reply.text().await.map_err(|error| {
            let (kind, detail) = super::http::failed(&error);
            fail(kind, detail)
        })?;
        listing::parse(&text, &self.root).map_err(|error| {
            fail(StoreErrorKind::Invalid, format!("the reply is no listing ({error}); check the endpoint"))
        })
    }

    async fn list_all(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let mut listed = self.list_once(prefix, "", "").await?;
        let mut objects = listed.objects;
        while !listed.marker.is_empty() {
            listed = self.list_once(prefix, "", &listed.marker).await?;
            objects.append(&mut listed.objects);
        }
        Ok(objects)
    }

    /// The service cannot begin behind a key: the first page is one request, what is behind a key is cut from all.
    async fn page(&self, prefix: &str, after: &str) -> Result<Page, StoreError> {
        if after.is_empty() {
            let listed = self.list_once(prefix, "", "").await?;
            // A page of nothing that is ours tells no key to go on from.
            if listed.marker.is_empty() || !listed.objects.is_empty() {
                return Ok(Page { objects: listed.objects, more: !listed.marker.is_empty() });
            }
        }
        let mut objects = self.list_all(prefix).await?;
        objects.retain(|object| object.key.as_str() > after);
        Ok(Page { objects, more: false })
    }

    async fn directories_of_root(&self) -> Result<Vec<String>, StoreError> {
        let (mut names, mut marker) = (Vec::new(), String::new());
        loop {
            let listed = self.list_once("", "/", &marker).await?;
            names.extend(listed.names);
            marker = listed.marker;
            if marker.is_empty() {
                return Ok(names);
            }
        }
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
        let mut call = Call::new(Method::GET, self.blob("get", key)?);
        let fail = |(kind, detail): (StoreErrorKind, String)| StoreError::new(kind, "get", self.subject(key), detail);
        if let Some(range) = &range {
            if range.is_empty() {
                return Err(fail((StoreErrorKind::Invalid, "the range asked for is empty".to_owned())));
            }
            call = call.with("range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        match self.service().await?.send("get", call).await {
            // The blob ends before the range begins.
            Err(refusal) if refusal.status == 416 && range.is_some() => Ok(()),
            Err(refusal) => Err(self.explain("get", key, refusal)),
            Ok(reply) => content_into(reply, range, take).await.map_err(fail),
        }
    }

    async fn store_new(&self, key: &str, body: Body, unix_ms: i64, by: Deadline) -> Result<Put, StoreError> {
        let url = self.blob(CREATE, key)?;
        let invalid = |detail: &str| StoreError::new(StoreErrorKind::Invalid, CREATE, self.subject(key), detail);
        let stamp = stamp::text(unix_ms).ok_or_else(|| invalid("the timestamp is beyond all calendars"))?;
        let mut source = Parts::new(body, self.part_size);
        let first = source.next().await.map_err(invalid)?.unwrap_or_default();
        let service = self.service().await?;
        if source.is_done() {
            let call = whole(url.clone(), first.clone()).with(IF_NONE_MATCH, "*").with(METADATA, stamp.clone());
            match service.send(CREATE, call).await {
                Ok(_) => return Ok(Put::Created),
                Err(refusal) if refusal.is_exists() => {}
                Err(refusal) => return Err(self.explain(CREATE, key, refusal)),
            }
            // What an abandoned upload has sent can count as a blob here, which nobody can read. A commit does not mind it.
            if self.is_there(key, &url).await? {
                return Ok(Put::Exists);
            }
        }
        let target = blocks::Target { service: Arc::clone(service), url, subject: self.subject(key) };
        target.upload(first, source, stamp, self.concurrency, by).await
    }

    async fn is_there(&self, key: &str, url: &str) -> Result<bool, StoreError> {
        match self.service().await?.send("get", Call::new(Method::HEAD, url.to_owned())).await {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.is_gone() => Ok(false),
            Err(refusal) => Err(self.explain(CREATE, key, refusal)),
        }
    }

    async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let call = whole(self.blob("put", key)?, body);
        let sent = self.service().await?.send("put", call).await;
        sent.map(drop).map_err(|refusal| self.explain("put", key, refusal))
    }

    async fn remove(&self, keys: &[String]) -> Result<(), StoreError> {
        let urls = keys.iter().map(|key| Ok((key.clone(), self.blob("delete", key)?)));
        let urls: Vec<(String, String)> = urls.collect::<Result<_, StoreError>>()?;
        let service = self.service().await?;
        // Dropped, it ends them all.
        let mut under_way = JoinSet::new();
        for (key, url) in urls {
            if under_way.len() >= DELETES {
                self.removed(under_way.join_next().await)?;
            }
            let (service, link) = (Arc::clone(service), Arc::clone(&self.link));
            let call = Call::new(Method::DELETE, url);
            under_way.spawn(async move { (key, link.in_turn(service.send("delete", call)).await.err()) });
        }
        while !under_way.is_empty() {
            self.removed(under_way.join_next().await)?;
        }
        Ok(())
    }

    fn removed(
        &self,
        ended: Option<Result<(String, Option<Refusal>), tokio::task::JoinError>>,
    ) -> Result<(), StoreError> {
        match ended {
            Some(Ok((_, Some(refusal)))) if refusal.is_gone() => Ok(()),
            Some(Ok((key, Some(refusal)))) => Err(self.explain("delete", &key, refusal)),
            None | Some(Ok((_, None))) => Ok(()),
            Some(Err(_)) => {
                let detail = "a deletion was broken off";
                Err(StoreError::new(StoreErrorKind::Unreachable, "delete in", self.url.as_str(), detail))
            }
        }
    }
}

/// A small blob in one request.
fn whole(url: String, body: Bytes) -> Call {
    Call::put(url, body).with("x-ms-blob-type", "BlockBlob").with("content-type", OCTETS)
}

impl Store for AbsStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        let work = self.link.in_turn(self.list_all(prefix));
        Box::pin(async move { within(by, "list", &self.subject(prefix), work).await })
    }

    fn list_page<'a>(&'a self, prefix: &'a str, after: &'a str, by: Deadline) -> StoreFuture<'a, Page> {
        let work = self.link.in_turn(self.page(prefix, after));
        Box::pin(async move { within(by, "list", &self.subject(prefix), work).await })
    }

    fn directories<'a>(&'a self, by: Deadline) -> StoreFuture<'a, Vec<String>> {
        let work = self.link.in_turn(self.directories_of_root());
        Box::pin(async move { within(by, "list", &self.subject(""), work).await })
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes> {
        let work = self.link.in_turn(self.fetch(key, range));
        Box::pin(async move { within(by, "get", &self.subject(key), work).await })
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
            // A stream's parts are few and slow: it would keep the turn of many small ones.
            let streamed = matches!(body, Body::Stream(_));
            let work = self.store_new(key, body, timestamp_ms, by);
            if streamed {
                return within(by, CREATE, &subject, work).await;
            }
            within(by, CREATE, &subject, self.link.in_turn(work)).await
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        let work = self.link.in_turn(self.replace(key, body));
        Box::pin(async move { within(by, "put", &self.subject(key), work).await })
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move { within(by, "delete in", &self.url, self.remove(keys)).await })
    }
}

//! Google Cloud Storage through its JSON API. Owns: the requests and how keys map to the bucket. In: keys, bytes, deadlines.
//! Out: objects, or errors by kind. Never: builds its client or asks for a token before the first request, or repeats a
//! whole call.

mod address;
mod cause;
mod client;
mod exchange;
mod jwt;
mod list;
mod progress;
mod related;
mod resumable;
mod source;
mod token;

use super::http::{body, content_into};
use super::link::{self, Link};
use super::{Body, Object, Page, Put, Store, StoreError, StoreErrorKind, StoreFuture, StoreSettings};
use super::{key, layout::Layout, limit::within, parts::Parts, stamp};
use crate::model::Deadline;
use address::{Address, Listing};
use bytes::Bytes;
use client::Client;
use list::Listed;
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, RANGE};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use token::Failure;

const CREATE: &str = "create";
/// What is read of an answer that is no content; a page of a listing has up to 1000 names of up to 1 KiB.
const ANSWER: usize = 8 << 20;
/// With the one being filled, two are in memory. Google's own libraries send 8 or 16 MiB.
const DEFAULT_PART: u64 = 8 << 20;
const MAX_PART: u64 = 5 << 30;

pub(super) type Links = link::Links<Client>;

pub(super) struct GsStore {
    address: Address,
    url: String,
    /// What every key begins with: "" or a path with its slash.
    root: String,
    part_size: usize,
    link: Arc<Link<Client>>,
}

impl GsStore {
    /// The error is a text for the user: which setting is wrong.
    pub(super) fn new(settings: &StoreSettings, links: &Links) -> Result<GsStore, String> {
        let part_size = settings.part_size.unwrap_or(DEFAULT_PART);
        if !(progress::UNIT..=MAX_PART).contains(&part_size) {
            return Err("part_size must be between 256 KiB and 5 GiB".to_owned());
        }
        let whole_units = part_size - part_size % progress::UNIT;
        Ok(GsStore {
            address: Address::new(settings.endpoint.as_deref(), &settings.bucket)?,
            url: settings.url.trim_end_matches('/').to_owned(),
            root: if settings.path.is_empty() { String::new() } else { format!("{}/", settings.path) },
            part_size: usize::try_from(whole_units).map_err(|_| "part_size is too big for this machine".to_owned())?,
            link: links.to(settings),
        })
    }

    async fn client(&self) -> Result<&Client, StoreError> {
        self.link.client.get_or_try_init(|| Client::build(&self.link.settings)).await.map_err(|detail| {
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
        Err(self.failed(operation, key, (StoreErrorKind::Invalid, "not a valid key".to_owned())))
    }

    fn failed(&self, operation: &'static str, key: &str, (kind, detail): Failure) -> StoreError {
        StoreError::new(kind, operation, self.subject(key), detail)
    }

    /// The answer's text when it is a success, else why not.
    async fn checked(&self, operation: &'static str, key: &str, reply: Response) -> Result<Bytes, StoreError> {
        let status = reply.status();
        let body = body(reply, ANSWER).await.map_err(|failure| self.failed(operation, key, failure))?;
        if status.is_success() {
            return Ok(body);
        }
        Err(self.failed(operation, key, cause::explain(operation, status.as_u16(), &body)))
    }

    async fn one_page(&self, prefix: &str, listing: Listing<'_>) -> Result<Listed, StoreError> {
        let url = self.address.listing(listing);
        let reply = self.client().await?.send(|http| http.get(url.as_str())).await;
        let reply = reply.map_err(|failure| self.failed("list", prefix, failure))?;
        let body = self.checked("list", prefix, reply).await?;
        Listed::read(&body).map_err(|detail| self.failed("list", prefix, (StoreErrorKind::Invalid, detail)))
    }

    async fn list_all(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let full = format!("{}{prefix}", self.root);
        let (mut objects, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.one_page(prefix, Listing { prefix: &full, token: &token, ..Listing::default() }).await?;
            objects.extend(page.objects(&self.root));
            let Some(next) = page.next() else { return Ok(objects) };
            token = next;
        }
    }

    /// The offset is the first name that is told, so `after` comes along. A page with nothing else leads to the next one.
    async fn page(&self, prefix: &str, after: &str) -> Result<Page, StoreError> {
        let full = format!("{}{prefix}", self.root);
        let from = if after.is_empty() { String::new() } else { format!("{}{after}", self.root) };
        let mut token = String::new();
        loop {
            let listing = Listing { prefix: &full, from: &from, token: &token, ..Listing::default() };
            let page = self.one_page(prefix, listing).await?;
            let objects: Vec<Object> = page.objects(&self.root).filter(|object| object.key.as_str() > after).collect();
            match page.next() {
                Some(next) if objects.is_empty() => token = next,
                next => return Ok(Page { objects, more: next.is_some() }),
            }
        }
    }

    async fn directories_of_root(&self) -> Result<Vec<String>, StoreError> {
        let (mut names, mut token) = (Vec::new(), String::new());
        loop {
            let listing = Listing { prefix: &self.root, delimiter: "/", token: &token, ..Listing::default() };
            let page = self.one_page("", listing).await?;
            names.extend(page.directories(&self.root));
            let Some(next) = page.next() else { return Ok(names) };
            token = next;
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
        let url = self.address.content(&self.full("get", key)?);
        let fail = |failure| self.failed("get", key, failure);
        if range.as_ref().is_some_and(Range::is_empty) {
            return Err(fail((StoreErrorKind::Invalid, "the range asked for is empty".to_owned())));
        }
        let header = range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let request = |http: &reqwest::Client| match &header {
            Some(header) => http.get(url.as_str()).header(RANGE, header),
            None => http.get(url.as_str()),
        };
        let reply = self.client().await?.send(request).await.map_err(fail)?;
        match reply.status().as_u16() {
            200..=299 => content_into(reply, range, take).await.map_err(fail),
            // The object ends before the range begins.
            416 if range.is_some() => Ok(()),
            _ => self.checked("get", key, reply).await.map(drop),
        }
    }

    async fn store_new(&self, key: &str, body: Body, unix_ms: i64, by: Deadline) -> Result<Put, StoreError> {
        let name = self.full(CREATE, key)?;
        let invalid = |detail: &str| self.failed(CREATE, key, (StoreErrorKind::Invalid, detail.to_owned()));
        let stamp = stamp::text(unix_ms).ok_or_else(|| invalid("the timestamp is beyond all calendars"))?;
        let mut source = Parts::new(body, self.part_size);
        let first = source.next().await.map_err(invalid)?.unwrap_or_default();
        if source.is_done() {
            let reply = self.send_whole(CREATE, key, &related::description(&name, Some(&stamp)), &first).await?;
            if reply.status() == reqwest::StatusCode::PRECONDITION_FAILED {
                return Ok(Put::Exists);
            }
            return self.checked(CREATE, key, reply).await.map(|_| Put::Created);
        }
        let target = resumable::Target { store: self, client: self.client().await?, name, subject: self.subject(key) };
        target.upload(first, source, &stamp, by).await
    }

    async fn replace(&self, key: &str, body: &Bytes) -> Result<(), StoreError> {
        let name = self.full("put", key)?;
        let reply = self.send_whole("put", key, &related::description(&name, None), body).await?;
        self.checked("put", key, reply).await.map(drop)
    }

    /// In one request; to create, only if there is none.
    async fn send_whole(
        &self,
        operation: &'static str,
        key: &str,
        description: &str,
        content: &Bytes,
    ) -> Result<Response, StoreError> {
        let url = self.address.upload("multipart", operation == CREATE);
        let (kind, body) = related::related(description, content);
        let request =
            |http: &reqwest::Client| http.post(url.as_str()).header(CONTENT_TYPE, kind.as_str()).body(body.clone());
        self.client().await?.send(request).await.map_err(|failure| self.failed(operation, key, failure))
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let url = self.address.object(&self.full("delete", key)?);
        let reply = self.client().await?.send(|http| http.delete(url.as_str())).await;
        let reply = reply.map_err(|failure| self.failed("delete", key, failure))?;
        if reply.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.checked("delete", key, reply).await.map(drop)
    }

    /// Google takes one at a time; eight lanes take what is next.
    async fn remove_all(&self, keys: &[String]) -> Result<(), StoreError> {
        let next = AtomicUsize::new(0);
        let lane = || async {
            while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.link.in_turn(self.remove(key)).await?;
            }
            Ok(())
        };
        tokio::try_join!(lane(), lane(), lane(), lane(), lane(), lane(), lane(), lane()).map(drop)
    }
}

impl Store for GsStore {
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
            // The pieces of a stream are few and slow: it would keep the turn of many small ones.
            let in_turn = matches!(body, Body::Whole(_));
            let work = self.store_new(key, body, timestamp_ms, by);
            if in_turn {
                return within(by, CREATE, &subject, self.link.in_turn(work)).await;
            }
            within(by, CREATE, &subject, work).await
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let work = self.link.in_turn(self.replace(key, &body));
            within(by, "put", &self.subject(key), work).await
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move { within(by, "delete in", &self.url, self.remove_all(keys)).await })
    }
}

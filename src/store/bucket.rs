//! One replica's root in a service: implements `Store` around the service's dialect. Does once what all
//! services need: the deadline, the permit, the client, keys to names, the pages of a listing, the check of
//! ranges, the error's operation and subject, the counts. A dialect knows how its service is asked and what
//! its answers mean.

use super::counts::{CallResult, Counts, Operation};
use super::download::{Download, Got};
use super::failure::{About, Failure};
use super::limit::within;
use super::link::{Link, Links};
use super::paging::{Listing, PageRequest, Paging};
use super::parts::Parts;
use super::{
    Body, Object, Page, Put, Store, StoreClock, StoreError, StoreErrorKind, StoreFuture, StoreSettings, Take,
};
use super::{key, layout::Layout, suspicion};
use crate::model::Deadline;
use bytes::Bytes;
use futures_util::future::try_join_all;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(test)]
mod tests;

/// Names are full names in the service: the root and the key.
pub(super) trait Dialect: Sized + Send + Sync + 'static {
    /// Shared by the stores of one service.
    type Client: Send + Sync + 'static;
    const LAYOUT: Layout;
    /// A listing can begin at a name.
    const LISTS_FROM: bool;
    /// Names in one call of `delete`, and such calls at once.
    const DELETES: (usize, usize);

    /// The error is a text for the user: which setting is wrong.
    fn new(settings: &StoreSettings) -> Result<Self, String>;

    /// What every name begins with. Empty: the dialect itself puts its root in front of the name.
    fn root(path: &str) -> String;

    /// Called at the first request. The error is a text for the user.
    fn connect(
        settings: &StoreSettings,
        clock: &Arc<StoreClock>,
    ) -> impl Future<Output = Result<Self::Client, String>> + Send;

    /// Called after a call that has timed out.
    fn timed_out(_: &Self::Client) {}

    /// The content of a new object is cut into parts of so many bytes.
    fn part_size(&self) -> usize;

    /// One page.
    fn list(
        &self,
        client: &Arc<Self::Client>,
        page: PageRequest<'_>,
    ) -> impl Future<Output = Result<Listing, Failure>> + Send;

    /// The range of `download` is not empty.
    fn get(
        &self,
        client: &Arc<Self::Client>,
        name: &str,
        download: Download<'_>,
    ) -> impl Future<Output = Result<Got, Failure>> + Send;

    /// Creates the object if there is none of that name.
    fn create(
        &self,
        client: &Arc<Self::Client>,
        object: NewObject,
        by: Deadline,
    ) -> impl Future<Output = Result<Put, Failure>> + Send;

    /// Whether `create` is decided by the service, and not by a look before it.
    fn creates_exclusively(
        &self,
        _: &Arc<Self::Client>,
    ) -> impl Future<Output = Result<bool, Failure>> + Send {
        async { Ok(true) }
    }

    /// Creates or replaces the object.
    fn put(
        &self,
        client: &Arc<Self::Client>,
        name: &str,
        content: Bytes,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Deletes objects; those that do not exist are no error.
    fn delete(
        &self,
        client: &Arc<Self::Client>,
        names: &[String],
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What `create` makes an object of.
pub(super) struct NewObject {
    pub name: String,
    pub first: Bytes,
    /// What follows the first part.
    pub rest: Parts,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
}

#[cfg(feature = "http")]
impl NewObject {
    /// The timestamp as Litestream writes it into an object's metadata.
    pub(super) fn timestamp(&self) -> Result<String, Failure> {
        let text = super::timestamp::text(self.timestamp_ms);
        text.ok_or_else(|| Failure::invalid("the timestamp is beyond all calendars"))
    }
}

pub(super) struct Bucket<D: Dialect> {
    dialect: D,
    url: String,
    root: String,
    link: Arc<Link<D::Client>>,
    counts: Arc<Counts>,
}

impl<D: Dialect> Bucket<D> {
    /// The error is a text for the user: which setting is wrong.
    pub(super) fn new(settings: &StoreSettings, links: &Links<D::Client>) -> Result<Bucket<D>, String> {
        Ok(Bucket {
            dialect: D::new(settings)?,
            url: settings.url.trim_end_matches('/').to_owned(),
            root: D::root(&settings.path),
            link: links.to(settings),
            counts: Arc::default(),
        })
    }

    async fn client(&self) -> Result<&Arc<D::Client>, Failure> {
        let client = self.link.client(async || D::connect(&self.link.settings, &self.link.clock).await).await;
        client.map_err(|detail| Failure {
            about: About::Connection,
            ..Failure::new(StoreErrorKind::Denied, detail)
        })
    }

    fn name(&self, key: &str) -> Result<String, Failure> {
        if key::is_object(key) {
            Ok(format!("{}{key}", self.root))
        } else {
            Err(Failure::invalid("not a valid key"))
        }
    }

    /// Holds a call to its deadline, counts it, and names operation and subject in its error.
    async fn call<T>(
        &self,
        (operation, verb): (Operation, &'static str),
        key: &str,
        by: Deadline,
        work: impl Future<Output = Result<T, Failure>>,
        result: impl FnOnce(&T) -> CallResult,
    ) -> Result<T, StoreError> {
        let mut counting = self.counts.begin(operation);
        let answer = within(by, work).await;
        counting.result = match &answer {
            Ok(value) => result(value),
            Err(failure) => CallResult::Failed(failure.kind),
        };
        if let (CallResult::Failed(StoreErrorKind::TimedOut), Some(client)) =
            (counting.result, self.link.built_client())
        {
            D::timed_out(client);
        }
        answer.map_err(|failure| self.error(verb, key, failure))
    }

    fn error(&self, verb: &'static str, key: &str, failure: Failure) -> StoreError {
        let (verb, subject) = match failure.about {
            About::Connection => ("prepare the connection to", self.url.clone()),
            About::Deleted(name) => {
                ("delete", format!("{}/{}", self.url, name.strip_prefix(&self.root).unwrap_or(&name)))
            }
            About::Call if verb == DELETE.1 => (verb, self.url.clone()),
            About::Call => (verb, format!("{}/{key}", self.url)),
        };
        StoreError::new(failure.kind, verb, subject, failure.detail).with_retry_after(failure.retry_after)
    }
}

const LIST: (Operation, &str) = (Operation::List, "list");
const GET: (Operation, &str) = (Operation::Get, "get");
const CREATE: (Operation, &str) = (Operation::Put, "create");
const PROBE: (Operation, &str) = (Operation::Put, "probe the conditions of");
const PUT: (Operation, &str) = (Operation::Put, "put");
const DELETE: (Operation, &str) = (Operation::Delete, "delete in");

fn ok<T>(_: &T) -> CallResult {
    CallResult::Ok
}

impl<D: Dialect> Bucket<D> {
    /// All pages, or those up to the one at which `read` says that it has enough. `read` gets the page and
    /// whether another one follows.
    async fn pages(
        &self,
        request: PageRequest<'_>,
        mut read: impl FnMut(Listing, bool) -> Result<bool, String> + Send,
    ) -> Result<(), Failure> {
        let client = self.client().await?;
        let (mut token, mut paging) = (String::new(), Paging::default());
        loop {
            let listing = self.dialect.list(client, PageRequest { token: &token, ..request }).await?;
            let next = paging.next(&listing).map_err(Failure::suspicious)?;
            let enough = read(listing, next.is_some()).map_err(|problem| Failure::suspicious(&problem))?;
            match next {
                Some(next) if !enough => token = next,
                _ => return Ok(()),
            }
        }
    }

    /// S3 keeps the keys of an empty path behind a slash, as Litestream does; some stores drop that slash.
    fn is_slash_root(&self) -> bool {
        self.root == "/"
    }

    async fn objects(&self, prefix: &str) -> Result<Vec<Object>, Failure> {
        if !key::is_prefix(prefix) {
            return Err(Failure::invalid("not a valid prefix"));
        }
        let objects = self.objects_below(&self.root, prefix).await?;
        if objects.is_empty() && self.is_slash_root() {
            return self.objects_below("", prefix).await;
        }
        Ok(objects)
    }

    async fn objects_below(&self, root: &str, prefix: &str) -> Result<Vec<Object>, Failure> {
        let mut objects = Vec::new();
        let request = PageRequest { prefix: &format!("{root}{prefix}"), ..PageRequest::default() };
        let read =
            |listing: Listing, _| listing.objects(root).map(|page| objects.extend(page)).map(|()| false);
        self.pages(request, read).await?;
        Ok(objects)
    }

    /// A page without objects of the replica names no key to go on from, so the next one is read. A service
    /// that cannot begin at a name, or ignores it, sends everything.
    async fn objects_after(&self, prefix: &str, after: &str) -> Result<Page, Failure> {
        let mut page = Page::default();
        let mut ignores_start = !D::LISTS_FROM && !after.is_empty();
        if !ignores_start {
            let start = if after.is_empty() { String::new() } else { format!("{}{after}", self.root) };
            let prefix = format!("{}{prefix}", self.root);
            let request = PageRequest { prefix: &prefix, start: &start, ..PageRequest::default() };
            let read = |listing: Listing, more| {
                let mut objects = listing.objects(&self.root)?;
                ignores_start = objects.iter().any(|object| object.key.as_str() < after);
                objects.retain(|object| object.key.as_str() > after);
                page = Page { objects, more };
                Ok(ignores_start || !page.objects.is_empty())
            };
            self.pages(request, read).await?;
        }
        if ignores_start || page.objects.is_empty() && self.is_slash_root() {
            let mut objects = self.objects(prefix).await?;
            objects.retain(|object| object.key.as_str() > after);
            return Ok(Page { objects, more: false });
        }
        Ok(page)
    }

    async fn directories_of_root(&self) -> Result<Vec<String>, Failure> {
        let root = if self.is_slash_root() { "" } else { self.root.as_str() };
        let mut names = Vec::new();
        let request = PageRequest { prefix: root, by_directory: true, ..PageRequest::default() };
        let read = |listing: Listing, _| {
            names.extend(listing.directories(root));
            Ok(false)
        };
        self.pages(request, read).await?;
        Ok(names)
    }

    async fn content(&self, key: &str, range: Option<Range<u64>>, take: Take<'_>) -> Result<(), Failure> {
        let name = self.name(key)?;
        if range.as_ref().is_some_and(Range::is_empty) {
            return Err(Failure::invalid("the range asked for is empty"));
        }
        match (
            self.dialect.get(self.client().await?, &name, Download::new(range.clone(), take)).await?,
            range,
        ) {
            (Got::RangeRefused, Some(range)) => {
                suspicion::refused_range(key, &range, &self.objects(key).await?)
            }
            _ => Ok(()),
        }
    }

    async fn whole_content(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
        let pieces = Mutex::new(Vec::new());
        self.content(key, range, &|piece| pieces.lock().unwrap_or_else(PoisonError::into_inner).push(piece))
            .await?;
        let mut pieces = pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(if pieces.len() == 1 { pieces.pop().unwrap_or_default() } else { pieces.concat().into() })
    }

    async fn create(&self, key: &str, body: Body, timestamp_ms: i64, by: Deadline) -> Result<Put, Failure> {
        let name = self.name(key)?;
        let client = self.client().await?;
        let mut rest = Parts::new(body, self.dialect.part_size());
        let first = rest.next().await.map_err(Failure::invalid)?.unwrap_or_default();
        self.dialect.create(client, NewObject { name, first, rest, timestamp_ms }, by).await
    }

    async fn replace(&self, key: &str, content: Bytes) -> Result<(), Failure> {
        let name = self.name(key)?;
        self.dialect.put(self.client().await?, &name, content).await
    }

    /// Every request has a permit of its own: a call that kept one while its requests wait for theirs could
    /// wait for ever.
    async fn delete_all(&self, keys: &[String]) -> Result<(), Failure> {
        let name =
            |key: &String| self.name(key).map_err(|failure| failure.deleting(&format!("{}{key}", self.root)));
        let names = keys.iter().map(name).collect::<Result<Vec<String>, Failure>>()?;
        if names.is_empty() {
            return Ok(());
        }
        let client = self.client().await?;
        let (size, at_once) = D::DELETES;
        let batches: Vec<&[String]> = names.chunks(size).collect();
        let next = AtomicUsize::new(0);
        let lane = || async {
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.link.with_permit(self.dialect.delete(client, batch)).await?;
            }
            Ok(())
        };
        try_join_all((0..at_once).map(|_| lane())).await.map(drop)
    }
}

impl<D: Dialect> Store for Bucket<D> {
    fn url(&self) -> &str {
        &self.url
    }

    fn layout(&self) -> Layout {
        D::LAYOUT
    }

    fn counts(&self) -> Option<Arc<Counts>> {
        Some(Arc::clone(&self.counts))
    }

    fn clock(&self) -> Option<Arc<StoreClock>> {
        Some(Arc::clone(&self.link.clock))
    }

    fn creates_exclusively<'a>(&'a self, by: Deadline) -> StoreFuture<'a, bool> {
        let ask = async { self.dialect.creates_exclusively(self.client().await?).await };
        Box::pin(self.call(PROBE, "", by, self.link.with_permit(ask), ok))
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        Box::pin(self.call(LIST, prefix, by, self.link.with_permit(self.objects(prefix)), ok))
    }

    fn list_page<'a>(&'a self, prefix: &'a str, after: &'a str, by: Deadline) -> StoreFuture<'a, Page> {
        Box::pin(self.call(LIST, prefix, by, self.link.with_permit(self.objects_after(prefix, after)), ok))
    }

    fn directories<'a>(&'a self, by: Deadline) -> StoreFuture<'a, Vec<String>> {
        Box::pin(self.call(LIST, "", by, self.link.with_permit(self.directories_of_root()), ok))
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes> {
        Box::pin(self.call(GET, key, by, self.link.with_permit(self.whole_content(key, range)), ok))
    }

    fn get_into<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        take: Take<'a>,
        by: Deadline,
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.call(GET, key, by, self.link.with_permit(self.content(key, range, take)), ok))
    }

    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
        timestamp_ms: i64,
        by: Deadline,
    ) -> StoreFuture<'a, Put> {
        Box::pin(async move {
            // The parts of a stream are few and slow: a permit would be kept from many small requests.
            let streamed = matches!(body, Body::Stream(_));
            let created = self.create(key, body, timestamp_ms, by);
            let work = async { if streamed { created.await } else { self.link.with_permit(created).await } };
            let result = |put: &Put| if *put == Put::Created { CallResult::Ok } else { CallResult::Exists };
            self.call(CREATE, key, by, work, result).await
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(self.call(PUT, key, by, self.link.with_permit(self.replace(key, body)), ok))
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(self.call(DELETE, "", by, self.delete_all(keys), ok))
    }
}

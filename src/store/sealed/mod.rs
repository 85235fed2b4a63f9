//! An encrypted replica: a store around another one, in which every LTX file is an age file. Names stay
//! readable, and so do the records (`owner/`, `proof/`, `setup/`), which hold no content of the database.
//! Without keys it only refuses what is encrypted.
//!
//! A listing cannot say how long the headers of its files are, so sizes are those of a file with one
//! recipient: of one with more the content is shorter, by less than `SIZE_SLACK`.

mod head;
mod keys;
mod payload;
mod problem;
mod reading;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod writing;

use super::layout::Layout;
use super::{Body, Counts, Object, Page, Put, Store, StoreClock, StoreError, StoreFuture, Take};
use crate::model::Deadline;
use bytes::Bytes;
use head::{LEAST_BYTES, MOST_BYTES};
pub use keys::Keys;
use payload::{NONCE, sealed_range};
use problem::Problem;
use reading::{Known, Reading};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Headers that are remembered, so that another range of the same object is one request.
const REMEMBERED: usize = 64;
/// What is asked for first of a header.
const USUAL_HEAD: u64 = 1 << 10;

pub struct Sealed {
    inner: Arc<dyn Store>,
    keys: Option<Keys>,
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ltx,
    /// Of a Litestream 0.3 replica: only read, encrypted or not.
    V3,
    /// Never encrypted.
    Record,
}

fn kind(key: &str) -> Kind {
    if key.ends_with(".ltx") {
        Kind::Ltx
    } else if key.starts_with("generations/") && key.ends_with(".lz4") {
        Kind::V3
    } else {
        Kind::Record
    }
}

impl Sealed {
    pub fn new(inner: Arc<dyn Store>, keys: Option<Keys>) -> Sealed {
        Sealed { inner, keys, known: Mutex::default() }
    }

    fn error(&self, key: &str, problem: &Problem) -> StoreError {
        let names = self.keys.as_ref().map(Keys::names).unwrap_or_default();
        problem.error(format!("{}/{key}", self.inner.url()), &names)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, key: &str, known: Known) {
        let mut all = self.known();
        if all.len() >= REMEMBERED {
            all.pop_first();
        }
        all.insert(key.to_owned(), known);
    }

    /// What the object begins with.
    async fn look(&self, key: &str, kind: Kind, by: Deadline) -> Result<Known, StoreError> {
        if let Some(known) = self.known().get(key) {
            return Ok(known.clone());
        }
        let mut most = USUAL_HEAD;
        loop {
            let bytes = self.inner.get(key, Some(0..most), by).await?;
            let is_all = (bytes.len() as u64) < most;
            match reading::unlock(self.keys.as_ref(), kind == Kind::V3, &bytes) {
                Ok(Some(known)) => {
                    self.remember(key, known.clone());
                    return Ok(known);
                }
                Ok(None) if is_all => return Err(self.error(key, &Problem::Truncated)),
                Ok(None) => most = (MOST_BYTES + NONCE) as u64,
                Err(problem) => return Err(self.error(key, &problem)),
            }
        }
    }

    async fn content(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        take: Take<'_>,
        by: Deadline,
    ) -> Result<(), StoreError> {
        let kind = kind(key);
        let begins = range.as_ref().is_none_or(|range| range.start == 0);
        if kind == Kind::Record
            || (self.keys.is_none() && !begins)
            || range.as_ref().is_some_and(Range::is_empty)
        {
            return self.inner.get_into(key, range, take, by).await;
        }
        let want = range.clone().unwrap_or(0..u64::MAX);
        let (asked, reading) = match range {
            Some(range) if !begins => match self.look(key, kind, by).await? {
                Known::Plain => (Some(range), Reading::plain(&want)),
                Known::Sealed { key, at } => {
                    let inside = sealed_range(&range);
                    let asked = at.saturating_add(inside.start)..at.saturating_add(inside.end);
                    (Some(asked), Reading::sealed(key, want))
                }
            },
            Some(range) if self.keys.is_some() => {
                let most = sealed_range(&range).end.saturating_add((MOST_BYTES + NONCE) as u64);
                (Some(0..most), Reading::begin(want))
            }
            whole_or_plain => (whole_or_plain, Reading::begin(want)),
        };
        let keys = self.keys.as_ref();
        let reading = Mutex::new(reading);
        let locked = || reading.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = |bytes: Bytes| locked().feed(keys, kind == Kind::V3, bytes, take);
        self.inner.get_into(key, asked, &feed, by).await?;
        match locked().finish(keys, kind == Kind::V3, take) {
            Ok(known) => {
                if let Some(known) = known {
                    self.remember(key, known);
                }
                Ok(())
            }
            Err(problem) => {
                // Another object may have the name now.
                self.known().remove(key);
                Err(self.error(key, &problem))
            }
        }
    }

    /// Sizes of the content in place of those of the files.
    fn sizes(&self, objects: &mut [Object]) {
        if self.keys.is_some() {
            for object in objects.iter_mut().filter(|object| kind(&object.key) == Kind::Ltx) {
                object.size = payload::content_bytes(object.size, LEAST_BYTES as u64);
            }
        }
    }
}

impl Store for Sealed {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn layout(&self) -> Layout {
        self.inner.layout()
    }

    fn counts(&self) -> Option<Arc<Counts>> {
        self.inner.counts()
    }

    fn clock(&self) -> Option<Arc<StoreClock>> {
        self.inner.clock()
    }

    fn creates_exclusively<'a>(&'a self, by: Deadline) -> StoreFuture<'a, bool> {
        self.inner.creates_exclusively(by)
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        Box::pin(async move {
            let mut objects = self.inner.list(prefix, by).await?;
            self.sizes(&mut objects);
            Ok(objects)
        })
    }

    fn list_page<'a>(&'a self, prefix: &'a str, after: &'a str, by: Deadline) -> StoreFuture<'a, Page> {
        Box::pin(async move {
            let mut page = self.inner.list_page(prefix, after, by).await?;
            self.sizes(&mut page.objects);
            Ok(page)
        })
    }

    fn directories<'a>(&'a self, by: Deadline) -> StoreFuture<'a, Vec<String>> {
        self.inner.directories(by)
    }

    fn check_key<'a>(&'a self, key: &'a str, by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            match kind(key) {
                kind @ (Kind::Ltx | Kind::V3) if self.keys.is_some() => {
                    self.look(key, kind, by).await.map(drop)
                }
                _ => Ok(()),
            }
        })
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes> {
        Box::pin(async move {
            let pieces = Mutex::new(Vec::new());
            let take = |piece| pieces.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
            self.content(key, range, &take, by).await?;
            let mut pieces = pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok(if pieces.len() == 1 { pieces.pop().unwrap_or_default() } else { pieces.concat().into() })
        })
    }

    fn get_into<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        take: Take<'a>,
        by: Deadline,
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.content(key, range, take, by))
    }

    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
        timestamp_ms: i64,
        by: Deadline,
    ) -> StoreFuture<'a, Put> {
        Box::pin(async move {
            let Some(keys) = self.keys.as_ref().filter(|_| kind(key) != Kind::Record) else {
                return self.inner.put_new(key, body, timestamp_ms, by).await;
            };
            let failed = |problem: Problem| self.error(key, &problem);
            match body {
                Body::Whole(bytes) => {
                    let body = Body::Whole(writing::whole(keys, &bytes).map_err(failed)?);
                    self.inner.put_new(key, body, timestamp_ms, by).await
                }
                Body::Stream(content) => {
                    let (sealing, body) = writing::stream(keys, content).map_err(failed)?;
                    let put = self.inner.put_new(key, body, timestamp_ms, by);
                    tokio::pin!(put);
                    tokio::select! {
                        biased;
                        done = &mut put => done,
                        () = sealing => put.await,
                    }
                }
            }
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let body = match &self.keys {
                Some(keys) if kind(key) != Kind::Record => {
                    writing::whole(keys, &body).map_err(|problem| self.error(key, &problem))?
                }
                _ => body,
            };
            self.inner.put(key, body, by).await
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        self.inner.delete(keys, by)
    }
}

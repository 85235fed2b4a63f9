//! A store that is read slowly: each download waits until what was read before fits into the bandwidth.
//! Everything else goes on as fast as it can.

use super::layout::Layout;
use super::{Body, Counts, Object, Page, Put, Store, StoreClock, StoreFuture, Take};
use crate::model::Deadline;
use bytes::Bytes;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub struct Paced {
    store: Arc<dyn Store>,
    /// Bytes a second.
    bandwidth: u64,
    free_at: Mutex<Instant>,
}

impl Paced {
    pub fn new(store: Arc<dyn Store>, bandwidth: u64) -> Paced {
        Paced { store, bandwidth: bandwidth.max(1), free_at: Mutex::new(Instant::now()) }
    }

    fn free_at(&self) -> Instant {
        *self.free_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of the next request: when it begins, and its deadline, whose time begins then.
    async fn turn(&self, by: Deadline) -> (Instant, Deadline) {
        let span = by.left();
        tokio::time::sleep_until(self.free_at().into()).await;
        (Instant::now(), Deadline::after(span))
    }

    fn took(&self, begun: Instant, bytes: u64) {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = later(*free_at, begun, bytes, self.bandwidth);
    }
}

/// When the next download may begin, after one of so many bytes.
fn later(free_at: Instant, begun: Instant, bytes: u64, bandwidth: u64) -> Instant {
    let millis = u128::from(bytes) * 1000 / u128::from(bandwidth.max(1));
    let span = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX).min(3_600_000));
    // A pause before it is not made up for.
    free_at.max(begun) + span
}

impl Store for Paced {
    fn url(&self) -> &str {
        self.store.url()
    }

    fn layout(&self) -> Layout {
        self.store.layout()
    }

    fn counts(&self) -> Option<Arc<Counts>> {
        self.store.counts()
    }

    fn clock(&self) -> Option<Arc<StoreClock>> {
        self.store.clock()
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        self.store.list(prefix, by)
    }

    fn list_page<'a>(&'a self, prefix: &'a str, after: &'a str, by: Deadline) -> StoreFuture<'a, Page> {
        self.store.list_page(prefix, after, by)
    }

    fn check_key<'a>(&'a self, key: &'a str, by: Deadline) -> StoreFuture<'a, ()> {
        self.store.check_key(key, by)
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes> {
        Box::pin(async move {
            let (begun, by) = self.turn(by).await;
            let got = self.store.get(key, range, by).await;
            self.took(begun, got.as_ref().map_or(0, |bytes| bytes.len() as u64));
            got
        })
    }

    fn get_into<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        take: Take<'a>,
        by: Deadline,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let (begun, by) = self.turn(by).await;
            let bytes = AtomicU64::new(0);
            let counted = |piece: Bytes| {
                bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                take(piece);
            };
            let got = self.store.get_into(key, range, &counted, by).await;
            self.took(begun, bytes.load(Ordering::Relaxed));
            got
        })
    }

    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
        timestamp_ms: i64,
        by: Deadline,
    ) -> StoreFuture<'a, Put> {
        self.store.put_new(key, body, timestamp_ms, by)
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        self.store.put(key, body, by)
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        self.store.delete(keys, by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for (free_at, begun, bytes, expected) in [
            // After a pause; right after the one before; at the same time as another one.
            (at(0), at(5000), 1000, at(6000)),
            (at(6000), at(6000), 500, at(6500)),
            (at(6500), at(6000), 1000, at(7500)),
            (at(0), at(5000), 0, at(5000)),
        ] {
            assert_eq!(later(free_at, begun, bytes, 1000), expected, "{bytes}");
        }
    }
}

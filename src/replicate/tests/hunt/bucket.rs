//! Object storage in memory, as strict as a real one: objects appear whole, `put_new` never replaces. Faults
//! are `store::faulty`'s, around it.

use crate::model::Deadline;
use crate::store::layout::Layout;
use crate::store::{Body, Chunk, Object, Put, Store, StoreError, StoreErrorKind, StoreFuture};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

#[derive(Default)]
struct Content {
    objects: BTreeMap<String, (Bytes, i64)>,
    changes: u64,
}

pub struct Bucket {
    layout: Layout,
    content: Mutex<Content>,
}

impl Bucket {
    pub fn new(layout: Layout) -> Bucket {
        Bucket { layout, content: Mutex::default() }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    /// Counts up with every change.
    pub fn changes(&self) -> u64 {
        self.content().changes
    }

    /// What a hand does, not a program of ours.
    pub fn lose(&self, keys: &[String]) {
        let mut content = self.content();
        content.changes += 1;
        content.objects.retain(|key, _| !keys.contains(key));
    }

    fn create(&self, key: &str, bytes: Bytes, timestamp_ms: i64) -> Put {
        let mut content = self.content();
        if content.objects.contains_key(key) {
            return Put::Exists;
        }
        content.changes += 1;
        content.objects.insert(key.to_owned(), (bytes, timestamp_ms));
        Put::Created
    }

    fn error(&self, kind: StoreErrorKind, operation: &'static str, key: &str, detail: &str) -> StoreError {
        StoreError::new(kind, operation, format!("{}/{key}", self.url()), detail)
    }
}

impl Store for Bucket {
    fn url(&self) -> &str {
        "memory://hunt"
    }

    fn layout(&self) -> Layout {
        self.layout
    }

    fn list<'a>(&'a self, prefix: &'a str, _: Deadline) -> StoreFuture<'a, Vec<Object>> {
        Box::pin(async move {
            let content = self.content();
            let found = content.objects.iter().filter(|(key, _)| key.starts_with(prefix));
            let object = |(key, (bytes, modified_ms)): (&String, &(Bytes, i64))| Object {
                key: key.clone(),
                size: bytes.len() as u64,
                modified_ms: *modified_ms,
            };
            Ok(found.map(object).collect())
        })
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, _: Deadline) -> StoreFuture<'a, Bytes> {
        Box::pin(async move {
            let found = self.content().objects.get(key).map(|(bytes, _)| bytes.clone());
            let bytes =
                found.ok_or_else(|| self.error(StoreErrorKind::NotFound, "get", key, "there is none"))?;
            let range = range.unwrap_or(0..bytes.len() as u64);
            let end = range.end.min(bytes.len() as u64);
            if range.start >= end {
                return Err(self.error(StoreErrorKind::Invalid, "get", key, "the range is empty"));
            }
            Ok(bytes.slice(range.start as usize..end as usize))
        })
    }

    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
        timestamp_ms: i64,
        _: Deadline,
    ) -> StoreFuture<'a, Put> {
        Box::pin(async move {
            let bytes = match body {
                Body::Whole(bytes) => bytes,
                Body::Stream(mut chunks) => {
                    let mut whole = Vec::new();
                    loop {
                        match chunks.recv().await {
                            Some(Chunk::Data(bytes)) => whole.extend(bytes),
                            Some(Chunk::End) => break Bytes::from(whole),
                            None => {
                                return Err(self.error(StoreErrorKind::Invalid, "put", key, "producer gone"));
                            }
                        }
                    }
                }
            };
            Ok(self.create(key, bytes, timestamp_ms))
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, _: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            assert!(!key.ends_with(".ltx"), "{key} would be overwritten");
            self.content().objects.insert(key.to_owned(), (body, 0));
            Ok(())
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String], _: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.lose(keys);
            Ok(())
        })
    }
}

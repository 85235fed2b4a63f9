//! Counts what is asked of a store, by operation and by how it ended. Owns the counters; everything else is handed on as
//! it is. One call is one operation, however many requests it takes.

use super::{Body, Object, Page, Put, Store, StoreError, StoreErrorKind, StoreFuture, layout::Layout};
use crate::model::Deadline;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    List,
    Get,
    Put,
    Delete,
}

impl Operation {
    pub const ALL: [Operation; 4] = [Operation::List, Operation::Get, Operation::Put, Operation::Delete];

    pub fn name(self) -> &'static str {
        match self {
            Operation::List => "list",
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::Delete => "delete",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    Ok,
    /// A create-only put met an object.
    Exists,
    Failed(StoreErrorKind),
    /// Whoever asked did not wait for the answer.
    GivenUp,
}

impl CallResult {
    pub const ALL: [CallResult; 8] = [
        CallResult::Ok,
        CallResult::Exists,
        CallResult::Failed(StoreErrorKind::NotFound),
        CallResult::Failed(StoreErrorKind::Denied),
        CallResult::Failed(StoreErrorKind::Unreachable),
        CallResult::Failed(StoreErrorKind::TimedOut),
        CallResult::Failed(StoreErrorKind::Invalid),
        CallResult::GivenUp,
    ];

    pub fn name(self) -> &'static str {
        match self {
            CallResult::Ok => "ok",
            CallResult::Exists => "exists",
            CallResult::Failed(StoreErrorKind::NotFound) => "not_found",
            CallResult::Failed(StoreErrorKind::Denied) => "denied",
            CallResult::Failed(StoreErrorKind::Unreachable) => "unreachable",
            CallResult::Failed(StoreErrorKind::TimedOut) => "timed_out",
            CallResult::Failed(StoreErrorKind::Invalid) => "invalid",
            CallResult::GivenUp => "given_up",
        }
    }
}

/// What was asked of one store so far.
#[derive(Debug, Default)]
pub struct Counts([[AtomicU64; CallResult::ALL.len()]; Operation::ALL.len()]);

impl Counts {
    fn cell(&self, operation: Operation, result: CallResult) -> Option<&AtomicU64> {
        let row = Operation::ALL.iter().position(|known| *known == operation)?;
        let column = CallResult::ALL.iter().position(|known| *known == result)?;
        self.0.get(row)?.get(column)
    }

    pub fn get(&self, operation: Operation, result: CallResult) -> u64 {
        self.cell(operation, result).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    fn add(&self, operation: Operation, result: CallResult) {
        if let Some(cell) = self.cell(operation, result) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(super) struct Counted {
    inner: Arc<dyn Store>,
    counts: Arc<Counts>,
}

impl Counted {
    pub(super) fn new(inner: Arc<dyn Store>) -> Counted {
        Counted { inner, counts: Arc::default() }
    }

    async fn call<T>(
        &self,
        operation: Operation,
        call: StoreFuture<'_, T>,
        result: impl FnOnce(&T) -> CallResult,
    ) -> Result<T, StoreError> {
        let mut counting = Counting { counts: &self.counts, operation, result: CallResult::GivenUp };
        let answer = call.await;
        counting.result = match &answer {
            Ok(value) => result(value),
            Err(error) => CallResult::Failed(error.kind),
        };
        answer
    }
}

/// Counts at its end, also when the call is dropped.
struct Counting<'a> {
    counts: &'a Counts,
    operation: Operation,
    result: CallResult,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.counts.add(self.operation, self.result);
    }
}

fn fine<T>(_: &T) -> CallResult {
    CallResult::Ok
}

impl Store for Counted {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn layout(&self) -> Layout {
        self.inner.layout()
    }

    fn counts(&self) -> Option<Arc<Counts>> {
        Some(Arc::clone(&self.counts))
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        Box::pin(self.call(Operation::List, self.inner.list(prefix, by), fine))
    }

    fn list_page<'a>(&'a self, prefix: &'a str, after: &'a str, by: Deadline) -> StoreFuture<'a, Page> {
        Box::pin(self.call(Operation::List, self.inner.list_page(prefix, after, by), fine))
    }

    fn directories<'a>(&'a self, by: Deadline) -> StoreFuture<'a, Vec<String>> {
        Box::pin(self.call(Operation::List, self.inner.directories(by), fine))
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes> {
        Box::pin(self.call(Operation::Get, self.inner.get(key, range, by), fine))
    }

    fn get_into<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        take: &'a (dyn Fn(Bytes) + Send + Sync),
        by: Deadline,
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.call(Operation::Get, self.inner.get_into(key, range, take, by), fine))
    }

    fn put_new<'a>(&'a self, key: &'a str, body: Body, timestamp_ms: i64, by: Deadline) -> StoreFuture<'a, Put> {
        let created = |put: &Put| match put {
            Put::Created => CallResult::Ok,
            Put::Exists => CallResult::Exists,
        };
        Box::pin(self.call(Operation::Put, self.inner.put_new(key, body, timestamp_ms, by), created))
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(self.call(Operation::Put, self.inner.put(key, body, by), fine))
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(self.call(Operation::Delete, self.inner.delete(keys, by), fine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::{Call, Fault, Faulty};
    use crate::store::{Scheme, StoreSettings, open};
    use std::time::Duration;

    #[tokio::test]
    async fn every_call_is_counted_once_by_how_it_ended() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_str().unwrap().to_owned();
        let settings = StoreSettings::new(Scheme::File, format!("file://{path}"), String::new(), path);
        let faulty = Arc::new(Faulty::new(open(&settings).unwrap()));
        let store = Counted::new(Arc::clone(&faulty) as Arc<dyn Store>);
        let by = || Deadline::after(Duration::from_secs(20));
        let body = || Body::Whole(Bytes::from_static(b"x"));
        for _ in 0..2 {
            store.put_new("a", body(), 0, by()).await.unwrap();
        }
        store.put("b", Bytes::new(), by()).await.unwrap();
        store.get("a", None, by()).await.unwrap();
        store.get_into("a", None, &|_| {}, by()).await.unwrap();
        store.get("none", None, by()).await.unwrap_err();
        store.list("", by()).await.unwrap();
        store.list_page("", "", by()).await.unwrap();
        store.directories(by()).await.unwrap();
        store.delete(&["a".to_owned()], by()).await.unwrap();
        faulty.all(None, Fault::Fail(StoreErrorKind::Denied));
        store.list("", by()).await.unwrap_err();
        faulty.heal();
        faulty.nth(Call::Delete, 1, Fault::Hang);
        let never = store.delete(&[], by());
        assert!(tokio::time::timeout(Duration::from_millis(5), never).await.is_err());
        let counts = store.counts().unwrap();
        let told = |operation| CallResult::ALL.map(|result| counts.get(operation, result));
        assert_eq!(told(Operation::Put), [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(told(Operation::Get), [2, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(told(Operation::List), [3, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(told(Operation::Delete), [1, 0, 0, 0, 0, 0, 0, 1]);
    }
}

//! A test tool: a store that misbehaves on demand around a real one. In: rules, made by the test. Out: what the real store
//! says, or the fault. Never: used outside tests.

use super::{Body, Object, Put, Store, StoreError, StoreErrorKind, StoreFuture, layout::Layout};
use crate::model::Deadline;
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    List,
    Get,
    PutNew,
    Put,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The real store is not asked.
    Fail(StoreErrorKind),
    /// The real store is asked after this long (or never, when the deadline comes first).
    Delay(Duration),
    /// Silence until the deadline; the real store is not asked.
    Hang,
    /// The real store does it, but the caller hears of a broken connection.
    LoseReply,
}

struct Rule {
    /// None: every kind of call.
    call: Option<Call>,
    /// Matching calls to let pass first.
    skip: u32,
    /// Matching calls to hit after that.
    times: u32,
    fault: Fault,
}

#[derive(Default)]
struct Plan {
    rules: Vec<Rule>,
    seen: Vec<Call>,
}

pub struct Faulty {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Store>) -> Faulty {
        Faulty { inner, plan: Mutex::default() }
    }

    /// The `nth` call of this kind from now (1 = the next) meets the fault.
    pub fn nth(&self, call: Call, nth: u32, fault: Fault) {
        self.plan().rules.push(Rule { call: Some(call), skip: nth.saturating_sub(1), times: 1, fault });
    }

    /// Every call of this kind (None: of any kind) meets the fault until `heal`.
    pub fn all(&self, call: Option<Call>, fault: Fault) {
        self.plan().rules.push(Rule { call, skip: 0, times: u32::MAX, fault });
    }

    /// Forgets all rules.
    pub fn heal(&self) {
        self.plan().rules.clear();
    }

    /// Calls of this kind so far, disturbed or not.
    pub fn count(&self, call: Call) -> usize {
        self.plan().seen.iter().filter(|seen| **seen == call).count()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, call: Call) -> Option<Fault> {
        let mut plan = self.plan();
        plan.seen.push(call);
        let mut met = None;
        // Every rule counts every call, also when an earlier rule has struck.
        for rule in plan.rules.iter_mut().filter(|rule| rule.call.is_none_or(|wanted| wanted == call)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 && met.is_none() {
                rule.times = if rule.times == u32::MAX { u32::MAX } else { rule.times - 1 };
                met = Some(rule.fault);
            }
        }
        met
    }

    async fn disturb<T>(&self, call: Call, by: Deadline, real: StoreFuture<'_, T>) -> Result<T, StoreError> {
        let error = |kind| Err(StoreError::new(kind, "reach", self.inner.url(), "injected by a test"));
        match self.meet(call) {
            None => real.await,
            Some(Fault::Fail(kind)) => error(kind),
            Some(Fault::Delay(span)) if by.left() > span => {
                tokio::time::sleep(span).await;
                real.await
            }
            Some(Fault::Delay(_) | Fault::Hang) => {
                tokio::time::sleep(by.left()).await;
                error(StoreErrorKind::TimedOut)
            }
            Some(Fault::LoseReply) => real.await.and_then(|_| error(StoreErrorKind::Unreachable)),
        }
    }
}

impl Store for Faulty {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn layout(&self) -> Layout {
        self.inner.layout()
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        Box::pin(self.disturb(Call::List, by, self.inner.list(prefix, by)))
    }

    fn directories<'a>(&'a self, by: Deadline) -> StoreFuture<'a, Vec<String>> {
        Box::pin(self.disturb(Call::List, by, self.inner.directories(by)))
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes> {
        Box::pin(self.disturb(Call::Get, by, self.inner.get(key, range, by)))
    }

    fn put_new<'a>(&'a self, key: &'a str, body: Body, timestamp_ms: i64, by: Deadline) -> StoreFuture<'a, Put> {
        Box::pin(self.disturb(Call::PutNew, by, self.inner.put_new(key, body, timestamp_ms, by)))
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(self.disturb(Call::Put, by, self.inner.put(key, body, by)))
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(self.disturb(Call::Delete, by, self.inner.delete(keys, by)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Scheme, StoreSettings, file::FileStore};

    fn store(root: &std::path::Path) -> Faulty {
        let path = root.to_str().unwrap().to_owned();
        let settings = StoreSettings::new(Scheme::File, format!("file://{path}"), String::new(), path);
        Faulty::new(Arc::new(FileStore::new(&settings)))
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    async fn create(store: &Faulty, key: &str) -> Result<Put, StoreErrorKind> {
        let body = Body::Whole(Bytes::from_static(b"x"));
        store.put_new(key, body, 0, soon()).await.map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn faults_meet_the_call_they_were_made_for() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        store.nth(Call::PutNew, 2, Fault::Fail(StoreErrorKind::Denied));
        store.nth(Call::PutNew, 3, Fault::LoseReply);
        assert_eq!(create(&store, "a").await, Ok(Put::Created));
        assert!(store.list("", soon()).await.is_ok());
        assert_eq!(create(&store, "b").await, Err(StoreErrorKind::Denied));
        assert_eq!(create(&store, "b").await, Err(StoreErrorKind::Unreachable));
        assert_eq!(create(&store, "b").await, Ok(Put::Exists), "the lost reply was to a put that went through");
        assert_eq!((store.count(Call::PutNew), store.count(Call::List)), (4, 1));
    }

    #[tokio::test]
    async fn a_broken_store_stays_broken_until_it_heals() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        store.all(None, Fault::Fail(StoreErrorKind::Unreachable));
        for _ in 0..3 {
            assert_eq!(create(&store, "a").await, Err(StoreErrorKind::Unreachable));
        }
        store.heal();
        assert_eq!(create(&store, "a").await, Ok(Put::Created));
    }

    #[tokio::test]
    async fn silence_lasts_to_the_deadline_and_a_delay_no_longer_than_it_says() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let span = Duration::from_millis(50);
        store.nth(Call::List, 1, Fault::Hang);
        store.nth(Call::List, 2, Fault::Delay(Duration::from_secs(60)));
        store.nth(Call::List, 3, Fault::Delay(span));
        for _ in 0..2 {
            let by = Deadline::after(span);
            assert_eq!(store.list("", by).await.unwrap_err().kind, StoreErrorKind::TimedOut);
            assert!(by.passed());
        }
        assert_eq!(store.list("", soon()).await.unwrap(), []);
    }
}

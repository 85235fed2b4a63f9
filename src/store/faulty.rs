//! A store for tests that misbehaves on demand around a real one.

use super::{Body, Object, Put, Store, StoreError, StoreErrorKind, StoreFuture, layout::Layout};
use crate::model::Deadline;
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

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
    /// The real store gets the call after this long (or never, if the deadline comes first).
    Delay(Duration),
    /// Silence until the deadline; the real store is not asked.
    Hang,
    /// The real store carries it out, but the caller gets a broken connection.
    LoseReply,
    /// The caller gets a broken connection, and the real store carries it out when `deliver` is called: a
    /// request that was given up is carried out after all. Only a whole new object is; any other call is as
    /// with `Fail`.
    Late,
    /// The caller dies here: `killed` returns, and the call never does. `after`: the real store has done it.
    Kill { after: bool },
}

/// A new object on its way.
struct Delayed {
    key: String,
    body: Bytes,
    timestamp_ms: i64,
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
    late: Vec<Delayed>,
}

pub struct Faulty {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
    killed: Notify,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Store>) -> Faulty {
        Faulty { inner, plan: Mutex::default(), killed: Notify::new() }
    }

    /// The `nth` call of this kind from now (1 = the next) meets the fault.
    pub fn nth(&self, call: Call, nth: u32, fault: Fault) {
        self.plan().rules.push(Rule { call: Some(call), skip: nth.saturating_sub(1), times: 1, fault });
    }

    /// The `nth` call from now, of whatever kind, meets the fault.
    pub fn nth_of_all(&self, nth: u32, fault: Fault) {
        self.plan().rules.push(Rule { call: None, skip: nth.saturating_sub(1), times: 1, fault });
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

    /// Returns when a call has met `Fault::Kill`.
    pub async fn killed(&self) {
        self.killed.notified().await;
    }

    /// What was given up is carried out now. How many there were.
    pub async fn deliver(&self, by: Deadline) -> Result<usize, StoreError> {
        let late = std::mem::take(&mut self.plan().late);
        let count = late.len();
        for Delayed { key, body, timestamp_ms } in late {
            self.inner.put_new(&key, Body::Whole(body), timestamp_ms, by).await?;
        }
        Ok(count)
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
        self.suffer(self.meet(call), by, real).await
    }

    async fn suffer<T>(
        &self,
        fault: Option<Fault>,
        by: Deadline,
        real: StoreFuture<'_, T>,
    ) -> Result<T, StoreError> {
        let error = |kind| Err(StoreError::new(kind, "reach", self.inner.url(), "injected by a test"));
        match fault {
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
            Some(Fault::Late) => error(StoreErrorKind::Unreachable),
            Some(Fault::Kill { after }) => {
                if after {
                    // The caller is dead: the result is lost.
                    let _ = real.await;
                }
                self.killed.notify_one();
                std::future::pending().await
            }
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

    fn creates_exclusively<'a>(&'a self, by: Deadline) -> StoreFuture<'a, bool> {
        self.inner.creates_exclusively(by)
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

    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
        timestamp_ms: i64,
        by: Deadline,
    ) -> StoreFuture<'a, Put> {
        Box::pin(async move {
            let met = self.meet(Call::PutNew);
            if let (Some(Fault::Late), Body::Whole(body)) = (met, &body) {
                let key = key.to_owned();
                let body = body.clone();
                self.plan().late.push(Delayed { key, body, timestamp_ms });
            }
            self.suffer(met, by, self.inner.put_new(key, body, timestamp_ms, by)).await
        })
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
    use crate::store::{Scheme, StoreSettings, open};

    fn store(root: &std::path::Path) -> Faulty {
        let path = root.to_str().unwrap().to_owned();
        let settings = StoreSettings::new(Scheme::File, format!("file://{path}"), String::new(), path);
        Faulty::new(open(&settings).unwrap())
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
        assert_eq!(
            create(&store, "b").await,
            Ok(Put::Exists),
            "the lost reply was to a put that went through"
        );
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
    async fn what_was_given_up_may_still_arrive() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        store.nth(Call::PutNew, 1, Fault::Late);
        store.nth(Call::PutNew, 2, Fault::Late);
        assert_eq!(create(&store, "a").await, Err(StoreErrorKind::Unreachable));
        assert_eq!(create(&store, "b").await, Err(StoreErrorKind::Unreachable));
        assert_eq!(create(&store, "a").await, Ok(Put::Created));
        assert_eq!(store.deliver(soon()).await.unwrap(), 2);
        assert_eq!(create(&store, "b").await, Ok(Put::Exists));
        assert_eq!(store.deliver(soon()).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn who_dies_at_a_call_hears_nothing_of_it() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        for (after, there) in [(false, Put::Created), (true, Put::Exists)] {
            store.nth_of_all(2, Fault::Kill { after });
            assert!(store.list("", soon()).await.is_ok());
            let key = format!("{after}");
            tokio::select! {
                _ = create(&store, &key) => panic!("the dead hear nothing"),
                () = store.killed() => {}
            }
            assert_eq!(create(&store, &key).await, Ok(there));
        }
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

//! What one gate has done: written by its connections, read by the status thread.

use super::decide::Reason;
use super::held::Held;
use crate::model::DurabilityLedger;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Upper bounds of the histogram of the time held, in milliseconds.
pub const BOUNDS_MS: [u64; 12] = [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 30_000];

pub struct Statistics {
    pub listen: String,
    pub app: String,
    /// Connections are accepted before the app is there.
    early: bool,
    ledger: Arc<dyn DurabilityLedger>,
    connections: AtomicU64,
    accepted: AtomicU64,
    held_bytes: AtomicU64,
    /// The last one: longer than all bounds.
    times: [AtomicU64; BOUNDS_MS.len() + 1],
    time_ms: AtomicU64,
    unproven: AtomicU64,
    closed: [AtomicU64; Reason::ALL.len()],
    /// Since when each connection that holds something holds it.
    holding: Mutex<BTreeSet<(Instant, u64)>>,
    /// Why the gate accepts no connections.
    shut: Mutex<Option<String>>,
}

/// The state of a gate at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateView {
    pub listen: String,
    pub app: String,
    /// Connections are accepted before the app is there.
    pub early: bool,
    pub connections: u64,
    pub accepted: u64,
    pub held_bytes: u64,
    /// How long the oldest of them has been held.
    pub oldest: Option<Duration>,
    /// How often bytes were held for at most each of `BOUNDS_MS`, not cumulative; the last one: longer.
    pub times: Vec<u64>,
    pub time: Duration,
    /// How often bytes were sent without a proof.
    pub unproven: u64,
    /// Connections that the gate closed, by the name of the reason.
    pub closed: Vec<(&'static str, u64)>,
    pub shut: Option<String>,
    /// Databases of which nothing can be proven, and why.
    pub unprovable: Vec<(String, String)>,
}

impl Statistics {
    pub fn new(listen: String, app: String, early: bool, ledger: Arc<dyn DurabilityLedger>) -> Statistics {
        Statistics {
            listen,
            app,
            early,
            ledger,
            connections: AtomicU64::default(),
            accepted: AtomicU64::default(),
            held_bytes: AtomicU64::default(),
            times: Default::default(),
            time_ms: AtomicU64::default(),
            unproven: AtomicU64::default(),
            closed: Default::default(),
            holding: Mutex::default(),
            shut: Mutex::new(Some("it is not open yet".into())),
        }
    }

    fn holding(&self) -> MutexGuard<'_, BTreeSet<(Instant, u64)>> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shut(&self) -> MutexGuard<'_, Option<String>> {
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn view(&self) -> GateView {
        GateView {
            listen: self.listen.clone(),
            app: self.app.clone(),
            early: self.early,
            connections: self.connections.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            held_bytes: self.held_bytes.load(Relaxed),
            oldest: self.holding().first().map(|(since, _)| since.elapsed()),
            times: self.times.iter().map(|count| count.load(Relaxed)).collect(),
            time: Duration::from_millis(self.time_ms.load(Relaxed)),
            unproven: self.unproven.load(Relaxed),
            closed: Reason::ALL
                .map(Reason::name)
                .into_iter()
                .zip(self.closed.iter().map(|count| count.load(Relaxed)))
                .collect(),
            shut: self.shut().clone(),
            unprovable: self.ledger.unprovable(),
        }
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Relaxed)
    }

    /// None: it accepts connections.
    pub(super) fn set_shut(&self, why: Option<String>) {
        *self.shut() = why;
    }

    /// Bytes were released after this time.
    pub(super) fn released(&self, held: Duration) {
        let ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MS.partition_point(|bound| *bound < ms);
        self.times.get(bucket).into_iter().for_each(|count| add(count, 1));
        add(&self.time_ms, ms);
    }

    pub(super) fn passed_unproven(&self) {
        add(&self.unproven, 1);
    }

    pub(super) fn closed(&self, reason: Reason, connections: usize) {
        let all = Reason::ALL.into_iter().zip(&self.closed);
        all.filter(|(known, _)| *known == reason).for_each(|(_, count)| add(count, connections as u64));
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Relaxed);
}

/// One connection's part of the gauges, taken back when this is dropped.
pub struct Counted {
    statistics: Arc<Statistics>,
    id: u64,
    held_bytes: u64,
    since: Option<Instant>,
}

impl Counted {
    pub fn begin(statistics: &Arc<Statistics>) -> Counted {
        add(&statistics.connections, 1);
        let id = statistics.accepted.fetch_add(1, Relaxed);
        Counted { statistics: Arc::clone(statistics), id, held_bytes: 0, since: None }
    }

    pub fn update(&mut self, held: &Held) {
        self.set(held.withheld(), held.first_mark().map(|mark| mark.since));
    }

    fn set(&mut self, bytes: u64, since: Option<Instant>) {
        let gauge = &self.statistics.held_bytes;
        if bytes != self.held_bytes {
            gauge.fetch_add(bytes.wrapping_sub(self.held_bytes), Relaxed);
            self.held_bytes = bytes;
        }
        if since != self.since {
            let mut holding = self.statistics.holding();
            self.since.into_iter().for_each(|since| {
                holding.remove(&(since, self.id));
            });
            holding.extend(since.map(|since| (since, self.id)));
            self.since = since;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0, None);
        self.statistics.connections.fetch_sub(1, Relaxed);
    }
}

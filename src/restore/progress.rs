//! Counters of a running restore, readable by any thread, and their text.

use super::waiting_report::WaitingReport;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of the replica's files. Both start at 0; `total` is known once there is a plan. A new plan starts
/// `done` anew, or adds to it what is still to come.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    begun: Mutex<Option<Instant>>,
    /// When a replica that is away is spoken of; shared by databases that are restored together.
    throttle: Arc<WaitingReport>,
    /// The log does not tell the restore: its database is no app's.
    is_quiet: bool,
}

/// How far, how fast, how long still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    pub done: u64,
    pub total: u64,
    /// Since the plan was made.
    pub elapsed: Duration,
}

impl Progress {
    pub fn of_several(throttle: Arc<WaitingReport>) -> Progress {
        Progress { throttle, ..Progress::default() }
    }

    pub fn quiet() -> Progress {
        Progress { is_quiet: true, ..Progress::default() }
    }

    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    pub fn throttle(&self) -> &WaitingReport {
        &self.throttle
    }

    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub fn pace(&self) -> Pace {
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        Pace { done: self.done(), total: self.total(), elapsed }
    }

    pub(super) fn begin(&self, bytes: u64) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.done.store(0, Ordering::Relaxed);
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// So much is still to come, whatever was thought before.
    pub(super) fn go_on(&self, bytes: u64) {
        self.total.store(self.done() + bytes, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Several restores side by side, for one line about all of them.
#[derive(Debug, Default)]
pub struct Paces(Mutex<Vec<Pace>>);

impl Paces {
    /// A place for one more.
    pub fn join(&self) -> usize {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paces.push(Pace::default());
        paces.len() - 1
    }

    /// How far that one is; how far all are, in one line. One that is over stays with its last word.
    pub fn set(&self, place: usize, pace: Pace) -> String {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = paces.get_mut(place) {
            *own = pace;
        }
        let all = paces.iter().fold(Pace::default(), |all, pace| all.with(*pace));
        match paces.len() {
            0 | 1 => all.text(),
            several => format!("{several} databases, {}", all.text()),
        }
    }
}

impl Pace {
    /// Of several restores side by side.
    pub fn with(self, other: Pace) -> Pace {
        Pace {
            done: self.done + other.done,
            total: self.total + other.total,
            elapsed: self.elapsed.max(other.elapsed),
        }
    }

    pub fn percent(&self) -> u64 {
        if self.total == 0 {
            0
        } else {
            (u128::from(self.done) * 100 / u128::from(self.total)).min(100) as u64
        }
    }

    fn bytes_per_second(&self) -> u64 {
        let ms = self.elapsed.as_millis().max(1);
        u64::try_from(u128::from(self.done) * 1000 / ms).unwrap_or(u64::MAX)
    }

    /// None: nothing has come yet.
    pub fn left(&self) -> Option<Duration> {
        let rate = self.bytes_per_second();
        let rest = self.total.saturating_sub(self.done);
        (rate > 0).then(|| Duration::from_secs(rest.div_ceil(rate)))
    }

    /// One line for a human.
    pub fn text(&self) -> String {
        if self.total == 0 {
            return "restoring: looking at the replica and at the local file".to_owned();
        }
        let left = self.left().map_or_else(String::new, |left| format!(", {} s left", left.as_secs()));
        format!(
            "restoring: {} of {} MiB, {} %, {} MiB/s{left}",
            mib(self.done),
            mib(self.total),
            self.percent(),
            mib(self.bytes_per_second())
        )
    }
}

/// With one decimal.
fn mib(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_how_fast_how_long() {
        let pace = |done, total, seconds| Pace { done, total, elapsed: Duration::from_secs(seconds) };
        assert_eq!(
            pace(25 << 20, 100 << 20, 5).text(),
            "restoring: 25.0 of 100.0 MiB, 25 %, 5.0 MiB/s, 15 s left"
        );
        assert_eq!(pace(0, 3 << 19, 1).text(), "restoring: 0.0 of 1.5 MiB, 0 %, 0.0 MiB/s");
        assert_eq!(pace(0, 0, 1).text(), "restoring: looking at the replica and at the local file");
        assert_eq!(pace(7, 5, 0).percent(), 100);
        let paces = Paces::default();
        let (one, another) = (paces.join(), paces.join());
        paces.set(one, pace(10 << 20, 10 << 20, 2));
        let all = "2 databases, restoring: 15.0 of 40.0 MiB, 37 %, 5.0 MiB/s, 5 s left";
        assert_eq!(paces.set(another, pace(5 << 20, 30 << 20, 3)), all);
        let both = pace(1 << 20, 10 << 20, 2).with(pace(3 << 20, 10 << 20, 1));
        assert_eq!((both, both.left()), (pace(4 << 20, 20 << 20, 2), Some(Duration::from_secs(8))));
    }
}

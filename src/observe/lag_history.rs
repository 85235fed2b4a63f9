//! The lag of each database over the last hour, for people: the highest value of each minute. Sampled by the
//! status thread while it serves a TCP address.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two samples.
pub const EVERY: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);
pub const MINUTES: usize = 60;

/// The newest minute is the last one. None: the database was not known then.
pub type Minutes = VecDeque<Option<Duration>>;

#[derive(Default)]
pub struct LagHistory(Mutex<History>);

#[derive(Default)]
struct History {
    /// Since the newest minute began.
    elapsed: Duration,
    databases: BTreeMap<String, Minutes>,
}

impl LagHistory {
    fn history(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is seen now, `passed` after the last sample.
    pub fn sample(&self, lags: impl Iterator<Item = (String, Duration)>, passed: Duration) {
        self.history().sample(lags, passed);
    }

    pub fn of(&self, db: &str) -> Minutes {
        self.history().databases.get(db).cloned().unwrap_or_default()
    }
}

impl History {
    fn sample(&mut self, lags: impl Iterator<Item = (String, Duration)>, passed: Duration) {
        self.elapsed += passed;
        let minutes = (self.elapsed.as_secs() / MINUTE.as_secs()).min(MINUTES as u64);
        self.elapsed = Duration::from_secs(self.elapsed.as_secs() % MINUTE.as_secs());
        for known in self.databases.values_mut() {
            (0..minutes).for_each(|_| known.push_back(None));
            known.drain(..known.len().saturating_sub(MINUTES));
        }
        // One that is gone is forgotten with its last minute.
        self.databases.retain(|_, known| known.iter().any(Option::is_some));
        for (db, lag) in lags {
            let known = self.databases.entry(db).or_insert_with(|| Minutes::from([None]));
            if let Some(newest) = known.back_mut() {
                *newest = (*newest).max(Some(lag));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_minute_has_its_highest_value() {
        let history = LagHistory::default();
        let sample =
            |lag: u64, passed: u64| history.sample([("a".to_owned(), secs(lag))].into_iter(), secs(passed));
        let seconds =
            |db: &str| history.of(db).iter().map(|lag| lag.map(|lag| lag.as_secs())).collect::<Vec<_>>();
        [1, 7, 2].into_iter().for_each(|lag| sample(lag, 5));
        assert_eq!(seconds("a"), [Some(7)]);
        sample(3, 50);
        assert_eq!(seconds("a"), [Some(7), Some(3)]);
        // The thread stood still.
        sample(4, 130);
        assert_eq!(seconds("a"), [Some(7), Some(3), None, Some(4)]);
        assert_eq!(seconds("b"), []);
        for _ in 0..100 {
            sample(5, 60);
        }
        assert_eq!(seconds("a"), [Some(5); MINUTES]);
    }

    #[test]
    fn a_database_that_is_gone_is_forgotten_after_an_hour() {
        let history = LagHistory::default();
        history.sample([("a".to_owned(), secs(1))].into_iter(), secs(0));
        history.sample(std::iter::empty(), secs(59 * 60));
        assert_eq!(history.of("a").len(), 60);
        history.sample(std::iter::empty(), secs(60));
        assert_eq!(history.of("a").len(), 0);
        history.sample(std::iter::empty(), secs(u64::MAX / 2));
    }
}

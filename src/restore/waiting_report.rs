//! How often the log reports that a replica cannot be reached before the app starts: within two seconds, then
//! less and less often, one line for all databases. The rule is pure (`Throttle`); `WaitingReport` shares it
//! between databases.

use crate::store::StoreErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What heals within this time is not worth a line.
const FIRST: Duration = Duration::from_secs(1);
/// Between the first and the second line; doubled after each.
const PAUSE: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(60);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No answer yet.
    Waiting,
    /// A request failed and is repeated.
    Failing(StoreErrorKind),
}

#[derive(Debug, Default)]
struct Throttle {
    since: Option<Instant>,
    last: Option<Instant>,
    pause: Duration,
    spoken: Vec<State>,
}

impl Throttle {
    /// Whether it is time to speak of `state`. A state of which nothing was said yet comes sooner than a
    /// repetition.
    fn due(&mut self, state: State, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let new = !self.spoken.contains(&state);
        let due = match self.last {
            None => now.saturating_duration_since(since) >= FIRST,
            Some(last) => now.saturating_duration_since(last) >= if new { FIRST } else { self.pause },
        };
        if due {
            self.pause = if self.last.is_none() { PAUSE } else { self.pause.saturating_mul(2).min(LONGEST) };
            self.last = Some(now);
            if new {
                self.spoken.push(state);
            }
        }
        due
    }
}

#[derive(Debug, Default)]
pub struct WaitingReport(Mutex<Throttle>);

impl WaitingReport {
    pub fn due(&self, state: State) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).due(state, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When something is said in `seconds` of a state that is met ten times a second by each of `databases`.
    fn said(state: impl Fn(u64) -> State, seconds: u64, databases: u64) -> Vec<f64> {
        let begun = Instant::now();
        let mut throttle = Throttle::default();
        let mut said = Vec::new();
        for tenth in 0..seconds * 10 {
            let now = begun + Duration::from_millis(tenth * 100);
            for _ in 0..databases {
                if throttle.due(state(tenth), now) {
                    said.push(tenth as f64 / 10.0);
                }
            }
        }
        said
    }

    #[test]
    fn a_store_that_is_away_is_said_soon_and_seldom() {
        let unreachable = State::Failing(StoreErrorKind::Unreachable);
        for databases in [1, 50] {
            assert_eq!(said(|_| unreachable, 30, databases), [1.0, 4.0, 10.0, 22.0], "{databases}");
        }
        assert_eq!(said(|_| State::Waiting, 1, 1), [0.0; 0], "it healed");
        // What changes is said sooner, and two states that take turns are no flood.
        let timed_out = State::Failing(StoreErrorKind::TimedOut);
        assert_eq!(said(|tenth| if tenth < 50 { unreachable } else { timed_out }, 12, 1), [1.0, 4.0, 5.0]);
        assert!(said(|tenth| if tenth % 2 == 0 { unreachable } else { timed_out }, 30, 5).len() <= 5);
    }
}

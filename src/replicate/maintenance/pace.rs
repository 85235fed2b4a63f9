//! Maintenance's time: a clock that never jumps, and the pauses after failures. Pure but for reading the
//! clocks.

use super::schedule::{self, Due};
use crate::model::Moment;
use crate::replica::clocks;
use crate::store::StoreClock;
use crate::store::retry::{self, Urgency};
use std::time::{Duration, Instant};

/// What will not heal by itself is tried again this often.
const HOPELESS: Duration = Duration::from_secs(3600);
/// Failures in a row that are put down to the weather.
pub const WEATHER: u32 = 3;

/// This machine's clock in Unix milliseconds, unless the store says that it is ahead.
pub fn believed_ms(store: Option<&StoreClock>) -> i64 {
    clocks::believed(Moment::now().0, store.and_then(StoreClock::now_ms))
}

/// The believed time at its start, and from then on whatever is done to the wall clock: ages never jump.
#[derive(Clone, Copy)]
pub struct Clock {
    start_ms: i64,
    begun: Instant,
}

impl Clock {
    pub fn start(store: Option<&StoreClock>) -> Clock {
        Clock { start_ms: believed_ms(store), begun: Instant::now() }
    }

    pub fn now_ms(self) -> i64 {
        self.start_ms.saturating_add(i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    pub fn until(self, ms: i64) -> Instant {
        let left = u64::try_from(ms.saturating_sub(self.now_ms())).unwrap_or(0);
        Instant::now() + Duration::from_millis(left.min(86_400_000))
    }
}

/// After a failure: not before this time.
#[derive(Default)]
pub struct Pause {
    pub until_ms: i64,
    tries: u32,
}

#[derive(Default)]
pub struct Pauses {
    pub ownership: Pause,
    pub merge: Pause,
    pub delete: Pause,
    pub snapshot: Pause,
}

impl Pause {
    pub fn hold<T>(&self, due: Due<T>, now_ms: i64) -> Due<T> {
        match due {
            Due::Now(_) if now_ms < self.until_ms => Due::At(self.until_ms),
            due => due,
        }
    }

    pub fn over(&mut self) {
        *self = Pause::default();
    }

    /// Waits longer each time. True: it is time to speak of it.
    pub fn fail(&mut self, now_ms: i64, heals: bool) -> bool {
        self.tries = self.tries.saturating_add(1);
        // Maintenance has time: up to a minute between two tries.
        let span =
            if heals { retry::pause(self.tries, Urgency::Nothing).saturating_mul(12) } else { HOPELESS };
        self.until_ms = now_ms.saturating_add(schedule::millis(span));
        if heals { self.tries == WEATHER } else { self.tries == 1 || self.tries == WEATHER }
    }
}

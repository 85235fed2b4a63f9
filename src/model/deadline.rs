//! A point in time by which an operation must end. Nested calls share it, so they cannot take longer than the
//! whole.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn at(instant: Instant) -> Deadline {
        Deadline(instant)
    }

    /// `span` from now; a span too long for the clock becomes a year.
    pub fn after(span: Duration) -> Deadline {
        let now = Instant::now();
        Deadline(now.checked_add(span).unwrap_or_else(|| now + Duration::from_secs(31_536_000)))
    }

    pub fn instant(self) -> Instant {
        self.0
    }

    /// Time left at `now`; zero once it has passed.
    fn left_at(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    pub fn left(self) -> Duration {
        self.left_at(Instant::now())
    }

    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// This deadline, or `span` from now when that is sooner.
    pub fn within(self, span: Duration) -> Deadline {
        self.min(Deadline::after(span))
    }
}

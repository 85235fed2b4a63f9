//! The store's time, from the `Date` of its answers: the machine's own clock may be wrong by a year, and
//! nothing else would show it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// 2024-01-01: a store with an earlier time has no clock.
const EARLIEST_MS: i64 = 1_704_067_200_000;

/// Shared by all requests to one service.
#[derive(Debug, Default)]
pub struct StoreClock(Mutex<Option<(i64, Instant)>>);

impl StoreClock {
    /// Stores the `Date` header of an answer that has just arrived.
    pub(super) fn record(&self, date: Option<&str>) {
        if let Some(ms) = date.and_then(parse) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((ms, Instant::now()));
        }
    }

    /// The store's time now, Unix milliseconds, to the second. None: no answer has contained it.
    pub fn now_ms(&self) -> Option<i64> {
        let (ms, at) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(ms.saturating_add(millis(at.elapsed())))
    }
}

fn parse(date: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(time.timestamp().as_millisecond()).filter(|ms| *ms >= EARLIEST_MS)
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_answers() {
        for (date, expected) in [
            ("Sun, 06 Nov 2044 08:49:37 GMT", Some(2_362_034_977_000)),
            ("Thu, 01 Jan 1970 00:00:10 GMT", None),
            ("now", None),
            ("", None),
        ] {
            assert_eq!(parse(date), expected, "{date}");
        }
        let clock = StoreClock::default();
        clock.record(None);
        assert_eq!(clock.now_ms(), None);
        clock.record(Some("Sun, 06 Nov 2044 08:49:37 GMT"));
        clock.record(Some("nonsense"));
        assert!(clock.now_ms().is_some_and(|ms| (2_362_034_977_000..2_362_034_987_000).contains(&ms)));
    }
}

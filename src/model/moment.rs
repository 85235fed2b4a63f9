//! A point in time as it is in a replica: Unix milliseconds; read and shown as RFC 3339.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

impl Moment {
    /// This machine's wall clock.
    pub fn now() -> Moment {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Of RFC 3339 text with its offset from UTC. What is finer than a millisecond is cut off: no file knows
    /// it.
    pub fn parse(text: &str) -> Option<Moment> {
        let time: jiff::Timestamp = text.trim().parse().ok()?;
        let ms = time.as_millisecond();
        let rest = time.subsec_nanosecond() % 1_000_000;
        // Before 1970 the cut goes towards zero, that is forward.
        Some(Moment(if rest < 0 { ms - 1 } else { ms }))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{} ms after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T06:01:19.453Z", 1_795_327_279_453),
            ("2026-11-22T06:01:19.4539999Z", 1_795_327_279_453),
            ("2026-11-22T08:01:19.453+02:00", 1_795_327_279_453),
            ("2026-11-22 06:01:19Z", 1_795_327_279_000),
            ("1969-12-31T23:59:59.9985Z", -2),
        ] {
            assert_eq!(Moment::parse(text), Some(Moment(ms)), "{text}");
        }
        for bad in ["", "now", "2026-11-22", "2026-11-22T06:01:19", "2026-13-22T06:01:19Z", "1795327279"] {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
        assert_eq!(Moment(1_795_327_279_453).to_string(), "2026-11-22T06:01:19.453Z");
        assert_eq!(Moment(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert!(Moment(i64::MAX).to_string().contains("ms"));
    }
}

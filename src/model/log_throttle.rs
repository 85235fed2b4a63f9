//! A condition that lasts is logged at once and then now and then, not each time it is met.

use std::time::{Duration, Instant};

/// Between two log lines about the same thing.
pub const REMIND: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct LogThrottle {
    said: Option<(String, Instant)>,
}

impl LogThrottle {
    /// Whether it is time to log `text`.
    pub fn due(&mut self, text: &str) -> bool {
        let quiet = self.said.as_ref().is_some_and(|(said, at)| said == text && at.elapsed() < REMIND);
        if !quiet {
            self.said = Some((text.to_owned(), Instant::now()));
        }
        !quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once() {
        let mut throttle = LogThrottle::default();
        assert_eq!(
            ["a", "a", "b", "b", "a"].map(|text| throttle.due(text)),
            [true, false, true, false, true]
        );
    }
}

//! What lasts is spoken of at once, then now and then, not at every look. Pure but for the clock.

use std::time::{Duration, Instant};

/// Between two words about the same thing.
pub const REMIND: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct Reminder {
    said: Option<(String, Instant)>,
}

impl Reminder {
    /// Whether it is time to say `text`.
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
        let mut reminder = Reminder::default();
        assert_eq!(["a", "a", "b", "b", "a"].map(|text| reminder.due(text)), [true, false, true, false, true]);
    }
}

//! What follows a look at the replica. Pure.

use crate::restore::RestoreErrorKind;
use std::time::Duration;

/// After failures at most this long, unless `poll` is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a look has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Everything that was listed is applied.
    Complete,
    /// The time was over before.
    Partly,
    Failed,
}

/// The pause after a look that took `took`; `failures`: how many have failed in a row.
pub fn pause(looked: Looked, poll: Duration, took: Duration, failures: u32) -> Duration {
    match looked {
        Looked::Complete => poll.saturating_sub(took),
        Looked::Partly => Duration::ZERO,
        Looked::Failed => {
            let doubled = poll.saturating_mul(1 << failures.saturating_sub(1).min(10));
            doubled.min(LONGEST_PAUSE.max(poll))
        }
    }
}

/// Whether the copy has to be opened, and read, once more after a failure of this kind. A replica that does
/// not answer says nothing about the copy.
pub fn opens_again(kind: RestoreErrorKind) -> bool {
    match kind {
        RestoreErrorKind::Unavailable | RestoreErrorKind::NothingThere => false,
        RestoreErrorKind::Damaged | RestoreErrorKind::Local => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_follow_each_other_at_the_poll_and_failures_more_slowly() {
        let ms = Duration::from_millis;
        for (looked, poll, took, failures, expected) in [
            (Looked::Complete, 1000, 0, 0, 1000),
            (Looked::Complete, 1000, 300, 0, 700),
            (Looked::Complete, 1000, 4000, 0, 0),
            (Looked::Partly, 1000, 300, 0, 0),
            (Looked::Failed, 1000, 300, 1, 1000),
            (Looked::Failed, 1000, 300, 3, 4000),
            (Looked::Failed, 1000, 300, 9000, 10_000),
            (Looked::Failed, 60_000, 300, 9000, 60_000),
        ] {
            assert_eq!(
                pause(looked, ms(poll), ms(took), failures),
                ms(expected),
                "{looked:?} {poll} {took} {failures}"
            );
        }
    }
}

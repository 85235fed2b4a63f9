//! When captured segments are written to the disk because the replica does not take them. Pure.
//!
//! The WAL is the outbox up to its limit. Past it, what is captured goes to files, so that the WAL can be
//! copied into the database and started over and the app's reads stay fast. Past their limit, too, the WAL
//! grows: the app is never blocked.

use crate::replicate::ReplicateSettings;
use std::time::Duration;

/// How things stand while an upload does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// The WAL has frames beyond its limit.
    pub over: bool,
    /// It has as many again since the last try.
    pub over_again: bool,
    /// Since the last try to relieve it.
    pub since_try: Option<Duration>,
}

/// A WAL that could not be started over (a reader of the app's pins it) is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// Whether it is time to relieve the WAL.
pub fn due(now: Pressure) -> bool {
    now.over && (now.over_again || now.since_try.is_none_or(|since| since >= AGAIN))
}

/// What a segment would come on top of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    pub files: usize,
    pub spilled_bytes: u64,
    /// Of the segment, at most.
    pub bytes: u64,
    /// Since the disk refused a file.
    pub since_refusal: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpillDecision {
    Spill,
    /// There is no room for it: the WAL grows.
    Full,
    /// The disk had none a moment ago.
    Wait,
}

/// Each waiting file costs some memory.
const FILES: usize = 16 << 10;
/// A disk that was full is asked again after this.
const DISK_AGAIN: Duration = Duration::from_secs(30);

pub fn decide(settings: &ReplicateSettings, now: Situation) -> SpillDecision {
    if now.files >= FILES || now.spilled_bytes.saturating_add(now.bytes) > settings.spill_limit {
        SpillDecision::Full
    } else if now.since_refusal.is_some_and(|since| since < DISK_AGAIN) {
        SpillDecision::Wait
    } else {
        SpillDecision::Spill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_the_wal_is_relieved() {
        let seconds = |n| Some(Duration::from_secs(n));
        for (over, over_again, since_try, expected) in [
            (false, false, None, false),
            (false, true, None, false),
            (true, false, None, true),
            (true, false, seconds(1), false),
            (true, true, seconds(1), true),
            (true, false, seconds(5), true),
        ] {
            let now = Pressure { over, over_again, since_try };
            assert_eq!(due(now), expected, "{now:?}");
        }
    }

    #[test]
    fn what_is_spilled() {
        let settings = ReplicateSettings { spill_limit: 1000, ..ReplicateSettings::default() };
        let base = Situation { files: 2, spilled_bytes: 600, bytes: 400, since_refusal: None };
        let refused = |seconds| Some(Duration::from_secs(seconds));
        for (now, verdict) in [
            (base, SpillDecision::Spill),
            (Situation { bytes: 401, ..base }, SpillDecision::Full),
            (Situation { spilled_bytes: u64::MAX, ..base }, SpillDecision::Full),
            (Situation { files: FILES, ..base }, SpillDecision::Full),
            (Situation { since_refusal: refused(1), ..base }, SpillDecision::Wait),
            (Situation { since_refusal: refused(30), ..base }, SpillDecision::Spill),
            (Situation { since_refusal: refused(1), bytes: 401, ..base }, SpillDecision::Full),
        ] {
            assert_eq!(decide(&settings, now), verdict, "{now:?}");
        }
        let never = ReplicateSettings { spill_limit: 0, ..settings };
        assert_eq!(decide(&never, Situation { spilled_bytes: 0, files: 0, ..base }), SpillDecision::Full);
    }
}

//! When the next proof of a replica is due. Pure.

use std::time::{Duration, Instant};

/// The app has its start for itself.
const SETTLE: Duration = Duration::from_secs(60);
/// After a proof that failed or came to no result: the first wait, which doubles up to the interval.
const RETRY: Duration = Duration::from_secs(300);

/// What came of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    Sound,
    Failed,
    Undecided,
    /// An earlier run has proven the replica, so long ago.
    Young(Duration),
}

/// The plan for one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub due: Instant,
    /// Results in a row that were not sound.
    tries: u32,
    /// The age of an earlier run's record does not matter any more.
    pub has_result: bool,
}

impl Plan {
    pub fn begin(interval: Duration, now: Instant) -> Plan {
        Plan { due: after(now, interval.min(SETTLE)), tries: 0, has_result: false }
    }

    pub fn next(self, result: Result, interval: Duration, now: Instant) -> Plan {
        let (wait, tries) = match result {
            Result::Sound => (interval, 0),
            Result::Young(age) => (interval.saturating_sub(age), 0),
            Result::Failed | Result::Undecided => {
                let wait = RETRY.saturating_mul(1 << self.tries.min(16)).min(interval);
                (wait, self.tries.saturating_add(1))
            }
        };
        let has_result = self.has_result || matches!(result, Result::Sound | Result::Failed);
        Plan { due: after(now, wait), tries, has_result }
    }

    /// What is in the way now ends soon.
    pub fn later(self, interval: Duration, now: Instant) -> Plan {
        Plan { due: after(now, interval.min(Duration::from_secs(5))), ..self }
    }
}

fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

/// How old an earlier run's record is, if a proof is not due yet. A failed proof is repeated. A time in the
/// future says nothing: the clock was wrong then, or is now.
pub fn young(record_ms: i64, sound: bool, now_ms: i64, interval: Duration) -> Option<Duration> {
    let age = u64::try_from(now_ms.saturating_sub(record_ms)).ok().map(Duration::from_millis)?;
    (sound && age < interval).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn the_app_starts_first() {
        let now = Instant::now();
        for (interval, wait) in [(DAY, SETTLE), (Duration::from_secs(2), Duration::from_secs(2))] {
            assert_eq!(Plan::begin(interval, now).due, now + wait);
        }
    }

    #[test]
    fn when_the_next_one_is_due() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        for (results, interval, wait, has_result) in [
            (&[Result::Sound][..], DAY, DAY, true),
            (&[Result::Young(seconds(3600))], DAY, seconds(82_800), false),
            (&[Result::Young(DAY * 2)], DAY, Duration::ZERO, false),
            (&[Result::Failed], DAY, RETRY, true),
            (&[Result::Failed; 3], DAY, RETRY * 4, true),
            (&[Result::Failed; 40], DAY, DAY, true),
            (&[Result::Undecided, Result::Failed], DAY, RETRY * 2, true),
            (&[Result::Undecided], seconds(2), seconds(2), false),
            (&[Result::Failed, Result::Failed, Result::Sound, Result::Failed], DAY, RETRY, true),
        ] {
            let plan = results
                .iter()
                .fold(Plan::begin(interval, now), |plan, result| plan.next(*result, interval, now));
            assert_eq!((plan.due, plan.has_result), (now + wait, has_result), "{results:?}");
        }
    }

    #[test]
    fn which_records_count() {
        for (record_ms, sound, now_ms, expected) in [
            (1000, true, 3500, Some(2500)),
            (1000, true, 3999, Some(2999)),
            (1000, true, 4000, None),
            (1000, false, 3500, None),
            (3500, true, 1000, None),
        ] {
            let young = young(record_ms, sound, now_ms, Duration::from_secs(3));
            assert_eq!(young, expected.map(Duration::from_millis), "{record_ms} {sound} {now_ms}");
        }
    }
}

//! One budget for a stop, split once into absolute points in time. Pure.
//!
//! In: the settings and the moment of the first stop signal. Out: instants. Never a duration, so that nested waits
//! cannot add up to more than the whole.

use super::Rules;
use std::time::{Duration, Instant};

/// What is left of the app's process tree when its main process has ended gets this long to end by itself.
pub const REST_GRACE: Duration = Duration::from_secs(2);
/// Nobody waits for us when the app ended by itself, and the disk may be gone afterwards: the last flush gets at least
/// this long.
pub const UNHURRIED_FLUSH: Duration = Duration::from_secs(60);
/// Rolling a restore back is a few renames; a stop during the restore ends within a second.
pub const ABANDON: Duration = Duration::from_millis(800);
/// Between two looks at what is left (most ends are announced by SIGCHLD; processes entered from outside are not).
pub const LOOK: Duration = Duration::from_millis(100);
/// Even when the app has used all its time, the rest hears the stop signal this long before SIGKILL.
const LAST_WORD: Duration = Duration::from_millis(100);
/// For writing the summary and ending the process.
const SPARE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The flush before the app is told to stop.
    pub pre_sync_by: Instant,
    /// The app's group gets SIGKILL.
    pub kill_at: Instant,
    /// What still lives now cannot be killed; the flush must begin.
    pub give_up_at: Instant,
    /// The engine's deadline for the last flush.
    pub flush_by: Instant,
    /// Ours: a little later, so that the engine can still say what is missing.
    pub end_at: Instant,
}

impl Budget {
    /// A stop was asked for at `now`.
    pub fn split(rules: &Rules, now: Instant) -> Budget {
        let reserve = rules.grace.saturating_sub(rules.app_timeout);
        let kill_at = now + rules.app_timeout.min(rules.grace);
        let end = now + rules.grace;
        let spare = SPARE.min(reserve / 4);
        Budget {
            pre_sync_by: now + rules.pre_sync_timeout.min(rules.app_timeout),
            kill_at,
            give_up_at: kill_at + reserve / 3,
            flush_by: end - spare,
            end_at: end - spare / 2,
        }
    }

    /// The app ended by itself at `now`.
    pub fn unhurried(rules: &Rules, now: Instant) -> Budget {
        let kill_at = now + REST_GRACE;
        let flush_by = now + rules.grace.max(UNHURRIED_FLUSH);
        Budget { pre_sync_by: now, kill_at, give_up_at: kill_at + REST_GRACE, flush_by, end_at: flush_by + SPARE }
    }

    /// The earlier of both, point by point: a stop signal that comes when things are ending anyway.
    pub fn sooner(self, other: Budget) -> Budget {
        Budget {
            pre_sync_by: self.pre_sync_by.min(other.pre_sync_by),
            kill_at: self.kill_at.min(other.kill_at),
            give_up_at: self.give_up_at.min(other.give_up_at),
            flush_by: self.flush_by.min(other.flush_by),
            end_at: self.end_at.min(other.end_at),
        }
    }

    /// When the rest of the tree is killed, given that the app's main process ended at `now`.
    pub fn kill_rest_at(&self, now: Instant) -> Instant {
        (now + REST_GRACE).min(self.kill_at.max(now + LAST_WORD)).min(self.give_up_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(grace: u64, app: u64, pre: u64) -> Rules {
        Rules {
            grace: Duration::from_millis(grace),
            app_timeout: Duration::from_millis(app),
            pre_sync_timeout: Duration::from_millis(pre),
            ..super::super::tests::RULES
        }
    }

    #[test]
    fn points_are_in_order_and_inside_the_grace() {
        let now = Instant::now();
        for (grace, app, pre) in
            [(10_000, 7_000, 2_000), (5_000, 4_000, 1_000), (300, 200, 0), (0, 0, 0), (100, 900, 500)]
        {
            let rules = rules(grace, app, pre);
            let b = Budget::split(&rules, now);
            let end = now + rules.grace;
            assert!(b.pre_sync_by <= now + rules.app_timeout);
            assert!(b.kill_at <= b.give_up_at && b.give_up_at <= b.flush_by, "{grace} {app} {pre}: {b:?}");
            assert!(b.flush_by <= b.end_at && b.end_at <= end, "{grace} {app} {pre}: {b:?}");
        }
    }

    #[test]
    fn the_usual_ten_seconds() {
        let now = Instant::now();
        let b = Budget::split(&rules(10_000, 7_000, 2_000), now);
        let at = |t: Instant| t.duration_since(now).as_millis();
        assert_eq!(
            [at(b.pre_sync_by), at(b.kill_at), at(b.give_up_at), at(b.flush_by), at(b.end_at)],
            [2000, 7000, 8000, 9500, 9750]
        );
    }

    #[test]
    fn the_rest_always_hears_the_signal_first() {
        let now = Instant::now();
        let b = Budget::split(&rules(10_000, 7_000, 2_000), now);
        let at = |ms| now + Duration::from_millis(ms);
        assert_eq!(b.kill_rest_at(at(1_000)), at(3_000), "app gone early: two seconds");
        assert_eq!(b.kill_rest_at(at(6_500)), at(7_000), "never beyond the app's own time");
        assert_eq!(b.kill_rest_at(at(7_010)), at(7_110), "app killed at its limit: a last word");
        assert_eq!(b.kill_rest_at(at(9_000)), at(8_000), "given up: at once");
    }
}

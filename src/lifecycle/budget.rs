//! The time of a stop, split once into points in time. Pure.
//!
//! Points in time, not durations, so that nested waits cannot add up to more than the whole.
//!
//! The clock is CLOCK_MONOTONIC. It continues while this process is frozen (SIGSTOP, a cgroup's freezer, an
//! instance without CPU), so all points may have passed when the process continues. Then the app is still
//! killed before the flush begins, and the last flush still gets its least time. The clock stands still while
//! the whole machine is suspended (CLOCK_BOOTTIME would continue): after that the budget continues where it
//! was.

use super::rules::Rules;
use std::time::{Duration, Instant};

/// The other processes of the app's tree have this long to exit after the main process has exited.
pub const REST_GRACE: Duration = Duration::from_secs(2);
/// When the app exits by itself, no stop signal limits the time, and the disk may be gone afterwards: the
/// last flush gets at least this long.
pub const UNHURRIED_FLUSH: Duration = Duration::from_secs(60);
/// To undo a restore takes a few renames. A stop during the restore ends within a second.
pub const ABANDON: Duration = Duration::from_millis(800);
/// Between two checks of the remaining processes. SIGCHLD announces most exits, but not those of processes
/// that entered the namespace from outside.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The other processes get the stop signal at least this long before SIGKILL, even if the app has used all
/// its time.
const LAST_WORD: Duration = Duration::from_millis(100);
/// If a deadline is noticed this late, the process was frozen meanwhile.
pub const FROZEN: Duration = Duration::from_secs(1);
/// For the summary line and the end of the process.
const SPARE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The end of the flush before the stop signal to the app.
    pub pre_sync_by: Instant,
    /// The app's group gets SIGKILL.
    pub kill_at: Instant,
    /// What still exists now cannot be killed; the flush must begin.
    pub give_up_at: Instant,
    /// The engine's deadline for the last flush.
    pub flush_by: Instant,
    /// litevisor's own deadline: a little later, so that the engine can still report what is missing.
    pub end_at: Instant,
}

impl Budget {
    /// A stop was requested at `now`.
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

    /// The app exited by itself at `now`.
    pub fn unhurried(rules: &Rules, now: Instant) -> Budget {
        let kill_at = now + REST_GRACE;
        let flush_by = now + rules.grace.max(UNHURRIED_FLUSH);
        Budget {
            pre_sync_by: now,
            kill_at,
            give_up_at: kill_at + REST_GRACE,
            flush_by,
            end_at: flush_by + SPARE,
        }
    }

    /// The earlier of both, point by point: for a stop signal that comes after the app's exit.
    pub fn sooner(self, other: Budget) -> Budget {
        Budget {
            pre_sync_by: self.pre_sync_by.min(other.pre_sync_by),
            kill_at: self.kill_at.min(other.kill_at),
            give_up_at: self.give_up_at.min(other.give_up_at),
            flush_by: self.flush_by.min(other.flush_by),
            end_at: self.end_at.min(other.end_at),
        }
    }

    /// The app gets the stop signal at `now`, and SIGKILL no sooner than `LAST_WORD` later.
    pub fn signalled_at(self, now: Instant) -> Budget {
        let late = now >= self.kill_at + FROZEN;
        Budget { kill_at: if late { now + LAST_WORD } else { self.kill_at }, ..self }
    }

    /// SIGKILL is sent at `now`: the processes have the planned time to exit.
    pub fn killed_at(self, rules: &Rules, now: Instant) -> Budget {
        let plan = Budget::split(rules, now);
        let dying = plan.give_up_at.saturating_duration_since(plan.kill_at);
        let late = now >= self.give_up_at + FROZEN;
        Budget { give_up_at: if late { now + dying } else { self.give_up_at }, ..self }
    }

    /// The last flush begins at `now`. It always has the time that the plan leaves after `give_up_at`.
    pub fn flushed_from(self, rules: &Rules, now: Instant) -> Budget {
        let (flush_by, end_at) = least_flush(rules, now);
        Budget { flush_by: self.flush_by.max(flush_by), end_at: self.end_at.max(end_at), ..self }
    }

    /// When the other processes of the tree get SIGKILL, given that the app's main process exited at `now`.
    pub fn kill_rest_at(&self, now: Instant) -> Instant {
        (now + REST_GRACE).min(self.kill_at.max(now + LAST_WORD)).min(self.give_up_at)
    }
}

/// The engine's deadline and litevisor's own for a flush that begins at `now`, when all other time is over.
pub fn least_flush(rules: &Rules, now: Instant) -> (Instant, Instant) {
    let plan = Budget::split(rules, now);
    let flush_by = now + plan.flush_by.saturating_duration_since(plan.give_up_at);
    (flush_by, flush_by + plan.end_at.saturating_duration_since(plan.flush_by))
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

    #[test]
    fn what_begins_in_time_changes_nothing() {
        let now = Instant::now();
        for (grace, app, pre) in [(10_000, 7_000, 2_000), (5_000, 4_000, 1_000), (300, 200, 0)] {
            let rules = rules(grace, app, pre);
            let b = Budget::split(&rules, now);
            assert_eq!(b.signalled_at(b.pre_sync_by), b);
            assert_eq!(b.killed_at(&rules, b.kill_at), b);
            assert_eq!(b.flushed_from(&rules, b.give_up_at), b);
        }
    }

    #[test]
    fn after_a_freeze_everything_still_has_a_little_time() {
        let now = Instant::now();
        let rules = rules(10_000, 7_000, 2_000);
        let thaw = now + Duration::from_secs(600);
        let b = Budget::split(&rules, now);
        let after = |at: Instant| at.saturating_duration_since(thaw).as_millis();
        let told = b.signalled_at(thaw);
        assert_eq!(after(told.kill_at), 100, "a last word");
        let b = told.killed_at(&rules, thaw);
        assert_eq!(after(b.give_up_at), 1_000);
        let b = b.flushed_from(&rules, thaw);
        assert_eq!((after(b.flush_by), after(b.end_at)), (1_500, 1_750));
    }
}

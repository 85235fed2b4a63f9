//! Whether the app is started again after it has exited, and after which delay. Pure.

use crate::model::{AppExit, Restart, RestartSettings, SuccessCodes};
use std::time::{Duration, Instant};

/// The app's starts up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartHistory {
    /// Restarts in a row. An app that ran for `window` begins a new row.
    restarts: u32,
    /// The last start.
    since: Instant,
    /// The engine has ended: what the app would write could not be replicated.
    engine_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// litevisor ends with the app.
    End,
    /// The app was restarted this often already.
    LimitReached(u32),
    Restart(PlannedRestart),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRestart {
    pub history: RestartHistory,
    pub after: Duration,
}

impl RestartHistory {
    pub fn first(now: Instant) -> RestartHistory {
        RestartHistory { restarts: 0, since: now, engine_lost: false }
    }

    pub fn started(self, now: Instant) -> RestartHistory {
        RestartHistory { since: now, ..self }
    }

    pub fn engine_lost(self) -> RestartHistory {
        RestartHistory { engine_lost: true, ..self }
    }

    /// The number of restarts in a row.
    pub fn restarts(self) -> u32 {
        self.restarts
    }

    /// The app has exited by itself at `now`.
    pub fn decide(
        self,
        rules: &RestartSettings,
        success: &SuccessCodes,
        exit: AppExit,
        now: Instant,
    ) -> RestartDecision {
        let wanted = match rules.when {
            Restart::Never => false,
            Restart::OnFailure => success.status(exit) != 0,
            Restart::Always => true,
        };
        if !wanted || self.engine_lost {
            return RestartDecision::End;
        }
        let was_well = now.saturating_duration_since(self.since) >= rules.window;
        let restarts = if was_well { 0 } else { self.restarts };
        if restarts >= rules.limit {
            return RestartDecision::LimitReached(rules.limit);
        }
        let factor = 1u32.checked_shl(restarts).unwrap_or(u32::MAX);
        let after = rules.delay.saturating_mul(factor).min(rules.delay_max);
        RestartDecision::Restart(PlannedRestart {
            history: RestartHistory { restarts: restarts + 1, ..self },
            after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Signal;

    const RULES: RestartSettings =
        RestartSettings { when: Restart::Always, limit: 7, ..RestartSettings::DEFAULT };
    const FAILED: AppExit = AppExit::Code(1);

    fn decide(rules: RestartSettings, exit: AppExit) -> RestartDecision {
        let now = Instant::now();
        RestartHistory::first(now).decide(&rules, &SuccessCodes(vec![143]), exit, now)
    }

    #[test]
    fn who_is_started_again() {
        let killed = AppExit::Signal(Signal::KILL);
        let termed = AppExit::Signal(Signal::TERM);
        for (when, exit, planned) in [
            (Restart::Never, FAILED, false),
            (Restart::Never, AppExit::Code(0), false),
            (Restart::OnFailure, FAILED, true),
            (Restart::OnFailure, killed, true),
            (Restart::OnFailure, AppExit::Code(0), false),
            (Restart::OnFailure, termed, false), // a success code
            (Restart::Always, AppExit::Code(0), true),
            (Restart::Always, termed, true),
        ] {
            let found = decide(RestartSettings { when, ..RULES }, exit);
            assert_eq!(matches!(found, RestartDecision::Restart(_)), planned, "{when:?} {exit:?}: {found:?}");
        }
    }

    #[test]
    fn delays_double_up_to_the_longest_and_end_at_the_limit() {
        let mut now = Instant::now();
        let (mut history, mut delays) = (RestartHistory::first(now), vec![]);
        let last = loop {
            now += Duration::from_secs(1);
            match history.decide(&RULES, &SuccessCodes::default(), FAILED, now) {
                RestartDecision::Restart(planned) => {
                    delays.push(planned.after.as_secs());
                    now += planned.after;
                    history = planned.history.started(now);
                }
                other => break other,
            }
        };
        assert_eq!((delays, last), (vec![1, 2, 4, 8, 16, 30, 30], RestartDecision::LimitReached(7)));
    }

    #[test]
    fn a_long_life_begins_a_new_row() {
        let now = Instant::now();
        let worn = RestartHistory { restarts: 7, ..RestartHistory::first(now) };
        let after = |span| worn.decide(&RULES, &SuccessCodes::default(), FAILED, now + span);
        assert_eq!(after(RULES.window - Duration::from_millis(1)), RestartDecision::LimitReached(7));
        assert!(matches!(after(RULES.window), RestartDecision::Restart(PlannedRestart { after, history })
            if after == RULES.delay && history.restarts() == 1));
    }

    #[test]
    fn no_number_overflows() {
        let now = Instant::now();
        let rules =
            RestartSettings { limit: u32::MAX, delay: Duration::MAX, delay_max: Duration::MAX, ..RULES };
        let worn = RestartHistory { restarts: 4_000_000, ..RestartHistory::first(now) };
        assert!(matches!(
            worn.decide(&rules, &SuccessCodes::default(), FAILED, now),
            RestartDecision::Restart(_)
        ));
    }

    #[test]
    fn without_the_engine_nothing_is_started_again() {
        let now = Instant::now();
        let found =
            RestartHistory::first(now).engine_lost().decide(&RULES, &SuccessCodes::default(), FAILED, now);
        assert_eq!(found, RestartDecision::End);
    }
}

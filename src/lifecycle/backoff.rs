//! Is the app started again, and when. Pure.

use crate::model::{AppExit, Restart, RestartSettings, SuccessCodes};
use std::time::{Duration, Instant};

/// The app's lives up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// Restarts in a row; an app that ran for `window` begins a new row.
    restarts: u32,
    /// Its present life began.
    since: Instant,
    /// The engine is gone: what another life would write could not be replicated.
    engine_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its end is ours.
    End,
    /// It would be started again, had it not been so often already.
    LimitReached(u32),
    Again(Again),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    pub lives: Lives,
    pub after: Duration,
}

impl Lives {
    pub fn first(now: Instant) -> Lives {
        Lives { restarts: 0, since: now, engine_lost: false }
    }

    pub fn started(self, now: Instant) -> Lives {
        Lives { since: now, ..self }
    }

    pub fn engine_lost(self) -> Lives {
        Lives { engine_lost: true, ..self }
    }

    /// Which restart in a row the present life is.
    pub fn restarts(self) -> u32 {
        self.restarts
    }

    /// The app has ended by itself at `now`.
    pub fn verdict(self, rules: &RestartSettings, success: &SuccessCodes, exit: AppExit, now: Instant) -> Verdict {
        let wanted = match rules.when {
            Restart::Never => false,
            Restart::OnFailure => success.status(exit) != 0,
            Restart::Always => true,
        };
        if !wanted || self.engine_lost {
            return Verdict::End;
        }
        let was_well = now.saturating_duration_since(self.since) >= rules.window;
        let restarts = if was_well { 0 } else { self.restarts };
        if restarts >= rules.limit {
            return Verdict::LimitReached(rules.limit);
        }
        let factor = 1u32.checked_shl(restarts).unwrap_or(u32::MAX);
        let after = rules.delay.saturating_mul(factor).min(rules.delay_max);
        Verdict::Again(Again { lives: Lives { restarts: restarts + 1, ..self }, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Signal;

    const RULES: RestartSettings = RestartSettings { when: Restart::Always, limit: 7, ..RestartSettings::DEFAULT };
    const FAILED: AppExit = AppExit::Code(1);

    fn verdict(rules: RestartSettings, exit: AppExit) -> Verdict {
        let now = Instant::now();
        Lives::first(now).verdict(&rules, &SuccessCodes(vec![143]), exit, now)
    }

    #[test]
    fn who_is_started_again() {
        let killed = AppExit::Signal(Signal::KILL);
        let termed = AppExit::Signal(Signal::TERM);
        for (when, exit, again) in [
            (Restart::Never, FAILED, false),
            (Restart::Never, AppExit::Code(0), false),
            (Restart::OnFailure, FAILED, true),
            (Restart::OnFailure, killed, true),
            (Restart::OnFailure, AppExit::Code(0), false),
            (Restart::OnFailure, termed, false), // a success code
            (Restart::Always, AppExit::Code(0), true),
            (Restart::Always, termed, true),
        ] {
            let found = verdict(RestartSettings { when, ..RULES }, exit);
            assert_eq!(matches!(found, Verdict::Again(_)), again, "{when:?} {exit:?}: {found:?}");
        }
    }

    #[test]
    fn delays_double_up_to_the_longest_and_end_at_the_limit() {
        let mut now = Instant::now();
        let (mut lives, mut delays) = (Lives::first(now), vec![]);
        let last = loop {
            now += Duration::from_secs(1);
            match lives.verdict(&RULES, &SuccessCodes::default(), FAILED, now) {
                Verdict::Again(again) => {
                    delays.push(again.after.as_secs());
                    now += again.after;
                    lives = again.lives.started(now);
                }
                other => break other,
            }
        };
        assert_eq!((delays, last), (vec![1, 2, 4, 8, 16, 30, 30], Verdict::LimitReached(7)));
    }

    #[test]
    fn a_long_life_begins_a_new_row() {
        let now = Instant::now();
        let worn = Lives { restarts: 7, ..Lives::first(now) };
        let after = |span| worn.verdict(&RULES, &SuccessCodes::default(), FAILED, now + span);
        assert_eq!(after(RULES.window - Duration::from_millis(1)), Verdict::LimitReached(7));
        assert!(matches!(after(RULES.window), Verdict::Again(Again { after, lives })
            if after == RULES.delay && lives.restarts() == 1));
    }

    #[test]
    fn no_number_overflows() {
        let now = Instant::now();
        let rules = RestartSettings { limit: u32::MAX, delay: Duration::MAX, delay_max: Duration::MAX, ..RULES };
        let worn = Lives { restarts: 4_000_000, ..Lives::first(now) };
        assert!(matches!(worn.verdict(&rules, &SuccessCodes::default(), FAILED, now), Verdict::Again(_)));
    }

    #[test]
    fn without_the_engine_nothing_is_started_again() {
        let now = Instant::now();
        let found = Lives::first(now).engine_lost().verdict(&RULES, &SuccessCodes::default(), FAILED, now);
        assert_eq!(found, Verdict::End);
    }
}

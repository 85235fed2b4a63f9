//! What the service manager has to know of the lifecycle's state. Pure.

use crate::lifecycle::{Abandoning, Clearing, Flushing, State, StopCause, Stopping, Then, sidecar};
use std::time::Instant;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// litevisor is about to end. Not when the app is stopped for a restore in place or for a hand-over.
    pub ending: bool,
    /// Then, at the latest.
    pub ends_by: Option<Instant>,
    /// It is what it was started for, without an app: it stands by, or it has handed the replica over.
    pub serves_without_app: bool,
}

impl Life {
    fn ending(by: Option<Instant>) -> Life {
        Life { ending: true, ends_by: by, serves_without_app: false }
    }

    fn ending_if(ending: bool, by: Instant) -> Life {
        if ending { Life::ending(Some(by)) } else { Life::default() }
    }

    pub fn of(state: &State) -> Life {
        let goes_on = |cause| matches!(cause, StopCause::Restore | StopCause::HandOver);
        match state {
            State::Restoring
            | State::Waiting
            | State::CatchingUp(_)
            | State::SettingUp(_)
            | State::Starting(_)
            | State::Running(_)
            | State::Backoff(_) => Life::default(),
            State::StandingBy | State::Retired => Life { serves_without_app: true, ..Life::default() },
            State::Abandoning(Abandoning { until, .. }) => Life::ending(Some(*until)),
            State::PreSync(plan) | State::Stopping(Stopping { plan, .. }) => {
                Life::ending_if(!goes_on(plan.cause), plan.budget.end_at)
            }
            State::Clearing(Clearing { plan, then, .. }) => {
                Life::ending_if(*then == Then::End && !goes_on(plan.cause), plan.budget.end_at)
            }
            State::Reinstalling(reinstalling) => {
                reinstalling.stop.map_or(Life::default(), |plan| Life::ending(Some(plan.budget.end_at)))
            }
            State::Flushing(Flushing { retire, until, .. }) => Life::ending_if(!retire, *until),
            State::Done(_) => Life::ending(None),
        }
    }

    /// The same without an app.
    pub fn of_sidecar(state: &sidecar::State) -> Life {
        use sidecar::State;
        match state {
            State::Preparing | State::Replicating | State::Uploading => Life::default(),
            State::Abandoning(Abandoning { until, .. }) => Life::ending(Some(*until)),
            State::Draining(draining) => Life::ending(Some(draining.budget.end_at)),
            State::Flushing(flushing) => Life::ending(Some(flushing.until)),
            State::Done(_) => Life::ending(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{Event, HandOver, Rules, step};
    use crate::model::proof::{AppTreeExited, Quiet, Restored};
    use crate::model::{AppExit, NotStarted, Restart, RestartSettings, Signal, SignalMap, SuccessCodes};
    use std::time::Duration;

    fn after(restart: Restart, events: Vec<Event>) -> Life {
        let rules = Rules {
            grace: Duration::from_secs(10),
            app_timeout: Duration::from_secs(7),
            pre_sync_timeout: Duration::from_secs(2),
            stop_signal: Signal::TERM,
            signals: SignalMap::default(),
            restart: RestartSettings { when: restart, ..RestartSettings::DEFAULT },
            success: SuccessCodes::default(),
            trial: Duration::ZERO,
            notices_ready: false,
            setup: 0,
        };
        let now = Instant::now();
        let state =
            events.into_iter().fold(State::Restoring, |state, event| step(&rules, state, event, now).0);
        let life = Life::of(&state);
        let bounded = life.ends_by.is_none_or(|by| by <= now + Duration::from_secs(61));
        assert!(bounded && (life.ending || life.ends_by.is_none()), "{state:?}");
        life
    }

    #[test]
    fn what_ends_and_what_goes_on() {
        use Restart::{Always, Never};
        let started = || vec![Event::Restored(Restored::attest()), Event::Spawned];
        let then = |more: Vec<Event>| started().into_iter().chain(more).collect::<Vec<_>>();
        let term = || Event::Stop(Signal::TERM);
        let exited = || Event::AppExited(AppExit::Code(1));
        let gone = || Event::AllExited(Quiet::attest());
        let (goes_on, ends, serves) = ((false, false), (true, false), (false, true));
        for (case, restart, events, expected) in [
            ("restore", Never, vec![], goes_on),
            ("abandoned", Never, vec![term()], ends),
            ("failed", Never, vec![Event::RestoreFailed(NotStarted::Damaged)], ends),
            ("waits", Never, vec![Event::HandOver(HandOver::Waiting { standby: false })], goes_on),
            ("stands by", Never, vec![Event::HandOver(HandOver::Waiting { standby: true })], serves),
            ("passed on", Never, vec![Event::HandOver(HandOver::PassedOn)], serves),
            ("runs", Never, started(), goes_on),
            ("stop", Never, then(vec![term()]), ends),
            ("stop, told", Never, then(vec![term(), Event::Flushed]), ends),
            ("stop, gone", Never, then(vec![term(), exited()]), ends),
            ("stop, flush", Never, then(vec![term(), exited(), gone()]), ends),
            ("ended", Never, then(vec![exited()]), ends),
            ("to be started again", Always, then(vec![exited()]), goes_on),
            ("later", Always, then(vec![exited(), Event::AppTreeExited(AppTreeExited::attest())]), goes_on),
            ("taken over", Never, then(vec![Event::Fenced]), ends),
            ("restore in place", Never, then(vec![Event::RestoreAsked]), goes_on),
            ("and a stop", Never, then(vec![Event::RestoreAsked, term()]), ends),
            ("handed over", Never, then(vec![Event::HandOver(HandOver::Asked)]), goes_on),
            (
                "handed over, flush",
                Never,
                then(vec![Event::HandOver(HandOver::Asked), exited(), gone()]),
                goes_on,
            ),
            (
                "retired",
                Never,
                then(vec![
                    Event::HandOver(HandOver::Asked),
                    exited(),
                    gone(),
                    Event::Finished { complete: true },
                ]),
                serves,
            ),
        ] {
            let life = after(restart, events);
            assert_eq!((life.ending, life.serves_without_app), expected, "{case}");
        }
    }
}

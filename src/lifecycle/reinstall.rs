//! A restore in place that was requested while the app ran, after the app's process tree has exited.

use super::enter::{Step, app_exited_plan, app_gone, stop_plan};
use super::events::{Action, Event, HandOver};
use super::restart::RestartHistory;
use super::rules::Rules;
use super::state::{Reinstalling, Starting, State, StopCause, StopPlan};
use crate::model::Ending;
use std::time::Instant;

impl Reinstalling {
    fn unchanged(self, actions: Vec<Action>) -> Step {
        (State::Reinstalling(self), actions)
    }

    /// The engine keeps the old file; the app is not started again.
    fn stopped(mut self, plan: StopPlan) -> Step {
        self.stop = Some(plan);
        self.unchanged(vec![Action::AbandonReinstall])
    }
}

/// Every way out but the restart checks the processes once more: some may have entered the namespace from
/// outside.
pub(super) fn reinstalling(rules: &Rules, mut state: Reinstalling, event: Event, now: Instant) -> Step {
    let stop = state.stop;
    match event {
        Event::Reinstalled | Event::Deadline if stop.is_some() => {
            let plan = stop.unwrap_or_else(|| app_exited_plan(rules, now));
            app_gone(rules, state.ending, plan, false, now)
        }
        Event::Reinstalled => {
            let stop = state.asked.then_some(StopCause::HandOver);
            let starting = Starting { stop, history: RestartHistory::first(now), trial: false };
            (State::Starting(starting), vec![Action::Restart(state.tree_exited)])
        }
        Event::RestoreFailed(reason) => {
            let plan = stop.unwrap_or_else(|| app_exited_plan(rules, now));
            app_gone(rules, Ending::NotStarted(reason), plan, false, now)
        }
        Event::EngineLost => {
            app_gone(rules, state.ending, stop.unwrap_or_else(|| app_exited_plan(rules, now)), false, now)
        }
        Event::Stop(signal) => match stop {
            None => state.stopped(stop_plan(rules, StopCause::Signal(signal), now)),
            Some(_) => state.unchanged(vec![Action::Note(signal)]),
        },
        Event::Fenced => match stop {
            None => state.stopped(stop_plan(rules, StopCause::Fenced, now)),
            Some(plan) => {
                state.stop = Some(StopPlan { fenced: true, ..plan });
                state.unchanged(vec![])
            }
        },
        Event::Other(signal) => state.unchanged(vec![Action::Note(signal)]),
        Event::RestoreAsked => state.unchanged(vec![Action::RefuseRestore]),
        Event::HandOver(HandOver::Asked) => {
            state.asked = true;
            state.unchanged(vec![])
        }
        Event::Deadline
        | Event::AppReady
        | Event::HandOver(_)
        | Event::AppExited(_)
        | Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Restored(_)
        | Event::SetupDue(_)
        | Event::SetupKept
        | Event::Abandoned
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => state.unchanged(vec![]),
    }
}

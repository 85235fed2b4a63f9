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

//! The replica was handed over to another instance. Waiting for it, before the app's first start, is in
//! `before_exit`.

use super::before_exit::abandon;
use super::enter::Step;
use super::events::{Action, Event, HandOver};
use super::rules::Rules;
use super::state::{CatchingUp, State};
use crate::model::Ending;
use std::time::Instant;

/// Nothing but a stop signal ends it, and only the failed start of the next instance starts the app again.
pub(super) fn retired(rules: &Rules, event: Event, now: Instant) -> Step {
    match event {
        // As a standby, it may just have claimed the replica again.
        Event::Stop(_) => abandon(rules, Ending::Retired, Action::Withdraw, now),
        Event::HandOver(HandOver::SuccessorFailed) => {
            (State::CatchingUp(CatchingUp { trial: false }), vec![Action::Resume])
        }
        Event::Other(signal) => (State::Retired, vec![Action::Note(signal)]),
        Event::RestoreAsked => (State::Retired, vec![Action::RefuseRestore]),
        Event::HandOver(_)
        | Event::AppExited(_)
        | Event::AppReady
        | Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Deadline
        | Event::Restored(_)
        | Event::SetupDue(_)
        | Event::SetupKept
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Reinstalled
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. }
        | Event::Fenced
        | Event::EngineLost => (State::Retired, vec![]),
    }
}

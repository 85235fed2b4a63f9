//! The commands of `[app] setup`, between the restore and the app: one after the other, each like an app of
//! its own. Nothing is replicated yet. The databases are marked meanwhile, and only `Action::KeepSetup` makes
//! valid what the commands have written; every other end leaves the mark, so that the next start brings the
//! state before them back.

use super::enter::{Step, app_exited_plan, app_gone, forward, signal_app, stop_plan};
use super::events::{Action, Event, HandOver};
use super::restart::RestartHistory;
use super::rules::Rules;
use super::state::{Setup, Starting, State, StopCause};
use crate::model::proof::Restored;
use crate::model::{AppExit, Ending, NotStarted};
use std::time::Instant;

/// The first command. `trial`: the start follows a hand-over.
pub(super) fn begin(restored: Restored, trial: bool) -> Step {
    (State::SettingUp(Setup { restored, trial, command: 0, keeping: false }), vec![Action::SetUp(0)])
}

impl Setup {
    fn exited(mut self, rules: &Rules, exit: AppExit, now: Instant) -> Step {
        if exit != AppExit::Code(0) {
            let plan = app_exited_plan(rules, now).failed_start_if(self.trial);
            return app_gone(rules, Ending::SetupFailed(exit), plan, false, now);
        }
        self.command += 1;
        if self.command < rules.setup {
            let next = Action::SetUp(self.command);
            return (State::SettingUp(self), vec![next]);
        }
        self.keeping = true;
        (State::SettingUp(self), vec![Action::KeepSetup])
    }

    fn not_started(self, rules: &Rules, reason: NotStarted, now: Instant) -> Step {
        let plan = app_exited_plan(rules, now).failed_start_if(self.trial);
        app_gone(rules, Ending::NotStarted(reason), plan, false, now)
    }

    /// A stop while no command runs: what they have written is kept, or is written again by the next start.
    fn stop(self, rules: &Rules, cause: StopCause, now: Instant) -> Step {
        let plan = stop_plan(rules, cause, now);
        match (self.keeping, cause) {
            (false, _) => {
                signal_app(rules, plan.failed_start_if(self.trial && cause != StopCause::HandOver), now)
            }
            (true, StopCause::Signal(signal)) => app_gone(rules, Ending::Stopped(signal), plan, false, now),
            (true, _) => app_gone(rules, Ending::NotStarted(NotStarted::Taken), plan, false, now),
        }
    }
}

pub(super) fn setting_up(rules: &Rules, setup: Setup, event: Event, now: Instant) -> Step {
    match event {
        Event::AppExited(exit) if !setup.keeping => setup.exited(rules, exit, now),
        Event::NotSpawned(reason) => setup.not_started(rules, reason, now),
        Event::SetupKept if setup.keeping => {
            let starting = Starting { stop: None, history: RestartHistory::first(now), trial: setup.trial };
            (State::Starting(starting), vec![Action::Start(setup.restored)])
        }
        Event::RestoreFailed(reason) => setup.not_started(rules, reason, now),
        Event::Stop(signal) => setup.stop(rules, StopCause::Signal(signal), now),
        Event::Fenced => setup.stop(rules, StopCause::Fenced, now),
        Event::HandOver(HandOver::Asked) => setup.stop(rules, StopCause::HandOver, now),
        Event::Other(signal) if setup.keeping => (State::SettingUp(setup), vec![Action::Note(signal)]),
        Event::Other(signal) => (State::SettingUp(setup), forward(rules, signal)),
        Event::RestoreAsked => (State::SettingUp(setup), vec![Action::RefuseRestore]),
        // While a command runs nothing of the engine is needed; `KeepSetup` notices it.
        Event::EngineLost if setup.keeping => setup.not_started(rules, NotStarted::Internal, now),
        Event::EngineLost
        | Event::AppExited(_)
        | Event::AppReady
        | Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Deadline
        | Event::Restored(_)
        | Event::SetupDue(_)
        | Event::SetupKept
        | Event::Abandoned
        | Event::Reinstalled
        | Event::Spawned
        | Event::Flushed
        | Event::Finished { .. }
        | Event::HandOver(_) => (State::SettingUp(setup), vec![]),
    }
}

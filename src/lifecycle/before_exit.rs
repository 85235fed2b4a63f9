//! The states up to the app's exit: one function for each state.

use super::budget::ABANDON;
use super::enter::{
    Step, app_exited, app_exited_plan, app_gone, begin_stop, done, flush_unproven, forward, signal_app,
};
use super::events::{Action, Event};
use super::restart::RestartHistory;
use super::rules::Rules;
use super::state::{Abandoning, Starting, State, StopCause, StopPlan, Stopping};
use crate::model::{Ending, NotStarted, Signal};
use std::time::Instant;

pub(super) fn restoring(rules: &Rules, event: Event, now: Instant) -> Step {
    let abandon = |ending| {
        let until = now + ABANDON.min(rules.grace);
        (State::Abandoning(Abandoning { ending, until }), vec![Action::Abandon])
    };
    match event {
        Event::Stop(signal) => abandon(Ending::Stopped(signal)),
        Event::Fenced => abandon(Ending::NotStarted(NotStarted::Taken)),
        Event::Other(signal) => (State::Restoring, vec![Action::Note(signal)]),
        Event::RestoreAsked => (State::Restoring, vec![Action::RefuseRestore]),
        Event::Restored(proof) => {
            (State::Starting(Starting { stop: None, history: RestartHistory::first(now) }), vec![Action::Start(proof)])
        }
        Event::RestoreFailed(reason) => done(Ending::NotStarted(reason)),
        Event::Abandoned | Event::EngineLost => done(Ending::NotStarted(NotStarted::Internal)),
        Event::AppExited(_)
        | Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Deadline
        | Event::Reinstalled
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => (State::Restoring, vec![]),
    }
}

pub(super) fn abandoning(state: Abandoning, event: &Event) -> Step {
    match event {
        Event::Stop(signal) | Event::Other(signal) => (State::Abandoning(state), vec![Action::Note(*signal)]),
        Event::RestoreAsked => (State::Abandoning(state), vec![Action::RefuseRestore]),
        // The restore may have succeeded, or failed for another reason: the app is not started in any case.
        Event::Abandoned | Event::Restored(_) | Event::RestoreFailed(_) | Event::EngineLost | Event::Deadline => {
            done(state.ending)
        }
        Event::AppExited(_)
        | Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Reinstalled
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. }
        | Event::Fenced => (State::Abandoning(state), vec![]),
    }
}

pub(super) fn starting(rules: &Rules, state: Starting, event: Event, now: Instant) -> Step {
    match event {
        Event::Spawned => match state.stop {
            Some(signal) => begin_stop(rules, StopCause::Signal(signal), now),
            None => (State::Running(state.history.started(now)), vec![]),
        },
        Event::NotSpawned(reason) => {
            app_gone(rules, Ending::NotStarted(reason), app_exited_plan(rules, now), true, now)
        }
        Event::Stop(signal) => (State::Starting(Starting { stop: state.stop.or(Some(signal)), ..state }), vec![]),
        Event::Other(signal) => (State::Starting(state), vec![Action::Note(signal)]),
        Event::RestoreAsked => (State::Starting(state), vec![Action::RefuseRestore]),
        Event::AppExited(_)
        | Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Deadline
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Reinstalled
        | Event::Flushed
        | Event::Finished { .. }
        | Event::Fenced
        | Event::EngineLost => (State::Starting(state), vec![]),
    }
}

pub(super) fn running(rules: &Rules, history: RestartHistory, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => begin_stop(rules, StopCause::Signal(signal), now),
        Event::Fenced => begin_stop(rules, StopCause::Fenced, now),
        Event::RestoreAsked => begin_stop(rules, StopCause::Restore, now),
        Event::Other(signal) => (State::Running(history), forward(rules, signal)),
        Event::AppExited(exit) => app_exited(rules, history, exit, now),
        Event::EngineLost => (State::Running(history.engine_lost()), vec![]),
        Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Deadline
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Reinstalled
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => (State::Running(history), vec![]),
    }
}

pub(super) fn pre_sync(rules: &Rules, plan: StopPlan, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => match plan.with_first_signal(signal) {
            Some(plan) => (State::PreSync(plan), vec![]),
            None => signal_app(rules, plan, now),
        },
        Event::Other(signal) => (State::PreSync(plan), forward(rules, signal)),
        Event::RestoreAsked => (State::PreSync(plan), vec![Action::RefuseRestore]),
        Event::AppExited(exit) => app_gone(rules, Ending::App(exit), plan, false, now),
        Event::Flushed | Event::Deadline | Event::EngineLost => signal_app(rules, plan, now),
        Event::Fenced => (State::PreSync(StopPlan { fenced: true, ..plan }), vec![]),
        Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Reinstalled
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Finished { .. } => (State::PreSync(plan), vec![]),
    }
}

pub(super) fn stopping(rules: &Rules, mut state: Stopping, event: Event, now: Instant) -> Step {
    let kill = |mut plan: StopPlan| {
        plan.budget = plan.budget.killed_at(rules, now);
        (State::Stopping(Stopping { plan, killed: true }), vec![Action::KillApp])
    };
    match event {
        Event::Stop(signal) => match state.plan.with_first_signal(signal) {
            Some(plan) => (State::Stopping(Stopping { plan, ..state }), vec![]),
            None => kill(state.plan),
        },
        Event::Other(signal) => (State::Stopping(state), forward(rules, signal)),
        Event::RestoreAsked => (State::Stopping(state), vec![Action::RefuseRestore]),
        Event::AppExited(exit) => app_gone(rules, Ending::App(exit), state.plan, true, now),
        Event::Deadline if state.killed && now >= state.plan.budget.give_up_at => {
            let (state, mut flush) = flush_unproven(rules, Ending::Unkillable, state.plan, now);
            flush.insert(0, Action::KillApp);
            (state, flush)
        }
        Event::Deadline if state.killed => (State::Stopping(state), vec![]),
        Event::Deadline => kill(state.plan),
        Event::Fenced => {
            state.plan.fenced = true;
            (State::Stopping(state), vec![])
        }
        Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Reinstalled
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. }
        | Event::EngineLost => (State::Stopping(state), vec![]),
    }
}

impl StopPlan {
    /// The plan with this signal as its cause. None: a signal is the cause already; a further one shortens the app's time.
    fn with_first_signal(self, signal: Signal) -> Option<StopPlan> {
        match self.cause {
            StopCause::Fenced | StopCause::Restore => Some(StopPlan { cause: StopCause::Signal(signal), ..self }),
            StopCause::Signal(_) | StopCause::AppEnded => None,
        }
    }
}

//! The states up to the app's exit: one function for each state.

use super::budget::ABANDON;
use super::enter::{
    Step, app_exited, app_exited_plan, app_gone, begin_stop, done, flush_unproven, forward, pre_sync_begins,
    retire, signal_app, stop_plan,
};
use super::events::{Action, Event, HandOver};
use super::restart::RestartHistory;
use super::rules::Rules;
use super::setup;
use super::state::{Abandoning, CatchingUp, Running, Starting, State, StopCause, StopPlan, Stopping, Trial};
use crate::model::{AppExit, Ending, NotStarted, ReleaseReason, Signal};
use std::time::Instant;

/// The states before the app's first start: `state` is one of them.
pub(super) fn preparing(rules: &Rules, state: State, event: Event, now: Instant) -> Step {
    let abandon = |ending| abandon(rules, ending, Action::Abandon, now);
    match event {
        // It did what it was started for.
        Event::Stop(_) if matches!(state, State::StandingBy) => abandon(Ending::Retired),
        Event::Stop(signal) => abandon(Ending::Stopped(signal)),
        Event::Fenced => abandon(Ending::NotStarted(NotStarted::Taken)),
        Event::Other(signal) => (state, vec![Action::Note(signal)]),
        Event::RestoreAsked => (state, vec![Action::RefuseRestore]),
        Event::SetupDue(proof) => setup::begin(proof, is_trial(&state)),
        Event::Restored(proof) => {
            let trial = is_trial(&state);
            let starting = Starting { stop: None, history: RestartHistory::first(now), trial };
            (State::Starting(starting), vec![Action::Start(proof)])
        }
        Event::RestoreFailed(reason) => done(Ending::NotStarted(reason)),
        Event::Abandoned | Event::EngineLost => done(Ending::NotStarted(NotStarted::Internal)),
        Event::HandOver(HandOver::Waiting { standby: false }) => (State::Waiting, vec![]),
        Event::HandOver(HandOver::Waiting { standby: true }) => (State::StandingBy, vec![]),
        Event::HandOver(HandOver::CatchingUp { trial }) => (State::CatchingUp(CatchingUp { trial }), vec![]),
        Event::HandOver(HandOver::PassedOn) => retire(true),
        Event::HandOver(HandOver::Asked | HandOver::SuccessorFailed)
        | Event::AppExited(_)
        | Event::AppReady
        | Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Deadline
        | Event::Reinstalled
        | Event::SetupKept
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => (state, vec![]),
    }
}

/// `how` is answered within this time, or not waited for.
pub(super) fn abandon(rules: &Rules, ending: Ending, how: Action, now: Instant) -> Step {
    let until = now + ABANDON.min(rules.grace);
    (State::Abandoning(Abandoning { ending, until }), vec![how])
}

fn is_trial(state: &State) -> bool {
    matches!(state, State::CatchingUp(CatchingUp { trial: true }))
}

pub(super) fn abandoning(state: Abandoning, event: &Event) -> Step {
    match event {
        Event::Stop(signal) | Event::Other(signal) => (State::Abandoning(state), vec![Action::Note(*signal)]),
        Event::RestoreAsked => (State::Abandoning(state), vec![Action::RefuseRestore]),
        // The restore may have succeeded, or failed for another reason: the app is not started in any case.
        Event::Abandoned
        | Event::Restored(_)
        | Event::SetupDue(_)
        | Event::RestoreFailed(_)
        | Event::EngineLost
        | Event::Deadline => done(state.ending),
        Event::AppExited(_)
        | Event::AppReady
        | Event::HandOver(_)
        | Event::OrphansReaped
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Reinstalled
        | Event::SetupKept
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
            Some(cause) => begin_stop(rules, cause, now),
            None => {
                let trial =
                    state.trial.then(|| Trial { until: now + rules.trial, ready: !rules.notices_ready });
                (State::Running(Running { history: state.history.started(now), trial }), vec![])
            }
        },
        Event::NotSpawned(reason) => {
            let plan = app_exited_plan(rules, now).failed_start_if(state.trial);
            app_gone(rules, Ending::NotStarted(reason), plan, true, now)
        }
        Event::Stop(signal) => {
            let first = state.stop.filter(|cause| *cause != StopCause::HandOver);
            let stop = Some(first.unwrap_or(StopCause::Signal(signal)));
            (State::Starting(Starting { stop, ..state }), vec![])
        }
        Event::HandOver(HandOver::Asked) => {
            (State::Starting(Starting { stop: state.stop.or(Some(StopCause::HandOver)), ..state }), vec![])
        }
        Event::Other(signal) => (State::Starting(state), vec![Action::Note(signal)]),
        Event::RestoreAsked => (State::Starting(state), vec![Action::RefuseRestore]),
        Event::AppExited(_)
        | Event::AppReady
        | Event::HandOver(_)
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
        | Event::Flushed
        | Event::Finished { .. }
        | Event::Fenced
        | Event::EngineLost => (State::Starting(state), vec![]),
    }
}

impl Running {
    /// The app has not answered yet after a hand-over: if it ends now, the previous owner takes over again.
    fn is_unproven(&self) -> bool {
        self.trial.is_some_and(|trial| !trial.ready)
    }

    /// A failure of the app ends the trial, whatever `restart` says: the previous owner serves again sooner.
    fn exited(self, rules: &Rules, exit: AppExit, now: Instant) -> Step {
        let failed = self.trial.is_some_and(|trial| now < trial.until) && rules.success.status(exit) != 0;
        if failed {
            return app_gone(
                rules,
                Ending::App(exit),
                app_exited_plan(rules, now).failed_start_if(true),
                false,
                now,
            );
        }
        app_exited(rules, self.history, exit, now)
    }

    fn trial_over(self, rules: &Rules, now: Instant) -> Step {
        match self.trial {
            Some(trial) if now >= trial.until && !trial.ready => {
                let (state, mut actions) = begin_stop(rules, StopCause::NeverReady, now);
                actions.insert(0, Action::NeverReady);
                (state, actions)
            }
            Some(trial) if now >= trial.until => (State::Running(Running { trial: None, ..self }), vec![]),
            Some(_) | None => (State::Running(self), vec![]),
        }
    }
}

pub(super) fn running(rules: &Rules, running: Running, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => {
            let plan =
                stop_plan(rules, StopCause::Signal(signal), now).failed_start_if(running.is_unproven());
            pre_sync_begins(plan)
        }
        Event::Fenced => begin_stop(rules, StopCause::Fenced, now),
        Event::RestoreAsked => begin_stop(rules, StopCause::Restore, now),
        Event::HandOver(HandOver::Asked) => begin_stop(rules, StopCause::HandOver, now),
        Event::Other(signal) => (State::Running(running), forward(rules, signal)),
        Event::AppExited(exit) => running.exited(rules, exit, now),
        Event::EngineLost => {
            (State::Running(Running { history: running.history.engine_lost(), ..running }), vec![])
        }
        Event::AppReady => {
            let trial = running.trial.map(|trial| Trial { ready: true, ..trial });
            (State::Running(Running { trial, ..running }), vec![])
        }
        Event::Deadline => running.trial_over(rules, now),
        Event::OrphansReaped
        | Event::HandOver(_)
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Restored(_)
        | Event::SetupDue(_)
        | Event::SetupKept
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Reinstalled
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => (State::Running(running), vec![]),
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
        Event::AppExited(exit) => app_gone(rules, plan.ending(exit), plan, false, now),
        Event::HandOver(HandOver::Asked) => (State::PreSync(plan.asked()), vec![]),
        Event::Flushed | Event::Deadline | Event::EngineLost => signal_app(rules, plan, now),
        Event::Fenced => (State::PreSync(StopPlan { fenced: true, ..plan }), vec![]),
        Event::OrphansReaped
        | Event::AppReady
        | Event::HandOver(_)
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
        | Event::Restored(_)
        | Event::SetupDue(_)
        | Event::SetupKept
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
        Event::AppExited(exit) => app_gone(rules, state.plan.ending(exit), state.plan, true, now),
        Event::HandOver(HandOver::Asked) => {
            state.plan = state.plan.asked();
            (State::Stopping(state), vec![])
        }
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
        | Event::AppReady
        | Event::HandOver(_)
        | Event::AllExited(_)
        | Event::AppTreeExited(_)
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
        | Event::EngineLost => (State::Stopping(state), vec![]),
    }
}

impl StopPlan {
    /// The plan with this signal as its cause. None: a signal is the cause already; a further one shortens
    /// the app's time.
    fn with_first_signal(self, signal: Signal) -> Option<StopPlan> {
        match self.cause {
            StopCause::Fenced | StopCause::Restore | StopCause::HandOver | StopCause::NeverReady => {
                Some(StopPlan { cause: StopCause::Signal(signal), ..self })
            }
            StopCause::Signal(_) | StopCause::AppEnded => None,
        }
    }

    /// Another instance asks for the replica during this stop: only a restart of the app is given up for it.
    pub(super) fn asked(self) -> StopPlan {
        match self.cause {
            StopCause::Restore => {
                StopPlan { cause: StopCause::HandOver, release: ReleaseReason::HandedOver, ..self }
            }
            _ => self,
        }
    }

    fn ending(&self, exit: AppExit) -> Ending {
        if self.cause == StopCause::NeverReady { Ending::NeverReady(exit) } else { Ending::App(exit) }
    }
}

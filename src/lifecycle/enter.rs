//! Transitions: the functions that enter a state, with the actions that the state begins with.

use super::budget::{Budget, CHECK_INTERVAL};
use super::events::Action;
use super::restart::{PlannedRestart, RestartDecision, RestartHistory};
use super::rules::Rules;
use super::state::{
    Backoff, Clearing, FlushAttempt, Flushing, Outcome, Reinstalling, State, StopCause, StopPlan, Stopping,
    Then,
};
use crate::model::proof::{AppTreeExited, Quiet};
use crate::model::{AppExit, Deadline, Ending, NotStarted, ReleaseReason, Signal};
use crate::supervise::remaining::{Extent, Treatment};
use std::time::Instant;

pub(super) type Step = (State, Vec<Action>);

impl Then {
    /// Which processes must have exited before it.
    pub(super) fn extent(self) -> Extent {
        match self {
            Then::End => Extent::AllWriters,
            Then::Restart(..) | Then::Reinstall => Extent::AppTree,
        }
    }
}

pub(super) fn stop_plan(rules: &Rules, cause: StopCause, now: Instant) -> StopPlan {
    let release = match cause {
        StopCause::HandOver => ReleaseReason::HandedOver,
        StopCause::NeverReady => ReleaseReason::FailedStart,
        StopCause::Signal(_) | StopCause::Fenced | StopCause::Restore | StopCause::AppEnded => {
            ReleaseReason::Stopped
        }
    };
    StopPlan { cause, fenced: cause == StopCause::Fenced, release, budget: Budget::split(rules, now) }
}

impl StopPlan {
    pub(super) fn failed_start_if(self, failed: bool) -> StopPlan {
        if failed { StopPlan { release: ReleaseReason::FailedStart, ..self } } else { self }
    }
}

/// The plan after an exit that nothing requested.
pub(super) fn app_exited_plan(rules: &Rules, now: Instant) -> StopPlan {
    StopPlan { budget: Budget::unhurried(rules, now), ..stop_plan(rules, StopCause::AppEnded, now) }
}

pub(super) fn begin_stop(rules: &Rules, cause: StopCause, now: Instant) -> Step {
    pre_sync_begins(stop_plan(rules, cause, now))
}

pub(super) fn pre_sync_begins(plan: StopPlan) -> Step {
    (State::PreSync(plan), vec![Action::Flush { by: Deadline::at(plan.budget.pre_sync_by) }])
}

pub(super) fn signal_app(rules: &Rules, mut plan: StopPlan, now: Instant) -> Step {
    plan.budget = plan.budget.signalled_at(now);
    let signal = match plan.cause {
        StopCause::Signal(received) => rules.stop_signal_for(received),
        StopCause::Fenced
        | StopCause::Restore
        | StopCause::HandOver
        | StopCause::NeverReady
        | StopCause::AppEnded => rules.own_stop_signal(),
    };
    (State::Stopping(Stopping { plan, killed: false }), vec![Action::StopApp(signal)])
}

pub(super) fn forward(rules: &Rules, received: Signal) -> Vec<Action> {
    vec![rules.forwarded(received).map_or(Action::Note(received), Action::Forward)]
}

/// The app exited by itself, before any stop was requested.
pub(super) fn app_exited(rules: &Rules, history: RestartHistory, exit: AppExit, now: Instant) -> Step {
    let (then, note) = match history.decide(&rules.restart, &rules.success, exit, now) {
        RestartDecision::Restart(planned) => (Then::Restart(exit, planned), None),
        RestartDecision::LimitReached(limit) => (Then::End, Some(Action::NoMoreRestarts { limit })),
        RestartDecision::End => (Then::End, None),
    };
    let (state, mut actions) =
        clear(rules, Ending::App(exit), app_exited_plan(rules, now), (false, then), now);
    actions.extend(note);
    (state, actions)
}

/// The app has exited during a stop, or was never started.
pub(super) fn app_gone(
    rules: &Rules,
    ending: Ending,
    plan: StopPlan,
    group_signalled: bool,
    now: Instant,
) -> Step {
    let then = if plan.cause == StopCause::Restore && !plan.fenced { Then::Reinstall } else { Then::End };
    clear(rules, ending, plan, (group_signalled, then), now)
}

fn clear(
    rules: &Rules,
    ending: Ending,
    plan: StopPlan,
    (group_signalled, then): (bool, Then),
    now: Instant,
) -> Step {
    let kill_at = plan.budget.kill_rest_at(now);
    let treatment = Treatment::Signal { signal: rules.own_stop_signal(), group_signalled };
    let clearing = Clearing { ending, plan, kill_at, killed: false, check_at: now + CHECK_INTERVAL, then };
    (State::Clearing(clearing), vec![Action::EndRemaining(treatment, then.extent())])
}

pub(super) fn wait_for_restart(
    rules: &Rules,
    exit: AppExit,
    planned: PlannedRestart,
    tree_exited: AppTreeExited,
    now: Instant,
) -> Step {
    let PlannedRestart { history, after } = planned;
    let later = Action::RestartLater { after, restart: history.restarts(), limit: rules.restart.limit };
    (State::Backoff(Backoff { exit, tree_exited, history, until: now + after }), vec![later])
}

/// `plan`: of the stop before it; its last flush must end by then.
pub(super) fn reinstall(ending: Ending, tree_exited: AppTreeExited, plan: &StopPlan) -> Step {
    let by = Deadline::at(plan.budget.flush_by);
    (
        State::Reinstalling(Reinstalling { ending, tree_exited, stop: None, asked: false }),
        vec![Action::Reinstall { by }],
    )
}

pub(super) fn flush(rules: &Rules, ending: Ending, plan: StopPlan, quiet: Quiet, now: Instant) -> Step {
    let (state, by) = flushing(rules, ending, plan, true, now);
    (state, vec![Action::Finish { quiet, by, release: plan.release }])
}

pub(super) fn flush_unproven(rules: &Rules, ending: Ending, plan: StopPlan, now: Instant) -> Step {
    let (state, by) = flushing(rules, ending, plan, false, now);
    (state, vec![Action::FinishUnproven { by, release: plan.release }])
}

fn flushing(rules: &Rules, ending: Ending, plan: StopPlan, proven: bool, now: Instant) -> (State, Deadline) {
    let budget = plan.budget.flushed_from(rules, now);
    let fenced = plan.fenced;
    let until = budget.end_at;
    let retire = plan.cause == StopCause::HandOver;
    let release = plan.release;
    let flushing = Flushing { ending, fenced, proven, retire, release, until, attempt: FlushAttempt::First };
    (State::Flushing(flushing), Deadline::at(budget.flush_by))
}

/// The replica was handed over. `complete`: everything that clients wait for is in it.
pub(super) fn retire(complete: bool) -> Step {
    (State::Retired, vec![Action::Retire { complete }])
}

/// The end of a run that wrote nothing: there is nothing to flush.
pub(super) fn done(ending: Ending) -> Step {
    let fenced = ending == Ending::NotStarted(NotStarted::Taken);
    (State::Done(Outcome { ending, complete: true, fenced }), vec![])
}

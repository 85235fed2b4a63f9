//! The states after the app's exit: the other processes are ended, then the app is started again or
//! everything is flushed. A restore in place is in `reinstall`.

use super::budget::{Budget, CHECK_INTERVAL, FROZEN, least_flush};
use super::enter::{
    Step, app_exited_plan, app_gone, flush, flush_unproven, reinstall, retire, stop_plan, wait_for_restart,
};
use super::events::{Action, Event, HandOver};
use super::rules::Rules;
use super::state::{Backoff, Clearing, FlushAttempt, Flushing, Outcome, Starting, State, StopCause, Then};
use crate::model::{AppExit, Deadline, Ending};
use crate::supervise::remaining::Treatment;
use std::time::Instant;

impl Clearing {
    /// After a freeze that ended long after `give_up_at`, SIGKILL is still sent first.
    fn gives_up(&self, now: Instant) -> bool {
        let give_up_at = self.plan.budget.give_up_at;
        now >= give_up_at && (self.killed || now < give_up_at + FROZEN)
    }

    /// Once SIGKILL was sent, every check sends it again: only that ends a fork bomb.
    fn check(mut self, rules: &Rules, now: Instant) -> Step {
        if !self.killed && now >= self.kill_at {
            self.killed = true;
            self.plan.budget = self.plan.budget.killed_at(rules, now);
        }
        self.check_at = now + CHECK_INTERVAL;
        let treatment = if self.killed { Treatment::Kill } else { Treatment::Count };
        let extent = self.then.extent();
        (State::Clearing(self), vec![Action::EndRemaining(treatment, extent)])
    }
}

pub(super) fn clearing(rules: &Rules, mut clearing: Clearing, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => {
            clearing.plan.budget = clearing.plan.budget.sooner(Budget::split(rules, now));
            clearing.kill_at = now;
            clearing.then = Then::End;
            if let StopCause::HandOver = clearing.plan.cause {
                clearing.plan.cause = StopCause::Signal(signal);
            }
            clearing.check(rules, now)
        }
        Event::OrphansReaped => clearing.check(rules, now),
        Event::AllExited(quiet) => match clearing.then {
            Then::End => flush(rules, clearing.ending, clearing.plan, quiet, now),
            Then::Restart(exit, planned) => {
                wait_for_restart(rules, exit, planned, quiet.app_tree_exited(), now)
            }
            Then::Reinstall => reinstall(clearing.ending, quiet.app_tree_exited(), &clearing.plan),
        },
        Event::AppTreeExited(over) => match clearing.then {
            // A stop was requested meanwhile: all processes must exit.
            Then::End => clearing.check(rules, now),
            Then::Restart(exit, planned) => wait_for_restart(rules, exit, planned, over, now),
            Then::Reinstall => reinstall(clearing.ending, over, &clearing.plan),
        },
        Event::Deadline if clearing.gives_up(now) => {
            let extent = clearing.then.extent();
            let (state, mut flush) = flush_unproven(rules, clearing.ending, clearing.plan, now);
            flush.insert(0, Action::EndRemaining(Treatment::Kill, extent));
            (state, flush)
        }
        Event::Deadline => clearing.check(rules, now),
        Event::Other(signal) => (State::Clearing(clearing), vec![Action::Note(signal)]),
        Event::RestoreAsked => (State::Clearing(clearing), vec![Action::RefuseRestore]),
        Event::Fenced => {
            clearing.plan.fenced = true;
            clearing.then = Then::End;
            (State::Clearing(clearing), vec![])
        }
        Event::EngineLost => {
            clearing.then = Then::End;
            (State::Clearing(clearing), vec![])
        }
        Event::HandOver(HandOver::Asked) if clearing.then != Then::End => {
            clearing.then = Then::End;
            clearing.plan = stop_plan(rules, StopCause::HandOver, now);
            (State::Clearing(clearing), vec![])
        }
        Event::AppExited(_)
        | Event::AppReady
        | Event::HandOver(_)
        | Event::Restored(_)
        | Event::SetupDue(_)
        | Event::SetupKept
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Reinstalled
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => (State::Clearing(clearing), vec![]),
    }
}

/// Every way out but the restart checks the processes once more: some may have entered the namespace
/// meanwhile.
pub(super) fn backoff(rules: &Rules, backoff: Backoff, event: Event, now: Instant) -> Step {
    let end = |plan| app_gone(rules, Ending::App(backoff.exit), plan, false, now);
    match event {
        Event::Deadline => (
            State::Starting(Starting { stop: None, history: backoff.history, trial: false }),
            vec![Action::Restart(backoff.tree_exited)],
        ),
        Event::Stop(signal) => end(stop_plan(rules, StopCause::Signal(signal), now)),
        Event::Fenced => end(stop_plan(rules, StopCause::Fenced, now)),
        Event::HandOver(HandOver::Asked) => end(stop_plan(rules, StopCause::HandOver, now)),
        Event::EngineLost => end(app_exited_plan(rules, now)),
        Event::Other(signal) => (State::Backoff(backoff), vec![Action::Note(signal)]),
        Event::RestoreAsked => {
            reinstall(Ending::App(backoff.exit), backoff.tree_exited, &app_exited_plan(rules, now))
        }
        Event::AppExited(_)
        | Event::AppReady
        | Event::HandOver(_)
        | Event::OrphansReaped
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
        | Event::Finished { .. } => (State::Backoff(backoff), vec![]),
    }
}

impl Flushing {
    fn done(self, complete: bool) -> Step {
        let complete = complete && self.proven;
        if self.retire && complete && !self.fenced {
            return retire(complete);
        }
        (State::Done(Outcome { ending: self.ending, complete, fenced: self.fenced }), vec![])
    }
}

pub(super) fn flushing(rules: &Rules, mut flushing: Flushing, event: Event, now: Instant) -> Step {
    match event {
        // The answer to the first attempt, whose time was over when this process continued.
        Event::Finished { complete: false } if flushing.attempt == FlushAttempt::Second => {
            flushing.attempt = FlushAttempt::Last;
            (State::Flushing(flushing), vec![])
        }
        Event::Finished { complete } => flushing.done(complete),
        Event::Deadline if flushing.attempt == FlushAttempt::First && now >= flushing.until + FROZEN => {
            let (by, until) = least_flush(rules, now);
            let release = flushing.release;
            (flushing.attempt, flushing.until) = (FlushAttempt::Second, until);
            (State::Flushing(flushing), vec![Action::FinishAgain { by: Deadline::at(by), release }])
        }
        Event::Deadline | Event::EngineLost => flushing.done(false),
        // The end of a flush that a stop began is the earlier one already.
        Event::Stop(signal) => {
            flushing.until = flushing.until.min(Budget::split(rules, now).end_at);
            flushing.retire = false;
            (State::Flushing(flushing), vec![Action::Note(signal)])
        }
        Event::Other(signal) => (State::Flushing(flushing), vec![Action::Note(signal)]),
        Event::RestoreAsked => (State::Flushing(flushing), vec![Action::RefuseRestore]),
        Event::Fenced => {
            flushing.fenced = true;
            (State::Flushing(flushing), vec![])
        }
        // The app has exited too late for the proof; its exit status counts.
        Event::AppExited(exit) => {
            flushing.ending = late_exit(flushing.ending, exit);
            (State::Flushing(flushing), vec![])
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
        | Event::Flushed => (State::Flushing(flushing), vec![]),
    }
}

fn late_exit(ending: Ending, exit: AppExit) -> Ending {
    match ending {
        Ending::Unkillable => Ending::App(exit),
        Ending::App(_)
        | Ending::NotStarted(_)
        | Ending::SetupFailed(_)
        | Ending::Stopped(_)
        | Ending::NoApp
        | Ending::NeverReady(_)
        | Ending::Retired => ending,
    }
}

//! The states of a run, what each of them holds, and when its deadline is.

use super::budget::Budget;
use super::restart::{PlannedRestart, RestartHistory};
use crate::model::proof::{AppTreeExited, Restored};
use crate::model::{AppExit, Ending, ReleaseReason, Signal};
use std::time::Instant;

#[derive(Debug)]
pub enum State {
    Restoring,
    /// Another instance owns the replica and was asked to hand it over.
    Waiting,
    /// Another instance owns the replica. It is asked for nothing.
    StandingBy,
    /// The replica is this instance's again or at last; the databases are brought to its newest position.
    CatchingUp(CatchingUp),
    /// A stop signal came (or the replica was taken over) during the restore: the engine undoes it.
    Abandoning(Abandoning),
    /// The commands of `[app] setup` run, one after the other.
    SettingUp(Setup),
    /// The app is being spawned; the result is the next event. A stop signal that comes first is remembered.
    Starting(Starting),
    Running(Running),
    /// Stop requested: what is committed is flushed before the app gets the stop signal.
    PreSync(StopPlan),
    /// The app has got the stop signal.
    Stopping(Stopping),
    /// The app's main process has exited (or was never started). The other processes must exit before the
    /// last flush, and before the app is started again.
    Clearing(Clearing),
    /// The app has exited and is started again later. Replication continues.
    Backoff(Backoff),
    /// A restore in place was requested and the app's process tree has exited: the engine installs the
    /// requested state. Then the app is started again; after a stop signal everything is flushed instead.
    Reinstalling(Reinstalling),
    Flushing(Flushing),
    /// The replica was handed over. litevisor stays until a stop signal comes (a platform would start an
    /// ended instance again), or until the next instance's start has failed.
    Retired,
    Done(Outcome),
}

#[derive(Clone, Copy, Debug)]
pub struct CatchingUp {
    pub trial: bool,
}

#[derive(Debug)]
pub struct Abandoning {
    pub ending: Ending,
    pub until: Instant,
}

#[derive(Debug)]
pub struct Setup {
    pub restored: Restored,
    /// The start follows a hand-over.
    pub trial: bool,
    /// The one that runs.
    pub command: usize,
    /// All have succeeded, and the marks are being removed.
    pub keeping: bool,
}

#[derive(Debug)]
pub struct Starting {
    pub stop: Option<StopCause>,
    pub history: RestartHistory,
    /// The start follows a hand-over.
    pub trial: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub history: RestartHistory,
    pub trial: Option<Trial>,
}

/// The time after a hand-over in which the previous owner takes over again if the app fails.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    pub until: Instant,
    /// The app has answered, or nothing is configured that would notice.
    pub ready: bool,
}

#[derive(Debug)]
pub struct Stopping {
    pub plan: StopPlan,
    pub killed: bool,
}

#[derive(Debug)]
pub struct Clearing {
    pub ending: Ending,
    pub plan: StopPlan,
    pub kill_at: Instant,
    pub killed: bool,
    pub check_at: Instant,
    pub then: Then,
}

#[derive(Debug)]
pub struct Backoff {
    pub exit: AppExit,
    pub tree_exited: AppTreeExited,
    pub history: RestartHistory,
    pub until: Instant,
}

#[derive(Debug)]
pub struct Reinstalling {
    pub ending: Ending,
    pub tree_exited: AppTreeExited,
    /// A stop was requested meanwhile.
    pub stop: Option<StopPlan>,
    /// Another instance has asked for the replica meanwhile.
    pub asked: bool,
}

#[derive(Debug)]
pub struct Flushing {
    pub ending: Ending,
    pub fenced: bool,
    /// All processes had exited when the flush began.
    pub proven: bool,
    /// The replica is handed over, and no stop signal has come.
    pub retire: bool,
    pub release: ReleaseReason,
    pub until: Instant,
    pub attempt: FlushAttempt,
}

/// The last flush is requested twice if this process was frozen past the end of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushAttempt {
    First,
    /// The second one has begun, and the answer to the first one is still to come.
    Second,
    /// The answer to the first one has come: the next answer is the second one's.
    Last,
}

/// What follows `Clearing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    End,
    Restart(AppExit, PlannedRestart),
    /// A restore in place.
    Reinstall,
}

/// Why a stop began, and its points in time.
#[derive(Clone, Copy, Debug)]
pub struct StopPlan {
    pub cause: StopCause,
    pub fenced: bool,
    pub release: ReleaseReason,
    pub budget: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    Signal(Signal),
    /// Another writer has taken a replica over: what the app commits from now on would be lost.
    Fenced,
    /// A client asked for a restore in place: the app is started again afterwards.
    Restore,
    /// Another instance asked for the replica.
    HandOver,
    /// The app did not answer within the trial after a hand-over.
    NeverReady,
    /// The app exited by itself, or could not be executed.
    AppEnded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub ending: Ending,
    /// Everything committed is in the replica.
    pub complete: bool,
    pub fenced: bool,
}

impl State {
    /// For the log and the summary.
    pub fn name(&self) -> &'static str {
        match self {
            State::Restoring => "restore",
            State::Waiting => "wait",
            State::StandingBy => "standby",
            State::CatchingUp(_) => "catch-up",
            State::Abandoning(_) => "abandon",
            State::SettingUp(_) => "setup",
            State::Starting(_) => "start",
            State::Running(_) => "run",
            State::PreSync(_) => "pre-sync",
            State::Stopping(_) => "stop",
            State::Clearing(_) => "clear",
            State::Backoff(_) => "back-off",
            State::Reinstalling(_) => "reinstall",
            State::Flushing(_) => "flush",
            State::Retired => "retired",
            State::Done(_) => "done",
        }
    }

    /// When `Event::Deadline` is due. None: only another event ends this state.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            State::Restoring
            | State::Waiting
            | State::StandingBy
            | State::CatchingUp(_)
            | State::SettingUp(_)
            | State::Starting(_)
            | State::Retired
            | State::Done(_) => None,
            State::Running(running) => running.trial.map(|trial| trial.until),
            State::Abandoning(Abandoning { until, .. })
            | State::Backoff(Backoff { until, .. })
            | State::Flushing(Flushing { until, .. }) => Some(*until),
            State::Reinstalling(reinstalling) => reinstalling.stop.map(|plan| plan.budget.kill_at),
            State::PreSync(plan) => Some(plan.budget.pre_sync_by),
            State::Stopping(Stopping { plan, killed: false }) => Some(plan.budget.kill_at),
            State::Stopping(Stopping { plan, killed: true }) => Some(plan.budget.give_up_at),
            State::Clearing(clearing) => {
                let next = if clearing.killed { clearing.plan.budget.give_up_at } else { clearing.kill_at };
                Some(next.min(clearing.check_at))
            }
        }
    }
}

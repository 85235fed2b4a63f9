//! THE state machine of a run: state + event → state + actions. Pure: the clock is handed in, nothing is called.
//!
//! In: what happened (`Event`), with the tokens that prove it. Out: what to do (`Action`), in order. It never forwards
//! a signal to an app that is gone, never starts an app once a stop was asked for, and never asks for the last flush
//! without proof that nobody can write any more. Every `match` names every variant: a new event is a compile error in
//! each state.

mod aftermath;
mod backoff;
mod budget;
pub mod sidecar;
mod step;
#[cfg(test)]
mod tests;

pub use backoff::{Again, Lives};
pub use budget::Budget;
pub use step::{deadline, step};

use crate::model::proof::{Quiet, Restored};
use crate::model::{AppExit, Deadline, Ending, NotStarted, RestartSettings, Signal, SignalMap, SuccessCodes};
use std::time::{Duration, Instant};

/// The settings that decide.
#[derive(Clone, Debug)]
pub struct Rules {
    pub grace: Duration,
    pub app_timeout: Duration,
    pub pre_sync_timeout: Duration,
    /// What the app gets in place of SIGTERM.
    pub stop_signal: Signal,
    pub signals: SignalMap,
    pub restart: RestartSettings,
    pub success: SuccessCodes,
}

impl Rules {
    /// What the app hears when `received` asked us to stop: what the signal map says; else the configured stop signal,
    /// when it is another than SIGTERM; else the same signal. So Ctrl-C stays a SIGINT for the app, and an app that
    /// wants SIGQUIT gets it from every platform.
    pub fn told(&self, received: Signal) -> Signal {
        let own = if self.stop_signal == Signal::TERM { received } else { self.stop_signal };
        self.signals.get(received).flatten().unwrap_or(own)
    }

    /// What the app hears when nobody sent anything: its end is our decision.
    pub fn told_by_us(&self) -> Signal {
        self.told(Signal::TERM)
    }

    /// What the app hears of any other signal; None keeps it from the app.
    pub fn heard(&self, received: Signal) -> Option<Signal> {
        self.signals.get(received).unwrap_or(Some(received))
    }
}

#[derive(Debug)]
pub enum State {
    Restoring,
    /// Asked to stop (or fenced) while restoring: the engine puts everything back.
    Abandoning {
        ending: Ending,
        until: Instant,
    },
    /// The app is being spawned. Its result is the next event; a stop that comes first is kept.
    Starting {
        stop: Option<Signal>,
        lives: Lives,
    },
    Running(Lives),
    /// Asked to stop; what is committed is flushed before the app hears of it.
    PreSync(Course),
    /// The app has been told.
    Stopping {
        course: Course,
        killed: bool,
    },
    /// The app's main process is gone (or was never there); whoever is left must end before the last flush,
    /// and before the app is started again.
    Clearing {
        ending: Ending,
        course: Course,
        kill_at: Instant,
        killed: bool,
        look_at: Instant,
        then: Then,
    },
    /// The app ended by itself and is started again at `until`. Replication goes on.
    Backoff {
        exit: AppExit,
        /// Nobody of the last life is left.
        quiet: Quiet,
        lives: Lives,
        until: Instant,
    },
    Flushing {
        ending: Ending,
        fenced: bool,
        /// Nobody was left when it began.
        proven: bool,
        until: Instant,
    },
    Done(Outcome),
}

/// After `Clearing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    End,
    Again(AppExit, Again),
}

/// What the states of a stop share.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub cause: Cause,
    pub fenced: bool,
    pub budget: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Signal(Signal),
    /// Another writer took a replica: nothing the app commits from now on would be kept.
    Fenced,
    /// The app ended by itself, or could not be executed.
    OwnEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub ending: Ending,
    /// Everything committed is in the replica.
    pub complete: bool,
    pub fenced: bool,
}

#[derive(Debug)]
pub enum Event {
    /// A signal that asks us to stop.
    Stop(Signal),
    /// Any other signal: the app's.
    Other(Signal),
    AppExited(AppExit),
    /// Adopted processes have ended and were waited for.
    OrphansReaped,
    NobodyLeft(Quiet),
    /// `deadline(state)` has passed.
    Deadline,
    Restored(Restored),
    RestoreFailed(NotStarted),
    /// The restore was given up and everything is as it was before.
    Abandoned,
    Spawned,
    NotSpawned(NotStarted),
    /// The answer to `Flush`, complete or not.
    Flushed,
    /// The answer to `Finish` and `FinishUnproven`.
    Finished {
        complete: bool,
    },
    Fenced,
    /// The engine's thread has ended.
    EngineLost,
}

#[derive(Debug)]
pub enum Action {
    /// Put back what the restore has begun.
    Abandon,
    /// Begin to replicate, then start the app.
    Start(Restored),
    /// Start the app once more; nobody of its last life is left.
    Restart(Quiet),
    /// For the log: the app is started again.
    RestartLater {
        after: Duration,
        restart: u32,
        limit: u32,
    },
    /// For the log: it is not started again.
    NoMoreRestarts {
        limit: u32,
    },
    Flush {
        by: Deadline,
    },
    /// To the app's group, followed by SIGCONT: a stopped process takes a signal only when it goes on.
    StopApp(Signal),
    /// To the app's group.
    Forward(Signal),
    /// SIGKILL to the app's group.
    KillApp,
    /// To everybody else of the process tree; answered by `NobodyLeft` when there is nobody.
    Rest(Treatment),
    Finish {
        quiet: Quiet,
        by: Deadline,
    },
    FinishUnproven {
        by: Deadline,
    },
    /// Nothing can be done with this signal now; log it.
    Note(Signal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// The stop signal (and SIGCONT). Members of the app's group have heard it already when `group_told`.
    Ask {
        signal: Signal,
        group_told: bool,
    },
    Kill,
    /// Only look who is there.
    Look,
}

impl State {
    /// For the log and the summary.
    pub fn name(&self) -> &'static str {
        match self {
            State::Restoring => "restore",
            State::Abandoning { .. } => "abandon",
            State::Starting { .. } => "start",
            State::Running(_) => "run",
            State::PreSync(_) => "pre-sync",
            State::Stopping { .. } => "stop",
            State::Clearing { .. } => "clear",
            State::Backoff { .. } => "back-off",
            State::Flushing { .. } => "flush",
            State::Done(_) => "done",
        }
    }
}

//! How a run ended, apart from its last flush: `lifecycle` decides it, `exit` turns it into a status.

use super::{AppExit, Signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The app ran and ended.
    App(AppExit),
    /// The app was never started, for this reason.
    NotStarted(NotStarted),
    /// A command of `[app] setup` did not end with status 0: the app was never started.
    SetupFailed(AppExit),
    /// A stop signal came before the app was started.
    Stopped(Signal),
    /// A run without an app (`litevisor replicate`) that ended regularly.
    NoApp,
    /// The app ran, but did not answer within the trial after a hand-over, and was stopped.
    NeverReady(AppExit),
    /// The replica was handed over to another instance, then a stop signal came.
    Retired,
    /// The app outlived SIGKILL and the budget (a process in uninterruptible sleep).
    Unkillable,
}

/// How an instance's ownership of the replica ended. Its release says so to the next owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseReason {
    /// A stop signal, or the app's own end.
    Stopped,
    /// The next instance asked for the replica.
    HandedOver,
    /// The app failed soon after a hand-over: the previous owner may start its app again.
    FailedStart,
}

/// Why the app was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// The replica is damaged.
    Damaged,
    /// The replica cannot be reached or denies access.
    Unavailable,
    /// What is there was to be replicated, and nothing is there.
    Nothing,
    /// Something on this machine or in the configuration is in the way.
    Local,
    /// Another instance holds the replica.
    Taken,
    /// Our own fault: the engine ended without an answer.
    Internal,
    /// The command exists and cannot be executed.
    CannotExecute,
    /// There is no such command.
    NotFound,
}

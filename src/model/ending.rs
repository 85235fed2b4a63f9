//! How a run ended, apart from its last flush: `lifecycle` decides it, `exit` turns it into a status.

use super::{AppExit, Signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The app ran and ended.
    App(AppExit),
    /// The app was never started, for this reason.
    NotStarted(NotStarted),
    /// A stop signal came before the app was started.
    Stopped(Signal),
    /// A run without an app (`litevisor replicate`) that ended regularly.
    NoApp,
    /// The app outlived SIGKILL and the budget (a process in uninterruptible sleep).
    Unkillable,
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

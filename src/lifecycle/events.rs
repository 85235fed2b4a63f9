//! What the lifecycle is told (`Event`) and what it asks for (`Action`).

use crate::model::proof::{AppTreeExited, Quiet, Restored};
use crate::model::{AppExit, Deadline, NotStarted, ReleaseReason, Signal};
use crate::supervise::remaining::{Extent, Treatment};
use std::time::Duration;

#[derive(Debug)]
pub enum Event {
    /// A signal that asks litevisor to stop.
    Stop(Signal),
    /// Any other signal: it is meant for the app.
    Other(Signal),
    AppExited(AppExit),
    /// Adopted processes have exited and were waited for.
    OrphansReaped,
    AllExited(Quiet),
    /// The app's process tree has exited. Processes that entered the namespace from outside may remain.
    AppTreeExited(AppTreeExited),
    /// `State::deadline` has passed.
    Deadline,
    Restored(Restored),
    /// The same, and the commands of `[app] setup` come first. The databases are marked.
    SetupDue(Restored),
    /// What the commands of the setup have written is valid.
    SetupKept,
    RestoreFailed(NotStarted),
    /// The restore was abandoned; the files are as they were before it.
    Abandoned,
    /// A client asks for a restore in place.
    RestoreAsked,
    /// The restore in place has ended, with or without success; the app may be started again. If the app must
    /// not be started, `RestoreFailed` comes instead.
    Reinstalled,
    Spawned,
    NotSpawned(NotStarted),
    /// The answer to `Flush`, complete or not.
    Flushed,
    /// The answer to `Finish` and `FinishUnproven`.
    Finished {
        complete: bool,
    },
    Fenced,
    /// The engine thread has ended.
    EngineLost,
    /// The app has answered for the first time since its start (`[app] ready`, or the app's port behind a
    /// gate).
    AppReady,
    HandOver(HandOver),
}

/// What happens to the ownership of the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// Another instance owns the replica. It was asked to hand it over, or this instance stands by.
    Waiting { standby: bool },
    /// The replica is this instance's. What it has grown by is applied to the databases; `Restored` follows.
    CatchingUp {
        /// The previous owner is still there and can start its app again.
        trial: bool,
    },
    /// Before the app was started, the replica was released to an instance that came later.
    PassedOn,
    /// Another instance asks for the replica.
    Asked,
    /// The replica is this instance's again: the one that got it has failed to start, has ended, or never
    /// came.
    SuccessorFailed,
}

#[derive(Debug)]
pub enum Action {
    /// Undo the restore as far as it has got.
    Abandon,
    /// Release what is claimed in the replica; the databases stay as they are. Answered like `Abandon`.
    Withdraw,
    /// Start this command of `[app] setup`.
    SetUp(usize),
    /// All commands have succeeded: remove the marks. Answered by `SetupKept` or `RestoreFailed`.
    KeepSetup,
    /// Begin to replicate, then start the app.
    Start(Restored),
    /// Start the app once more.
    Restart(AppTreeExited),
    /// Log that the app will be started again.
    RestartLater {
        after: Duration,
        restart: u32,
        limit: u32,
    },
    /// Log that the app is not started again.
    NoMoreRestarts {
        limit: u32,
    },
    Flush {
        by: Deadline,
    },
    /// Install the requested state of the database; answered by `Reinstalled` or `RestoreFailed`.
    Reinstall {
        by: Deadline,
    },
    /// Keep the database file as it was before the restore in place.
    AbandonReinstall,
    /// Tell the client that a restore in place is not possible now.
    RefuseRestore,
    /// Send this signal to the app, then SIGCONT: a stopped process handles a signal only when it continues.
    StopApp(Signal),
    /// Send this signal to the app.
    Forward(Signal),
    /// Send SIGKILL to the app's group.
    KillApp,
    /// Treat the other processes; answered by `AllExited` or `AppTreeExited` when none is left.
    EndRemaining(Treatment, Extent),
    /// The last flush, with the proof that no process can write. If it is complete, the ownership of the
    /// replica is released with this reason.
    Finish {
        quiet: Quiet,
        by: Deadline,
        release: ReleaseReason,
    },
    FinishUnproven {
        by: Deadline,
        release: ReleaseReason,
    },
    /// The last flush once more, because this process was frozen past its end.
    FinishAgain {
        by: Deadline,
        release: ReleaseReason,
    },
    /// The replica was handed over: the clients get their last answers, and no new connections are accepted.
    Retire {
        complete: bool,
    },
    /// Take the replica back: answered by `Restored` or `RestoreFailed`.
    Resume,
    /// Log that the app has not answered within the trial.
    NeverReady,
    /// Log a signal that has no effect in this state.
    Note(Signal),
}

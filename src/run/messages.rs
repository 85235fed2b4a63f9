//! The messages between the main thread and the engine thread.

use crate::lifecycle::HandOver;
use crate::lifecycle::sidecar::Flushed;
use crate::model::proof::{Quiet, Restored};
use crate::model::{DbPath, Deadline, NotStarted, ReleaseReason};
use crate::observe::restore::{RestoreAnswer, RestoreRequest};
use crate::replica::Target;
use crate::store::{StoreError, StoreErrorKind};

#[derive(Debug)]
pub enum Command {
    Restore,
    /// Undo the restore; answered by `Restored(Err(Abandoned))`.
    Abandon,
    /// Release what is claimed in the replica; answered likewise.
    Withdraw,
    /// The app is about to start: replicate from now on. No report.
    Replicate(Restored),
    /// The commands of the setup have succeeded. Answered by `SetupKept`.
    KeepSetup,
    /// Restore this database in place; the app's process tree has exited. Answered by `Reinstalled`.
    Reinstall {
        db: String,
        target: Target,
        by: Deadline,
    },
    /// Keep the file that was there before; answered by `Reinstalled`, too.
    AbandonReinstall,
    /// Upload what is committed now; answered by `Flushed` when done or when `by` has passed.
    Flush {
        by: Deadline,
    },
    /// The last flush: no process can write any more. Answered by `Finished`. If it is complete, the
    /// ownership of the replica is released with this reason.
    Finish {
        quiet: Quiet,
        by: Deadline,
        release: ReleaseReason,
    },
    /// The last flush without the proof that no process writes. Answered by `Finished`.
    FinishUnproven {
        by: Deadline,
        release: ReleaseReason,
    },
    /// Take the replica back after a hand-over; answered by `Restored`.
    Resume,
}

#[derive(Debug)]
pub enum Report {
    Restored(Result<Restored, StartFailure>),
    /// The same, and the commands of the setup come first. The databases are marked.
    SetupDue(Restored),
    SetupKept(Result<(), StartFailure>),
    /// A client asks for a restore in place, and that state can be restored.
    RestoreAsked(RestoreRequest),
    /// The restore in place has ended. `Ok`: the app may be started again, with or without the requested
    /// state.
    Reinstalled(Result<Reinstalled, StartFailure>),
    Flushed(Flushed),
    Finished(Vec<DatabaseSummary>),
    HandOver(HandOver),
    /// Another writer has taken this replica over: its replication has stopped for good.
    Fenced {
        database: String,
        detail: String,
    },
}

/// The result of a restore in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reinstalled {
    pub db: DbPath,
    pub answer: RestoreAnswer,
}

/// Why the app must not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// Exit 65: the replica is damaged; the file is named.
    Damaged(String),
    /// Exit 69: the replica cannot be reached, or denies access.
    Unavailable(String),
    /// Exit 66: none of the databases to upload exists.
    Nothing(String),
    /// Exit 75: another instance owns the replica.
    Taken(String),
    /// Exit 78: another litevisor on this machine has a database.
    Busy(String),
    /// Exit 78: something local prevents it (unknown owner, missing directory, contradictory leftover files).
    Local(String),
    /// A stop signal came during the restore.
    Abandoned,
}

impl StartFailure {
    /// Of a store that does not answer, or that the configuration describes wrongly.
    pub fn of_store(error: StoreError) -> StartFailure {
        match error.kind {
            StoreErrorKind::Invalid | StoreErrorKind::Key => StartFailure::Local(error.to_string()),
            _ => StartFailure::Unavailable(error.to_string()),
        }
    }

    /// For the lifecycle and the log; None after `Abandoned`.
    pub fn reason(self) -> Option<(NotStarted, String)> {
        Some(match self {
            StartFailure::Damaged(why) => (NotStarted::Damaged, why),
            StartFailure::Unavailable(why) => (NotStarted::Unavailable, why),
            StartFailure::Nothing(why) => (NotStarted::Nothing, why),
            StartFailure::Taken(why) => (NotStarted::Taken, why),
            StartFailure::Local(why) | StartFailure::Busy(why) => (NotStarted::Local, why),
            StartFailure::Abandoned => return None,
        })
    }
}

/// One database's part of the summary line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSummary {
    pub database: String,
    /// Everything that was committed is in the replica.
    pub complete: bool,
    /// Another writer has taken its replica over.
    pub fenced: bool,
    /// Last TXID captured from the WAL and last one in the replica, or "none".
    pub captured: String,
    pub uploaded: String,
    /// What is missing in the replica, for the log.
    pub missing: Option<String>,
    /// The database did not exist in this run: nothing of it was replicated.
    pub absent: bool,
    /// Bytes uploaded during this run.
    pub bytes: u64,
}

/// Called after each report is queued; must be quick and callable from any thread (it writes to an eventfd).
pub type Wake = Box<dyn Fn() + Send + Sync>;

//! What the supervising thread and the engine say to each other.

use crate::model::Deadline;
use crate::model::proof::{Quiet, Restored};

#[derive(Debug)]
pub enum Command {
    Restore,
    /// Stop restoring, put everything back as it was; answered by `Restored(Err(Abandoned))`.
    Abandon,
    /// The app is about to run: replicate from now on. No report.
    Replicate(Restored),
    /// Upload what is committed now; answered by `Flushed` when done or when `by` has passed.
    Flush {
        by: Deadline,
    },
    /// The last flush: nobody can write any more. Answered by `Finished`.
    Finish {
        quiet: Quiet,
        by: Deadline,
    },
    /// Past the budget with writers still alive: upload what is captured, then report. Answered by `Finished`.
    FinishUnproven {
        by: Deadline,
    },
}

#[derive(Debug)]
pub enum Report {
    Restored(Result<Restored, StartFailure>),
    Flushed {
        complete: bool,
    },
    Finished(Vec<DatabaseSummary>),
    /// Another writer holds this replica: replication of it has stopped for good.
    Fenced {
        database: String,
        detail: String,
    },
}

/// Why the app must not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// Exit 65: the replica is damaged; the file is named.
    Damaged(String),
    /// Exit 69: the replica cannot be reached, or denies access.
    Unavailable(String),
    /// Exit 78: something local is in the way (unknown owner, directory missing, leftover files that contradict).
    Local(String),
    /// A stop signal came first.
    Abandoned,
}

/// One database's part of the summary line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSummary {
    pub database: String,
    /// Everything that was committed is in the replica.
    pub complete: bool,
    /// Another writer has its replica.
    pub fenced: bool,
    /// Last TXID captured from the WAL and last one in the replica, or "none".
    pub captured: String,
    pub uploaded: String,
    /// What is missing, when something is: for the log and the operator.
    pub missing: Option<String>,
    /// Bytes uploaded during this run.
    pub bytes: u64,
}

/// Called after each report is queued; must be quick and callable from any thread (it writes to an eventfd).
pub type Wake = Box<dyn Fn() + Send + Sync>;

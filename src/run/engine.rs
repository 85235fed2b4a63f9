//! The engine thread: restores and replicates. It owns the tokio runtime and the tasks of all databases.
//!
//! The main thread sends `Restore` first; after `Report::Restored(Ok(..))` it sends `Replicate` and starts the app. `Flush` may
//! come any number of times. `Finish` is the last command. Each report wakes the main thread.

use super::absent::AppKind;
use super::database_set::DatabaseSet;
use super::discover::Directory;
use super::flush::{FlushKind, FlushResult, flush_all};
pub use super::messages::{Command, DatabaseSummary, Report, StartFailure, Wake};
use super::owners::Database;
use super::prepare::{Prepared, RunContext, prepare_all};
use super::reinstall::Reinstalls;
use super::status_service::EngineRequests;
use super::sync;
use crate::model::proof::Restored;
use crate::model::threads;
use crate::observe::StatusRegistry;
use crate::observe::restore::RestoreRequest;
use crate::observe::sync::SyncRequest;
use crate::replicate::{Conflict, Ledger};
use crate::restore::{FileAccess, RestoreSettings};
use crate::store::Stores;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinError, JoinSet};

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
    let mut directory_tick = tokio::time::interval(DIRECTORY_INTERVAL);
    directory_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut serving = Serving {
        context,
        reports,
        conflict,
        preparing: JoinSet::new(),
        prepared: Vec::new(),
        database_set: None,
        flushes: JoinSet::new(),
        syncs: JoinSet::new(),
        reinstalls: Reinstalls::default(),
    };
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(command) => serving.perform(command).await,
            },
            Some(request) = requests.syncs.recv() => serving.sync(request),
            Some(request) = requests.restores.recv() => serving.check_restore(request),
            Some(next) = serving.reinstalls.next() => reports.send(next.report(serving.database_set.as_mut())),
            _ = directory_tick.tick(), if serving.database_set.as_ref().is_some_and(DatabaseSet::watches_directories) => {
                serving.database_set.iter_mut().for_each(DatabaseSet::poll_directories);
            }
            () = sleep_until(serving.database_set.as_ref().and_then(DatabaseSet::absence_report_due)) => {
                serving.database_set.iter_mut().for_each(DatabaseSet::report_absent);
            }
            Some(done) = serving.preparing.join_next() => serving.prepared(done),
            Some(done) = serving.flushes.join_next() => serving.flushed(done),
            Some((database, detail)) = conflicts.recv() => {
                reports.send(Report::Fenced { database: format!("{database}"), detail });
            }
        }
    }
}

/// What the engine is doing.
struct Serving<'a> {
    context: RunContext,
    reports: &'a Reports,
    conflict: Conflict,
    preparing: JoinSet<Result<(Vec<Prepared>, Restored), StartFailure>>,
    /// Ready for the app, and not replicated yet.
    prepared: Vec<Prepared>,
    database_set: Option<DatabaseSet>,
    flushes: JoinSet<FlushResult>,
    syncs: JoinSet<()>,
    reinstalls: Reinstalls,
}

impl Serving<'_> {
    async fn perform(&mut self, command: Command) {
        match command {
            Command::Restore => {
                self.preparing.spawn(prepare_all(self.context.clone()));
            }
            Command::Abandon => {
                self.preparing.shutdown().await;
                self.context.abandon().await;
                self.reports.send(Report::Restored(Err(StartFailure::Abandoned)));
            }
            Command::Replicate(_) => {
                let prepared = std::mem::take(&mut self.prepared);
                self.database_set = Some(start_databases(&self.context, prepared, self.conflict.clone()));
            }
            Command::Reinstall { db, target, by } => {
                self.reinstalls.begin(&self.context, self.database_set.as_mut(), db, (target, by));
            }
            Command::Resume => {}
            Command::AbandonReinstall => self.reinstalls.give_up(),
            Command::Flush { by } => {
                let all = self.database_set.as_mut().map(DatabaseSet::all).unwrap_or_default();
                self.flushes.spawn(flush_all(all, by, FlushKind::Stop));
            }
            Command::Finish { by, .. } | Command::FinishUnproven { by } => {
                let all = self.database_set.as_mut().map(DatabaseSet::stop_watching).unwrap_or_default();
                self.flushes.spawn(flush_all(all, by, FlushKind::Last));
            }
        }
    }

    fn sync(&mut self, request: SyncRequest) {
        sync::begin(self.database_set.as_mut(), request, &mut self.syncs);
    }

    fn check_restore(&mut self, request: RestoreRequest) {
        self.reinstalls.check(&self.context, self.database_set.as_ref(), request);
    }

    fn prepared(&mut self, done: Result<Result<(Vec<Prepared>, Restored), StartFailure>, JoinError>) {
        let result = done.unwrap_or_else(|error| Err(StartFailure::Local(threads::describe_task_failure(&error))));
        self.reports.send(Report::Restored(result.map(|(ready, restored)| {
            self.prepared = ready;
            restored
        })));
    }

    fn flushed(&mut self, done: Result<FlushResult, JoinError>) {
        match done {
            Ok(done) if done.last => self.reports.send(Report::Finished(done.summaries)),
            Ok(done) => self.reports.send(Report::Flushed(done.check_in_use())),
            Err(error) => tracing::error!("a flush ended early: {}", threads::describe_task_failure(&error)),
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

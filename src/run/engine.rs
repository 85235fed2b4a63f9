//! The engine thread: restores and replicates. It owns the tokio runtime and the tasks of all databases.
//!
//! The main thread sends `Restore` first; after `Report::Restored(Ok(..))` it sends `Replicate` and starts
//! the app. `Flush` may come any number of times. `Finish` is the last command. Each report wakes the main
//! thread.

mod setting_up;

use super::database_set::DatabaseSet;
use super::flush::{FlushKind, FlushResult, flush_all};
use super::follow;
use super::manager::pulse::Pulse;
pub use super::messages::{Command, DatabaseSummary, Report, StartFailure, Wake};
use super::owner_place;
use super::ownership::{Ownership, Step};
use super::ownership_settings::OwnershipSettings;
use super::prepare::{Prepared, RunContext, prepare_all};
use super::proof::{ProofEnd, ProofEnds, Proofs};
use super::reinstall::{ReinstallEvent, Reinstalls};
use super::setup::{self, Recording};
use super::status_service::EngineRequests;
use super::sync;
use crate::handover::task;
use crate::model::proof::Restored;
use crate::model::{Deadline, ReleaseReason, threads};
use crate::observe::restore::RestoreRequest;
use crate::observe::sync::{SyncAnswer, SyncRequest};
use crate::replicate::Conflict;
use crate::store::Store;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinError, JoinSet};

/// Threads for the disk work of all databases. More would only queue at the disk.
const BLOCKING_THREADS: usize = 16;
/// An idle process keeps no threads.
const THREAD_LIFE: Duration = Duration::from_secs(5);
/// An unoptimised build needs about 2 MiB for the futures of an upload to S3. Only the pages that are used
/// cost memory.
const STACK: usize = 8 << 20;
/// For what a killed run has left on the disk.
const LEFT_OVER: Duration = Duration::from_secs(60);
/// How often a waiting instance looks for the first request in its gates.
const TRAFFIC_INTERVAL: Duration = Duration::from_millis(20);
/// An owner with `poll = "never"` looks for a request after uploads, at most this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often watched directories are polled.
const DIRECTORY_INTERVAL: Duration = Duration::from_millis(500);

pub struct Engine {
    commands: UnboundedSender<Command>,
}

impl Engine {
    /// Starts the thread. With no databases every command is answered at once. `ownership`: None without a
    /// hand-over.
    pub fn start(
        context: RunContext,
        ownership: Option<OwnershipSettings>,
        requests: EngineRequests,
        pulse: Option<Arc<Pulse>>,
        reports: Reports,
    ) -> std::io::Result<Engine> {
        let (commands, inbox) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(THREAD_LIFE)
            .build()?;
        std::thread::Builder::new().name("engine".into()).stack_size(STACK).spawn(move || {
            if let Some(pulse) = pulse {
                runtime.spawn(async move { pulse.beat().await });
            }
            runtime.block_on(serve(context, ownership, inbox, requests, &reports));
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

/// Where the engine reports to, and what wakes the main thread afterwards.
pub struct Reports {
    to: mpsc::Sender<Report>,
    wake: Wake,
}

impl Reports {
    pub fn new(to: mpsc::Sender<Report>, wake: Wake) -> Reports {
        Reports { to, wake }
    }

    fn send(&self, report: Report) {
        let _ = self.to.send(report);
        (self.wake)();
    }
}

async fn serve(
    context: RunContext,
    ownership: Option<OwnershipSettings>,
    mut commands: UnboundedReceiver<Command>,
    mut requests: EngineRequests,
    reports: &Reports,
) {
    let (conflict, mut conflicts) = unbounded_channel();
    let (proof_ends, mut ended_proofs) = unbounded_channel();
    let mut directory_tick = tokio::time::interval(DIRECTORY_INTERVAL);
    directory_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut look_tick = tokio::time::interval(LOOK_INTERVAL);
    look_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut serving = Serving {
        ownership: Ownership::new(ownership, Arc::clone(&context.registry)),
        context,
        reports,
        conflict,
        proof_ends,
        preparing: JoinSet::new(),
        setups: JoinSet::new(),
        record_store: None,
        recording: None,
        prepared: Vec::new(),
        database_set: None,
        flushes: JoinSet::new(),
        syncs: JoinSet::new(),
        reinstalls: Reinstalls::default(),
    };
    loop {
        let release_due = serving.ownership.release_due();
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(command) => serving.perform(command).await,
            },
            Some(request) = requests.syncs.recv() => serving.sync(request),
            Some(request) = requests.restores.recv() => serving.check_restore(request),
            Some(request) = requests.orders.recv() => serving.ownership.order(request),
            Some(next) = serving.reinstalls.next() => serving.reinstalled(next),
            _ = directory_tick.tick(), if serving.watches_directories() => {
                serving.database_set.iter_mut().for_each(DatabaseSet::poll_directories);
            }
            () = sleep_until(serving.database_set.as_ref().and_then(DatabaseSet::absence_report_due)) => {
                serving.database_set.iter_mut().for_each(DatabaseSet::report_absent);
            }
            () = sleep_until(serving.database_set.as_ref().and_then(|databases| databases.proofs.due())) => {
                serving.database_set.iter_mut().for_each(|databases| databases.proofs.begin());
            }
            Some(end) = ended_proofs.recv() => serving.proof_ended(end),
            Some(done) = serving.preparing.join_next() => serving.prepared(done).await,
            Some(done) = serving.setups.join_next() => serving.set_up(done).await,
            Some(done) = serving.flushes.join_next() => serving.flushed(done),
            happened = serving.ownership.next() => serving.handed_over(happened),
            () = tokio::time::sleep(TRAFFIC_INTERVAL), if serving.ownership.awaits_traffic() => {
                serving.ownership.look_for_traffic();
            }
            _ = look_tick.tick(), if serving.ownership.looks_after_uploads() => {
                serving.look_after_uploads();
            }
            () = sleep_until(release_due) => serving.release_overdue(),
            Some((database, detail)) = conflicts.recv() => {
                serving.ownership.fenced();
                reports.send(Report::Fenced { database: format!("{database}"), detail });
            }
        }
    }
}

/// The last flush, as it was requested.
struct LastFlush {
    by: Deadline,
    /// None: there was no app.
    release: Option<ReleaseReason>,
    /// No process can write any more.
    proven: bool,
}

struct Flushed {
    result: FlushResult,
    last: Option<LastFlush>,
}

enum SetupStep {
    /// `due`: the commands run first, and the databases are marked.
    Ready { ready: Vec<Prepared>, proof: Restored, due: bool },
    /// The marks are removed.
    Kept,
}

/// What the engine is doing.
struct Serving<'a> {
    context: RunContext,
    reports: &'a Reports,
    conflict: Conflict,
    proof_ends: ProofEnds,
    ownership: Ownership,
    preparing: JoinSet<Result<(Vec<Prepared>, Restored), StartFailure>>,
    /// What must be done before and after the commands of the setup.
    setups: JoinSet<Result<SetupStep, StartFailure>>,
    /// Where it is recorded that the setup was done, if a later start asks.
    record_store: Option<Arc<dyn Store>>,
    /// The setup has run, and is to be recorded as done.
    recording: Option<Recording>,
    /// Ready for the app, and not replicated yet.
    prepared: Vec<Prepared>,
    database_set: Option<DatabaseSet>,
    flushes: JoinSet<Flushed>,
    syncs: JoinSet<()>,
    reinstalls: Reinstalls,
}

impl Serving<'_> {
    fn watches_directories(&self) -> bool {
        self.database_set.as_ref().is_some_and(DatabaseSet::watches_directories)
    }

    fn proof_ended(&mut self, end: ProofEnd) {
        if let Some(databases) = &mut self.database_set {
            databases.proofs.ended(end);
        }
    }

    fn look_after_uploads(&mut self) {
        let uploads = self.database_set.as_ref().map(DatabaseSet::uploads).unwrap_or_default();
        self.ownership.look_after(uploads);
    }

    async fn perform(&mut self, command: Command) {
        match command {
            Command::Restore => self.prepare(),
            Command::Abandon => {
                self.preparing.shutdown().await;
                self.setups.shutdown().await;
                self.ownership.withdraw().await;
                self.context.abandon().await;
                self.reports.send(Report::Restored(Err(StartFailure::Abandoned)));
            }
            Command::Withdraw => {
                self.ownership.withdraw().await;
                self.reports.send(Report::Restored(Err(StartFailure::Abandoned)));
            }
            Command::Replicate(_) => {
                let prepared = std::mem::take(&mut self.prepared);
                self.start_databases(prepared);
                if let (Some(recording), Some(database_set)) = (self.recording.take(), &mut self.database_set)
                {
                    self.syncs.spawn(recording.write(database_set.all()));
                }
            }
            Command::KeepSetup => {
                let databases = setup::replicated(&self.prepared).map(|one| one.db.clone()).collect();
                self.setups.spawn(async move { setup::keep(databases).await.map(|()| SetupStep::Kept) });
            }
            Command::Reinstall { db, target, by } => {
                self.reinstalls.begin(&self.context, self.database_set.as_mut(), db, (target, by));
            }
            Command::Resume => {
                self.ownership.resume();
                self.prepare();
            }
            Command::AbandonReinstall => self.reinstalls.give_up(),
            Command::Flush { by } => {
                let all = self.database_set.as_mut().map(DatabaseSet::all).unwrap_or_default();
                // The app is about to be stopped. What a proof leaves is removed meanwhile.
                self.database_set.iter_mut().for_each(|databases| drop(databases.proofs.stop()));
                let flushing = flush_all(all, by, FlushKind::Stop);
                self.flushes.spawn(async move { Flushed { result: flushing.await, last: None } });
            }
            Command::Finish { by, release, .. } => {
                self.flush_last(LastFlush { by, release: Some(release), proven: true })
            }
            Command::FinishUnproven { by, release } => {
                self.flush_last(LastFlush { by, release: Some(release), proven: false })
            }
        }
    }

    /// Also the first time: whether the store can have owner records.
    fn prepare(&mut self) {
        let context = self.context.clone();
        let ownership = self.ownership.unchecked();
        let caught_up = self.ownership.catch_up();
        self.preparing.spawn(async move {
            if let Some(follow) = context.follow {
                return Ok((Vec::new(), follow::prepare_all(context, follow).await?));
            }
            if let Some(settings) = ownership {
                owner_place::find(context.clone(), &settings).await?;
            }
            caught_up.await;
            prepare_all(context).await
        });
    }

    fn flush_last(&mut self, last: LastFlush) {
        if !self.prepared.is_empty() {
            return self.end_without_replication(last);
        }
        let all = self.database_set.as_mut().map(DatabaseSet::stop_watching).unwrap_or_default();
        let proof_ended = self.database_set.as_mut().map(|databases| databases.proofs.stop());
        let closed = self.ownership.resumes_later(last.release).then(|| self.database_set.take()).flatten();
        self.flushes.spawn(async move {
            let result = flush_all(all, last.by, FlushKind::Last).await;
            if let Some(ended) = proof_ended {
                let _ = tokio::time::timeout_at(last.by.instant().into(), ended).await;
            }
            if let Some(database_set) = closed {
                database_set.close().await;
            }
            Flushed { result, last: Some(last) }
        });
    }

    fn sync(&mut self, request: SyncRequest) {
        if self.context.follow.is_some() {
            // A copy is not replicated.
            let _ = request.reply.send(SyncAnswer::Unknown);
            return;
        }
        sync::begin(self.database_set.as_mut(), request, &mut self.syncs);
    }

    fn check_restore(&mut self, request: RestoreRequest) {
        self.reinstalls.check(&self.context, self.database_set.as_ref(), request);
    }

    fn reinstalled(&mut self, event: ReinstallEvent) {
        if event.has_restored()
            && let Some(store) = self.record_store.clone()
        {
            self.syncs.spawn(setup::forget(store));
        }
        self.reports.send(event.report(self.database_set.as_mut()));
    }

    async fn prepared(&mut self, done: Result<Result<(Vec<Prepared>, Restored), StartFailure>, JoinError>) {
        let result =
            done.unwrap_or_else(|error| Err(StartFailure::Local(threads::describe_task_failure(&error))));
        let step = match result {
            Ok((ready, proof)) => self.ownership.prepared(&self.context, ready, proof),
            Err(StartFailure::Busy(why)) if self.ownership.may_wait() => {
                tracing::info!("{why}. Asking it for the replica (handover.enabled)");
                self.ownership.busy(&self.context)
            }
            Err(failure) => {
                self.ownership.give_back().await;
                Some(Step::Report(Report::Restored(Err(failure))))
            }
        };
        step.into_iter().for_each(|step| self.take(step));
    }

    fn handed_over(&mut self, happened: task::Report) {
        self.ownership.handle(happened).into_iter().for_each(|step| self.take(step));
    }

    fn release_overdue(&mut self) {
        tracing::warn!(
            "hand-over: the release could not be written in time; the next instance waits (handover.wait)"
        );
        self.ownership.finished().into_iter().for_each(|step| self.take(step));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Report(report) => self.reports.send(report),
            Step::Prepare => self.prepare(),
            Step::Start(ready, proof) => self.start(ready, proof),
            Step::FlushLeftOver(ready) => {
                self.start_databases(ready);
                self.flush_last(LastFlush { by: Deadline::after(LEFT_OVER), release: None, proven: true });
            }
            Step::Finished(summaries) => self.reports.send(Report::Finished(summaries)),
        }
    }

    fn start_databases(&mut self, prepared: Vec<Prepared>) {
        let context = &self.context;
        let proofs = Proofs::new(
            context.verify,
            context.settings.clone(),
            Arc::clone(&context.registry),
            self.proof_ends.clone(),
        );
        self.database_set = Some(DatabaseSet::start(prepared, context, self.conflict.clone(), proofs));
    }

    fn flushed(&mut self, done: Result<Flushed, JoinError>) {
        match done {
            Ok(Flushed { result, last: Some(LastFlush { release: None, .. }) }) => {
                self.ownership.left_over_flushed(&result.summaries);
            }
            Ok(Flushed { result, last: Some(LastFlush { by, release: Some(release), proven }) }) => {
                let finished = self.ownership.flushed(result.summaries, release, (proven, by));
                finished.into_iter().for_each(|summaries| self.reports.send(Report::Finished(summaries)));
            }
            Ok(Flushed { result, last: None }) => self.reports.send(Report::Flushed(result.check_in_use())),
            Err(error) => tracing::error!("a flush ended early: {}", threads::describe_task_failure(&error)),
        }
    }
}

/// Waits until `due`, or for ever without it.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

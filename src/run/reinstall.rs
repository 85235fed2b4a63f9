//! The engine's part of a restore in place while the app runs. First, with the app running: can this state be
//! restored? Then, after the app's process tree has exited: the last flush of this database, the restore, and
//! the preparation for the app. If the restore fails, the previous file stays in place.

use super::database_set::{CLOSING, DatabaseSet, Resume};
use super::discover::Directory;
use super::flush::{FlushKind, RunningDatabase, flush_all};
use super::messages::{Reinstalled, Report, StartFailure};
use super::owners::Database;
use super::prepare::{self, Prepared, RunContext};
use super::setup_due::Standing;
use crate::exit;
use crate::model::{DbPath, Deadline};
use crate::observe::restore::{RestoreAnswer, RestoreRequest};
use crate::replica::Target;
use crate::replicate::{self, Handle};
use crate::restore::{self, FileAccess, Progress, RestoreError, RestoreErrorKind, RestoredTo};
use crate::sqlite::{Writers, files};
use crate::store::Store;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinSet;

fn exit_code(kind: RestoreErrorKind) -> u8 {
    match kind {
        RestoreErrorKind::Damaged => exit::DAMAGED,
        RestoreErrorKind::Unavailable => exit::UNAVAILABLE,
        RestoreErrorKind::NothingThere => exit::NOTHING,
        RestoreErrorKind::Local => exit::CONFIG,
    }
}

fn failed(error: &RestoreError) -> RestoreAnswer {
    RestoreAnswer { code: exit_code(error.kind()), message: error.to_string() }
}

fn local(message: impl Into<String>) -> RestoreAnswer {
    RestoreAnswer { code: exit::CONFIG, message: message.into() }
}

/// The configured database of that path, by its own entry or in a directory.
fn database(context: &RunContext, path: &str) -> Option<Database> {
    let named = context.databases.iter().find(|database| database.settings.path.to_string() == path);
    let of_directory = |entry: &Directory| {
        let name = entry.settings.name_of(std::path::Path::new(path))?;
        Some(Database { settings: entry.settings.database(name), owners: entry.owners })
    };
    named.cloned().or_else(|| context.directories.iter().find_map(of_directory))
}

/// Returns the request if the restore is possible; otherwise answers it.
async fn check(context: RunContext, running: bool, request: RestoreRequest) -> Option<RestoreRequest> {
    let refusal = match database(&context, &request.db) {
        None => Some(RestoreAnswer {
            code: exit::USAGE,
            message: format!("{} is not replicated here", request.db),
        }),
        Some(_) if !running => {
            Some(local(format!("{} is not replicated now: `litevisor status` says why", request.db)))
        }
        Some(database) => check_restorable(&context, &database, request.target).await.err(),
    };
    match refusal {
        None => Some(request),
        Some(answer) => {
            tracing::warn!(
                db = request.db,
                "restore in place refused, the app continues: {}",
                answer.message
            );
            let _ = request.reply.send(answer);
            None
        }
    }
}

async fn check_restorable(
    context: &RunContext,
    database: &Database,
    target: Target,
) -> Result<(), RestoreAnswer> {
    if context.settings.access != FileAccess::Exclusive {
        return Err(local(
            "this litevisor does not start the app, so it cannot stop it. Stop that litevisor and the app \
             first, then restore",
        ));
    }
    let store = context.stores.open(&database.settings.replica).map_err(|error| local(error.to_string()))?;
    let settings = context.settings.clone();
    let runtime = tokio::runtime::Handle::current();
    // The future is not `Send`: it stays on one thread.
    let plan = move || {
        let progress = Progress::default();
        runtime.block_on(restore::plan_of(&*store, target, &settings, &progress)).map(|_| ())
    };
    let planned = tokio::task::spawn_blocking(plan).await;
    let internal =
        |error| RestoreAnswer { code: exit::INTERNAL, message: format!("internal error: {error}") };
    planned.map_err(internal)?.map_err(|error| failed(&error))
}

/// The checks of requested restores, and the restore that runs.
#[derive(Default)]
pub struct Reinstalls {
    checks: JoinSet<Option<RestoreRequest>>,
    running: JoinSet<Result<(Resume, Reinstalled), StartFailure>>,
    give_up: Arc<Notify>,
}

impl Reinstalls {
    pub fn check(
        &mut self,
        context: &RunContext,
        database_set: Option<&DatabaseSet>,
        request: RestoreRequest,
    ) {
        let running = database_set.is_some_and(|database_set| database_set.replicates(&request.db));
        self.checks.spawn(check(context.clone(), running, request));
    }

    pub fn begin(
        &mut self,
        context: &RunContext,
        database_set: Option<&mut DatabaseSet>,
        db: String,
        (target, by): (Target, Deadline),
    ) {
        let database = database(context, &db);
        let handle = database
            .as_ref()
            .zip(database_set)
            .and_then(|(database, database_set)| database_set.take(&database.settings.path));
        let context = context.clone();
        let give_up = Arc::clone(&self.give_up);
        self.running.spawn(async move {
            match database.zip(handle) {
                Some((database, handle)) => {
                    reinstall(ReinstallJob { context, database, target, handle, by, give_up }).await
                }
                None => Err(StartFailure::Local(format!("internal error: {db} is not replicated"))),
            }
        });
    }

    pub fn give_up(&self) {
        self.give_up.notify_one();
    }

    /// None: nothing runs.
    pub async fn next(&mut self) -> Option<ReinstallEvent> {
        loop {
            tokio::select! {
                Some(checked) = self.checks.join_next() => {
                    if let Ok(Some(request)) = checked {
                        return Some(ReinstallEvent::Possible(request));
                    }
                }
                Some(done) = self.running.join_next() => {
                    let internal = |error| Err(StartFailure::Local(format!("internal error: {error}")));
                    return Some(ReinstallEvent::Done(Box::new(done.unwrap_or_else(internal))));
                }
                else => return None,
            }
        }
    }
}

pub enum ReinstallEvent {
    Possible(RestoreRequest),
    Done(Box<Result<(Resume, Reinstalled), StartFailure>>),
}

impl ReinstallEvent {
    /// Whether another state is in place now.
    pub fn has_restored(&self) -> bool {
        let ReinstallEvent::Done(done) = self else { return false };
        matches!(&**done, Ok((_, reinstalled)) if reinstalled.answer.code == 0)
    }

    /// The report to the main thread. Before it, the database is replicated again.
    pub fn report(self, database_set: Option<&mut DatabaseSet>) -> Report {
        match self {
            ReinstallEvent::Possible(request) => Report::RestoreAsked(request),
            ReinstallEvent::Done(done) => Report::Reinstalled(done.map(|(resume, reinstalled)| {
                if let Some(database_set) = database_set {
                    database_set.resume(resume);
                }
                reinstalled
            })),
        }
    }
}

/// One restore in place.
struct ReinstallJob {
    context: RunContext,
    database: Database,
    target: Target,
    handle: Handle,
    /// The deadline of the last flush.
    by: Deadline,
    /// Notified at a stop: the previous file stays.
    give_up: Arc<Notify>,
}

/// Why the previous file stays.
enum SwapError {
    /// The database's task still runs.
    Running(RestoreAnswer),
    /// The task has ended.
    Ended(RestoreAnswer),
    /// The task does not end, and a second one must not start.
    Stuck,
}

/// How replication continues, and the answer. The error: the app must not be started.
async fn reinstall(job: ReinstallJob) -> Result<(Resume, Reinstalled), StartFailure> {
    let context = job.context.clone();
    let database = job.database.clone();
    let handle = job.handle.clone();
    let db = database.settings.path.clone();
    let failed = |error: crate::store::StoreError| StartFailure::Local(error.to_string());
    let store = context.stores.open(&database.settings.replica).map_err(failed)?;
    let (resume, answer) = match swap(job, &db, &*store).await {
        Ok(restored) => {
            let message =
                format!("TXID {}, committed at {}, {} bytes", restored.txid, restored.time, restored.bytes);
            tracing::warn!(%db, "restored in place: {message}");
            let prepared = prepare::prepare_again(database, &context).await?;
            return Ok((
                Resume::NewTask(Box::new(prepared)),
                Reinstalled { db, answer: RestoreAnswer { code: 0, message } },
            ));
        }
        Err(SwapError::Stuck) => {
            return Err(StartFailure::Local(format!("replication of {db} does not end")));
        }
        Err(SwapError::Running(answer)) => (Resume::SameTask(db.clone(), handle), answer),
        Err(SwapError::Ended(answer)) => {
            let path = db.clone();
            let settings = database.settings.replicate;
            let locking = settings.locking_mode;
            let take = move || replicate::hold(&path, locking, Writers::None);
            let hold = tokio::task::spawn_blocking(take).await.ok().flatten();
            (
                Resume::NewTask(Box::new(Prepared {
                    db: db.clone(),
                    store,
                    replica: database.settings.replica,
                    settings,
                    hold,
                    replicate: true,
                    left_out: false,
                    standing: Standing::Other,
                })),
                answer,
            )
        }
    };
    tracing::error!(%db, "not restored, the previous database stays: {}", answer.message);
    let message =
        format!("{}; the previous database stays in place, and the app is started again", answer.message);
    Ok((resume, Reinstalled { db, answer: RestoreAnswer { message, ..answer } }))
}

/// The last flush, then the restore. If it fails, the previous file is in place.
async fn swap(job: ReinstallJob, db: &DbPath, store: &dyn Store) -> Result<RestoredTo, SwapError> {
    let ReinstallJob { context, database, target, handle, by, give_up } = job;
    let task = || vec![RunningDatabase::Replicated(db.clone(), handle.clone())];
    let done = flush_all(task(), by, FlushKind::Stop).await;
    if let Some(missing) = done.summaries.into_iter().find_map(|summary| summary.missing) {
        let message =
            format!("commits of the app would be lost, because they are not in the replica: {missing}");
        return Err(SwapError::Running(RestoreAnswer { code: exit::UNFLUSHED, message }));
    }
    // No process writes: the task has nothing to do but to end.
    let ending = async {
        let _ = handle.flush(true).await;
        handle.ended().await;
    };
    if tokio::time::timeout(CLOSING, ending).await.is_err() {
        return Err(SwapError::Stuck);
    }
    let path = db.clone();
    let _ = tokio::task::spawn_blocking(move || files::let_go(path.as_path())).await;
    let settings = &context.settings;
    let progress = Progress::default();
    let restoring = restore::restore_in_place(db, store, target, settings, &database.owners, true, &progress);
    tokio::select! {
        restored = restoring => return restored.map_err(|error| SwapError::Ended(failed(&error))),
        () = give_up.notified() => {}
    }
    let path = db.clone();
    let recovered = tokio::task::spawn_blocking(move || restore::recover(&path, FileAccess::Exclusive)).await;
    if let Ok(Err(error)) = recovered {
        tracing::error!(%db, "{error}");
    }
    Err(SwapError::Ended(RestoreAnswer {
        code: exit::UNFLUSHED,
        message: "a stop signal came before the restore".into(),
    }))
}

//! Prepares the databases for the start of the app: restores or keeps each one, in parallel, and holds its
//! WAL. The result is what replication needs, or the reason why the app must not be started.

use super::discover::{self, Directory, Discovered, Refused};
use super::locks::lock_all;
use super::messages::StartFailure;
use super::owners::Database;
use super::setup_due::{SetupPlan, Standing};
use crate::config::{DatabaseSettings, FollowSettings, VerifySettings};
use crate::lineage::setup_mark;
use crate::local_state::adopt::adopt;
use crate::local_state::lock;
use crate::model::proof::Restored;
use crate::model::{DbPath, threads};
use crate::observe::live::REDRAW;
use crate::observe::status_registry::Restore;
use crate::observe::{Live, StatusRegistry};
use crate::replicate::{self, Ledger, ReplicateSettings};
use crate::restore::waiting_report::State;
use crate::restore::{
    self, FileAccess, OnRestoreFailure, Outcome, Paces, Progress, RestoreError, RestoreErrorKind,
    RestoreSettings, WaitingReport,
};
use crate::sqlite::{ReadHold, Writers};
use crate::store::{Store, StoreSettings, Stores};
use crate::supervise::descriptors::{self, DescriptorError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A database that is ready for the app.
pub struct Prepared {
    pub db: DbPath,
    pub store: Arc<dyn Store>,
    pub replica: StoreSettings,
    pub settings: ReplicateSettings,
    pub hold: Option<ReadHold>,
    /// False if the app starts without the restore: the file must never become the replica's newest state.
    pub replicate: bool,
    /// The database does not exist, and `create_missing` is off.
    pub left_out: bool,
    pub standing: Standing,
}

/// How often the log shows the progress of a restore.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);

/// How often to check whether the replica has answered; the throttle decides whether that is logged.
const ANSWER_EVERY: Duration = Duration::from_secs(1);

/// What the databases of one start share: how far they are, and when the log speaks of a replica that is
/// away.
type Shown = (Live, Paces, Arc<WaitingReport>);

/// Databases that are restored or inspected at once, and the requests of all of them together. More would
/// only cost memory and sockets.
const AT_ONCE: usize = 16;
const REQUESTS: usize = 32;
/// Descriptors of one database: two connections with the database and its WAL each, the WAL index, two of
/// litevisor's own, and the lock; one is spare for what SQLite closes late. `DESCRIPTORS_BESIDE` is for
/// everything else: requests, files, the log, the runtime, and the connections of the status service.
const DESCRIPTORS: u64 = 9;
const DESCRIPTORS_BESIDE: u64 = 192 + 48;

/// What the restore and the replication of one run share.
#[derive(Clone)]
pub struct RunContext {
    pub databases: Vec<Database>,
    pub directories: Vec<Directory>,
    pub settings: RestoreSettings,
    pub stores: Arc<Stores>,
    /// All databases that are locked and may have been changed, those of the directories included.
    pub touched: Arc<Mutex<Vec<Database>>>,
    pub registry: Arc<StatusRegistry>,
    /// The status socket of this process, for the messages of other processes.
    pub socket: Arc<str>,
    /// Databases of the directories that cannot be replicated under their names.
    pub refused: Arc<Mutex<Vec<Refused>>>,
    /// None: there is no gate, and what is uploaded is not asked.
    pub ledger: Option<Arc<Ledger>>,
    /// None: the databases are the app's own, and replicated.
    pub follow: Option<FollowSettings>,
    pub verify: VerifySettings,
    /// None: nothing runs before the app.
    pub setup: Option<Arc<SetupPlan>>,
}

impl RunContext {
    pub fn refused(&self) -> Vec<Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A database that this process has locked.
    pub(super) fn locked(&self, db: &DbPath) -> Option<Database> {
        self.touched().into_iter().find(|database| database.settings.path == *db)
    }

    fn touched(&self) -> Vec<Database> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Undoes unfinished restores: returns the files that were set aside, and removes what was fetched.
    pub async fn abandon(&self) {
        let touched = self.touched();
        let access = self.settings.access;
        let put_back = tokio::task::spawn_blocking(move || {
            for database in &touched {
                let db = &database.settings.path;
                let Err(error) = restore::recover(db, access) else { continue };
                if db.aside().as_path().exists() {
                    tracing::error!(%db, "the restore could not be undone; the next start returns the \
                        previous file: {error}");
                } else if db.staged().exists() {
                    tracing::warn!(%db, "the staged files could not be removed; the next start removes them: \
                        {error}");
                }
            }
            touched.iter().for_each(|database| lock::release(&database.settings.path));
        });
        let _ = put_back.await;
    }

    /// Releases the locks of databases that were not changed.
    async fn release(&self) {
        let touched = self.touched();
        let gone = move || touched.iter().for_each(|database| lock::release(&database.settings.path));
        let _ = tokio::task::spawn_blocking(gone).await;
    }

    /// Locks the databases: from now on they may be changed.
    pub(super) async fn lock(&self, databases: &[Discovered]) -> Result<(), StartFailure> {
        let paths: Vec<DbPath> = databases.iter().map(|found| found.database.settings.path.clone()).collect();
        lock_all(Vec::clone(&paths), Arc::clone(&self.socket)).await?;
        let adopted = tokio::task::spawn_blocking(move || paths.iter().try_for_each(adopt)).await;
        let adopted = adopted.map_err(|error| StartFailure::Local(threads::describe_task_failure(&error)))?;
        adopted.map_err(|error| StartFailure::Local(error.to_string()))?;
        let locked = databases.iter().map(|found| found.database.clone());
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).extend(locked);
        Ok(())
    }

    /// The configured databases and those of the directories, all of them locked.
    pub(super) async fn find(&self) -> Result<Vec<Discovered>, StartFailure> {
        let configured =
            self.databases.iter().cloned().map(|database| Discovered { database, on_disk: true });
        let (mut all, mut refused): (Vec<Discovered>, Vec<Refused>) = (configured.collect(), Vec::new());
        room_for(all.len()).map_err(|error| too_few(all.len(), &error))?;
        self.lock(&all).await?;
        for directory in &self.directories {
            let each = directory.settings.each();
            match discover::find(directory, &self.stores, &self.settings).await {
                Ok(discovery) => {
                    all.extend(discovery.databases);
                    refused.extend(discovery.refused);
                }
                Err(error) if each.on_restore_failure == OnRestoreFailure::Abort => {
                    return Err(StartFailure::of_store(error));
                }
                Err(error) => {
                    tracing::error!(
                        "the replica cannot be listed: starting with the databases on the disk in {} alone: \
                         {error}",
                        directory.settings.dir.display()
                    );
                    let discovery = discover::on_disk(directory);
                    all.extend(discovery.databases);
                    refused.extend(discovery.refused);
                }
            }
        }
        for Refused { db, why } in &refused {
            tracing::error!(%db, "NOT REPLICATED: {why}");
            self.registry.not_replicated(db, why.clone());
        }
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        room_for(all.len()).map_err(|error| too_few(all.len(), &error))?;
        self.lock(all.get(self.databases.len()..).unwrap_or_default()).await?;
        Ok(all)
    }
}

/// Room for the descriptors of `databases`.
pub fn room_for(databases: usize) -> Result<(), DescriptorError> {
    descriptors::room_for(DESCRIPTORS_BESIDE + DESCRIPTORS * databases as u64)
}

/// How many connections of gates fit beside them. Each takes two descriptors.
pub fn room_for_connections(databases: usize, wanted: usize) -> usize {
    let needed = DESCRIPTORS_BESIDE + DESCRIPTORS * databases as u64;
    let room = descriptors::room_beside(needed, wanted.saturating_mul(2) as u64);
    usize::try_from(room / 2).unwrap_or(usize::MAX)
}

fn too_few(databases: usize, error: &DescriptorError) -> StartFailure {
    StartFailure::Local(format!("for {databases} databases {error}"))
}

/// Prepares all databases, or returns the first failure.
pub async fn prepare_all(context: RunContext) -> Result<(Vec<Prepared>, Restored), StartFailure> {
    let found = match context.find().await {
        Ok(found) => found,
        Err(failure) => {
            context.release().await;
            return Err(failure);
        }
    };
    let count = found.len();
    let mut settings = context.settings.clone();
    settings.parallelism = settings.parallelism.min((REQUESTS / count.clamp(1, AT_ONCE)).max(1));
    let mut tasks = JoinSet::new();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    // Dropped with the last task.
    let shown = Arc::new((Live::start(), Paces::default(), Arc::default()));
    for (index, Discovered { database, on_disk }) in found.into_iter().enumerate() {
        let settings = settings.clone();
        let turns = Arc::clone(&turns);
        let stores = Arc::clone(&context.stores);
        let registry = Arc::clone(&context.registry);
        let shown = Arc::clone(&shown);
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            (index, on_disk, prepare(database, &settings, &stores, &registry, &shown).await)
        });
    }
    let mut prepared = Vec::new();
    let mut outcomes = Vec::new();
    while let Some(done) = tasks.join_next().await {
        match done {
            // The bucket has something of this name that is not a replica.
            Ok((_, false, Ok((one, Outcome::StartedEmpty)))) => {
                context.registry.forget(&one.db);
                lock::release(&one.db);
            }
            Ok((index, _, Ok((one, Outcome::LeftAbsent)))) => {
                lock::release(&one.db);
                prepared.push((index, one));
            }
            Ok((index, _, Ok((one, outcome)))) => {
                prepared.push((index, one));
                outcomes.push(outcome);
            }
            Ok((_, _, Err(failure))) => {
                tasks.shutdown().await;
                context.abandon().await;
                return Err(failure);
            }
            Err(error) => return Err(StartFailure::Local(threads::describe_task_failure(&error))),
        }
    }
    if outcomes.is_empty() && !settings.create_missing {
        return Err(StartFailure::Nothing("none of the configured databases exists".into()));
    }
    prepared.sort_by_key(|(index, _)| *index);
    let prepared: Vec<Prepared> = prepared.into_iter().map(|(_, one)| one).collect();
    if settings.access == FileAccess::Exclusive {
        let replicated = prepared.iter().filter(|one| one.replicate);
        forget_setup(replicated.map(|one| one.db.clone()).collect()).await?;
    }
    Ok((prepared, restore::all_prepared(&outcomes)))
}

/// The databases are as they were before a setup that did not succeed. What is not replicated was not brought
/// back.
async fn forget_setup(databases: Vec<DbPath>) -> Result<(), StartFailure> {
    let removed = tokio::task::spawn_blocking(move || setup_mark::remove(&databases)).await;
    let removed = removed.map_err(|error| StartFailure::Local(threads::describe_task_failure(&error)))?;
    removed.map_err(|error| StartFailure::Local(error.to_string()))
}

async fn prepare(
    database: Database,
    settings: &RestoreSettings,
    stores: &Stores,
    registry: &StatusRegistry,
    shown: &Shown,
) -> Result<(Prepared, Outcome), StartFailure> {
    let DatabaseSettings { path: db, on_restore_failure, replicate, replica, .. } = database.settings;
    let store = stores.open(&replica).map_err(StartFailure::of_store)?;
    let progress = Arc::new(Progress::of_several(Arc::clone(&shown.2)));
    let begun = Instant::now();
    registry.restoring(&db, store.url(), store.counts(), Arc::clone(&progress));
    let restoring = restore::prepare(&db, &*store, settings, &database.owners, on_restore_failure, &progress);
    let outcome = with_progress(&db, &progress, shown, restoring).await.map_err(failure)?;
    registry.restored(&db, restore_record(&outcome, begun.elapsed()));
    let left_out = matches!(outcome, Outcome::LeftAbsent);
    let replicated = !left_out && !matches!(outcome, Outcome::Unrestored(_));
    let held = db.clone();
    let writers = if settings.access == FileAccess::Exclusive { Writers::None } else { Writers::MAY_COME };
    let locking = replicate.locking_mode;
    let take = move || replicated.then(|| replicate::hold(&held, locking, writers)).flatten();
    let hold = tokio::task::spawn_blocking(take);
    let hold = hold.await.map_err(|error| StartFailure::Local(threads::describe_task_failure(&error)))?;
    let standing = Standing::of(&outcome);
    Ok((
        Prepared { db, store, replica, settings: replicate, hold, replicate: replicated, left_out, standing },
        outcome,
    ))
}

/// Prepares one database again, after a restore in place.
pub async fn prepare_again(database: Database, context: &RunContext) -> Result<Prepared, StartFailure> {
    let shown = (Live::start(), Paces::default(), Arc::default());
    prepare(database, &context.settings, &context.stores, &context.registry, &shown)
        .await
        .map(|(prepared, _)| prepared)
}

pub(super) fn restore_record(outcome: &Outcome, took: Duration) -> Restore {
    let (outcome, bytes) = match outcome {
        Outcome::KeptLocal { .. } => ("kept", 0),
        Outcome::Restored { bytes, .. } => ("restored", *bytes),
        Outcome::StartedEmpty => ("empty", 0),
        Outcome::LeftAbsent => ("absent", 0),
        Outcome::Unrestored(_) => ("unrestored", 0),
    };
    Restore { outcome, bytes, took }
}

async fn with_progress<T>(
    db: &DbPath,
    progress: &Progress,
    (live, paces, throttle): &Shown,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    let place = paces.join();
    let every = if live.is_seen() { REDRAW } else { PROGRESS_EVERY };
    loop {
        let pause = if progress.total() == 0 { ANSWER_EVERY } else { every };
        tokio::select! {
            done = &mut work => {
                paces.set(place, progress.pace());
                return done;
            }
            () = tokio::time::sleep(every), if live.is_seen() => live.show(paces.set(place, progress.pace())),
            () = tokio::time::sleep(pause), if !live.is_seen() => {
                let pace = progress.pace();
                if pace.total > 0 || throttle.due(State::Waiting) {
                    tracing::info!(%db, bytes = pace.done, of = pace.total, "{}", pace.text());
                }
            }
        }
    }
}

fn failure(error: RestoreError) -> StartFailure {
    let text = error.to_string();
    match error.kind() {
        RestoreErrorKind::Damaged | RestoreErrorKind::NothingThere => StartFailure::Damaged(text),
        RestoreErrorKind::Unavailable => StartFailure::Unavailable(text),
        RestoreErrorKind::Local => StartFailure::Local(text),
    }
}

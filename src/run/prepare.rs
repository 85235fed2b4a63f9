//! Everything before the app may start: each database restored or kept, in parallel, and its WAL held. In: the
//! configured databases. Out: what replication needs, or why the app must not be started.

use super::discover::{self, Directory, Found};
use super::messages::StartFailure;
use crate::config::DatabaseSettings;
use crate::model::DbPath;
use crate::model::proof::Restored;
use crate::observe::board::Restore;
use crate::observe::live::REDRAW;
use crate::observe::{Board, Live};
use crate::replicate::{self, ReplicateSettings};
use crate::restore::{
    self, OnRestoreFailure, Others, Outcome, Owners, Paces, Progress, RestoreError, RestoreErrorKind, RestoreSettings,
};
use crate::sqlite::ReadHold;
use crate::store::{Store, StoreError, StoreErrorKind, Stores};
use crate::supervise::descriptors::{self, DescriptorError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A configured database, its owners looked up.
#[derive(Clone, Debug)]
pub struct Database {
    pub settings: DatabaseSettings,
    pub owners: Owners,
}

/// A database that the app may see.
pub struct Prepared {
    pub db: DbPath,
    pub store: Arc<dyn Store>,
    pub settings: ReplicateSettings,
    pub hold: Option<ReadHold>,
    /// Not if it was started on without its restore: it must never become the replica's head.
    pub replicate: bool,
}

/// A restore that takes long says how far it is this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);

/// Databases that are restored or looked through at once, and the requests of all of them together: what many at once would
/// only add is memory and sockets.
const AT_ONCE: usize = 16;
const REQUESTS: usize = 32;
/// Descriptors of one database: two connections with the database and its WAL each, the WAL index, and our own two; one is
/// left for what SQLite closes late. And those of everything else: requests, files being read, the log, the runtime; and
/// those who ask for the status.
const DESCRIPTORS: u64 = 8;
const DESCRIPTORS_BESIDE: u64 = 192 + 48;

/// What is to be prepared.
#[derive(Clone)]
pub struct Wanted {
    pub databases: Vec<Database>,
    pub directories: Vec<Directory>,
    pub settings: RestoreSettings,
    pub stores: Arc<Stores>,
    /// All databases that may have been touched, those of the directories included.
    pub touched: Arc<Mutex<Vec<Database>>>,
    pub board: Arc<Board>,
}

impl Wanted {
    fn touched(&self) -> Vec<Database> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts back what an unfinished restore had set aside, and drops what it had fetched.
    pub async fn abandon(&self) {
        let (databases, others) = (self.touched(), self.settings.others);
        let put_back = tokio::task::spawn_blocking(move || {
            for database in databases {
                let db = &database.settings.path;
                let Err(error) = restore::recover(db, others) else { continue };
                if db.aside().as_path().exists() {
                    tracing::error!(%db, "the next start will put the previous file back: {error}");
                } else if db.staged().exists() {
                    tracing::warn!(%db, "what was fetched is left there until the next start: {error}");
                }
            }
        });
        let _ = put_back.await;
    }

    /// What is configured, and what is found in the directories.
    async fn find(&self) -> Result<Vec<Found>, StartFailure> {
        let configured = self.databases.iter().cloned().map(|database| Found { database, here: true });
        let mut all: Vec<Found> = configured.collect();
        for directory in &self.directories {
            let each = directory.settings.each();
            match discover::find(directory, &self.stores, &self.settings).await {
                Ok(found) => all.extend(found),
                Err(error) if each.on_restore_failure == OnRestoreFailure::Abort => return Err(unavailable(&error)),
                Err(error) => {
                    tracing::error!("starting with what is in {} alone: {error}", directory.settings.dir.display());
                    all.extend(discover::here(directory));
                }
            }
        }
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) =
            all.iter().map(|found| found.database.clone()).collect();
        Ok(all)
    }
}

/// Room for the descriptors of `databases`.
pub fn room_for(databases: usize) -> Result<(), DescriptorError> {
    descriptors::room_for(DESCRIPTORS_BESIDE + DESCRIPTORS * databases as u64)
}

/// All of them, or the first reason against it.
pub async fn prepare_all(wanted: Wanted) -> Result<(Vec<Prepared>, Restored), StartFailure> {
    let found = wanted.find().await?;
    let count = found.len();
    room_for(count).map_err(|error| StartFailure::Local(format!("for {count} databases {error}")))?;
    let mut settings = wanted.settings.clone();
    settings.parallelism = settings.parallelism.min((REQUESTS / count.clamp(1, AT_ONCE)).max(1));
    let (mut tasks, turns) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    // Gone with the last of the tasks.
    let shown = Arc::new((Live::start(), Paces::default()));
    for (index, Found { database, here }) in found.into_iter().enumerate() {
        let (settings, turns, stores) = (settings.clone(), Arc::clone(&turns), Arc::clone(&wanted.stores));
        let (board, shown) = (Arc::clone(&wanted.board), Arc::clone(&shown));
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            (index, here, prepare(database, &settings, &stores, &board, &shown).await)
        });
    }
    let (mut prepared, mut outcomes) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        match done {
            // Something of a database's name in the bucket that is no replica.
            Ok((_, false, Ok((one, Outcome::StartedEmpty)))) | Ok((_, _, Ok((one, Outcome::LeftAbsent)))) => {
                wanted.board.forget(&one.db);
            }
            Ok((index, _, Ok((one, outcome)))) => {
                prepared.push((index, one));
                outcomes.push(outcome);
            }
            Ok((_, _, Err(failure))) => {
                tasks.shutdown().await;
                wanted.abandon().await;
                return Err(failure);
            }
            Err(error) => return Err(StartFailure::Local(format!("internal error: {error}"))),
        }
    }
    if outcomes.is_empty() && settings.others == Others::MayUseOnce {
        return Err(StartFailure::Nothing("none of the databases is there".into()));
    }
    prepared.sort_by_key(|(index, _)| *index);
    Ok((prepared.into_iter().map(|(_, one)| one).collect(), restore::all_prepared(&outcomes)))
}

async fn prepare(
    database: Database,
    settings: &RestoreSettings,
    stores: &Stores,
    board: &Board,
    shown: &(Live, Paces),
) -> Result<(Prepared, Outcome), StartFailure> {
    let DatabaseSettings { path: db, on_restore_failure, replicate, replica, .. } = database.settings;
    let store = stores.open(&replica).map_err(|error| unavailable(&error))?;
    let (progress, begun) = (Arc::new(Progress::default()), Instant::now());
    board.restoring(&db, store.url(), store.counts(), Arc::clone(&progress));
    let restoring = restore::prepare(&db, &*store, settings, &database.owners, on_restore_failure, &progress);
    let outcome = spoken(&db, &progress, shown, restoring).await.map_err(failure)?;
    board.restored(&db, told(&outcome, begun.elapsed()));
    let replicated = !matches!(outcome, Outcome::Unrestored(_));
    let held = db.clone();
    let hold = tokio::task::spawn_blocking(move || replicated.then(|| replicate::hold(&held)).flatten());
    let hold = hold.await.map_err(|error| StartFailure::Local(format!("internal error: {error}")))?;
    Ok((Prepared { db, store, settings: replicate, hold, replicate: replicated }, outcome))
}

fn told(outcome: &Outcome, took: Duration) -> Restore {
    let (outcome, bytes) = match outcome {
        Outcome::KeptLocal { .. } => ("kept", 0),
        Outcome::Restored { bytes, .. } => ("restored", *bytes),
        Outcome::StartedEmpty => ("empty", 0),
        Outcome::LeftAbsent => ("absent", 0),
        Outcome::Unrestored(_) => ("unrestored", 0),
    };
    Restore { outcome, bytes, took }
}

async fn spoken<T>(
    db: &DbPath,
    progress: &Progress,
    (live, paces): &(Live, Paces),
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    let (place, every) = (paces.join(), if live.is_seen() { REDRAW } else { PROGRESS_EVERY });
    loop {
        tokio::select! {
            done = &mut work => {
                paces.set(place, progress.pace());
                return done;
            }
            () = tokio::time::sleep(every), if live.is_seen() => live.show(paces.set(place, progress.pace())),
            () = tokio::time::sleep(every), if !live.is_seen() => {
                let pace = progress.pace();
                tracing::info!(%db, bytes = pace.done, of = pace.total, "{}", pace.text());
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

fn unavailable(error: &StoreError) -> StartFailure {
    match error.kind {
        StoreErrorKind::Invalid => StartFailure::Local(error.to_string()),
        _ => StartFailure::Unavailable(error.to_string()),
    }
}

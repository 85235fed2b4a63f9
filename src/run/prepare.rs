//! Everything before the app may start: each database restored or kept, in parallel, and its WAL held. In: the
//! configured databases. Out: what replication needs, or why the app must not be started.

use super::messages::StartFailure;
use crate::config::DatabaseSettings;
use crate::model::DbPath;
use crate::model::proof::Restored;
use crate::replicate::{self, ReplicateSettings};
use crate::restore::{self, Outcome, Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings};
use crate::sqlite::ReadHold;
use crate::store::{self, Store, StoreError, StoreErrorKind};
use std::sync::Arc;
use std::time::Duration;
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

/// All of them, or the first reason against it.
pub async fn prepare_all(
    databases: Vec<Database>,
    settings: RestoreSettings,
) -> Result<(Vec<Prepared>, Restored), StartFailure> {
    let mut tasks = JoinSet::new();
    for (index, database) in databases.iter().cloned().enumerate() {
        let settings = settings.clone();
        tasks.spawn(async move { (index, prepare(database, &settings).await) });
    }
    let (mut prepared, mut outcomes) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok((index, Ok((one, outcome)))) => {
                prepared.push((index, one));
                outcomes.push(outcome);
            }
            Ok((_, Err(failure))) => {
                tasks.shutdown().await;
                abandon(&databases).await;
                return Err(failure);
            }
            Err(error) => return Err(StartFailure::Local(format!("internal error: {error}"))),
        }
    }
    prepared.sort_by_key(|(index, _)| *index);
    Ok((prepared.into_iter().map(|(_, one)| one).collect(), restore::all_prepared(&outcomes)))
}

/// Puts back what an unfinished restore had set aside, and drops what it had fetched.
pub async fn abandon(databases: &[Database]) {
    let databases = databases.to_vec();
    let put_back = tokio::task::spawn_blocking(move || {
        for database in databases {
            let db = &database.settings.path;
            if let Err(error) = restore::recover(db) {
                tracing::error!(%db, "the next start will put the previous file back: {error}");
            }
        }
    });
    let _ = put_back.await;
}

async fn prepare(database: Database, settings: &RestoreSettings) -> Result<(Prepared, Outcome), StartFailure> {
    let DatabaseSettings { path: db, on_restore_failure, replicate, replica, .. } = database.settings;
    let store = store::open(&replica).map_err(|error| unavailable(&error))?;
    let progress = Progress::default();
    let restoring = restore::prepare(&db, &*store, settings, &database.owners, on_restore_failure, &progress);
    let outcome = spoken(&db, &progress, restoring).await.map_err(failure)?;
    let replicated = !matches!(outcome, Outcome::Unrestored(_));
    let held = db.clone();
    let hold = tokio::task::spawn_blocking(move || replicated.then(|| replicate::hold(&held)).flatten());
    let hold = hold.await.map_err(|error| StartFailure::Local(format!("internal error: {error}")))?;
    Ok((Prepared { db, store, settings: replicate, hold, replicate: replicated }, outcome))
}

async fn spoken<T>(db: &DbPath, progress: &Progress, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(PROGRESS_EVERY) => {
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

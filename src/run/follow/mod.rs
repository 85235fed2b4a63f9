//! `run --follow`: the databases are read-only copies of their replicas. They are restored before the app
//! starts, and followed while it runs. Nothing is written to a replica.

pub mod copy;
mod decide;
mod owner;

use super::discover::{Discovered, in_replica};
use super::messages::StartFailure;
use super::owners::Database;
use super::prepare::{RunContext, restore_record};
use crate::config::{DatabaseSettings, FollowSettings};
use crate::model::proof::Restored;
use crate::model::{DbPath, NotStarted, threads};
use crate::observe::follow::FollowStatus;
use crate::restore::follow::Follower;
use crate::restore::{self, OnRestoreFailure, Outcome, Owners, Progress, RestoreErrorKind};
use crate::rights;
use copy::{Copy, CopyError};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How often the replicas of directories are listed for databases that have appeared.
const DIRECTORIES_EVERY: Duration = Duration::from_secs(10);
/// Copies that are restored at once.
const AT_ONCE: usize = 8;

/// Restores all copies, or returns the first failure. Then each of them is followed until the engine ends.
pub async fn prepare_all(context: RunContext, settings: FollowSettings) -> Result<Restored, StartFailure> {
    let found = context.find().await?;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut preparing = JoinSet::new();
    for Discovered { database, on_disk } in found {
        let (context, turns) = (context.clone(), Arc::clone(&turns));
        preparing.spawn(async move {
            let _turn = turns.acquire().await;
            match prepare(database, &context, settings).await {
                // The bucket has something of this name that is not a replica.
                Err((db, CopyError::Restore(error)))
                    if !on_disk && error.kind() == RestoreErrorKind::NothingThere =>
                {
                    context.registry.forget(&db);
                    Ok(None)
                }
                Err((_, error)) => Err(failure(&error)),
                Ok(ready) => Ok(Some(ready)),
            }
        });
    }
    let mut ready = Vec::new();
    while let Some(done) = preparing.join_next().await {
        match done {
            Ok(Ok(one)) => ready.extend(one),
            Ok(Err(failure)) => {
                preparing.shutdown().await;
                context.abandon().await;
                return Err(failure);
            }
            Err(error) => return Err(StartFailure::Local(threads::describe_task_failure(&error))),
        }
    }
    let known = ready.iter().map(|(copy, _)| copy.db.clone()).collect();
    for (copy, follower) in ready {
        tokio::spawn(async move { copy.follow(follower).await });
    }
    if context.directories.iter().any(|directory| directory.settings.watch) {
        tokio::spawn(watch_directories(context, settings, known));
    }
    Ok(restore::all_prepared(&[]))
}

/// Databases that appear in the replicas of directories while the app runs get a copy, too.
async fn watch_directories(context: RunContext, settings: FollowSettings, mut known: BTreeSet<DbPath>) {
    loop {
        tokio::time::sleep(DIRECTORIES_EVERY.max(settings.poll)).await;
        for directory in context.directories.iter().filter(|directory| directory.settings.watch) {
            let entry = &directory.settings;
            // A replica that does not answer: the copies that are there say so.
            let Ok(names) = in_replica(entry, &context.stores, &context.settings).await else { continue };
            for name in names.iter().filter(|name| entry.problem(Path::new(name)).is_none()) {
                let database = Database { settings: entry.database(name), owners: directory.owners };
                let db = database.settings.path.clone();
                if !known.contains(&db) && add(database, &context, settings).await {
                    known.insert(db);
                }
            }
        }
    }
}

/// False: it is tried again.
async fn add(database: Database, context: &RunContext, settings: FollowSettings) -> bool {
    let found = [Discovered { database, on_disk: false }];
    if let Err(failure) = context.lock(&found).await {
        tracing::warn!("a database has appeared in the replica and is not followed: {failure:?}");
        return true;
    }
    let [Discovered { database, .. }] = found;
    match prepare(database, context, settings).await {
        Ok((copy, follower)) => {
            tracing::info!(db = %copy.db, "appeared in the replica: a copy of it is followed");
            tokio::spawn(async move { copy.follow(follower).await });
            true
        }
        Err((db, error)) => {
            tracing::debug!(%db, "not followed yet: {error}");
            context.registry.forget(&db);
            false
        }
    }
}

async fn prepare(
    database: Database,
    context: &RunContext,
    follow: FollowSettings,
) -> Result<(Copy, Follower), (DbPath, CopyError)> {
    let Database { settings: DatabaseSettings { path: db, on_restore_failure, replica, .. }, owners } =
        database;
    let store = context.stores.open(&replica).map_err(|source| (db.clone(), unavailable(source)))?;
    let progress = Arc::new(Progress::default());
    let begun = Instant::now();
    context.registry.restoring(&db, store.url(), store.counts(), Arc::clone(&progress));
    let owners = of_copy(&db, owners);
    let restore = context.settings.clone();
    let status = FollowStatus::new(follow.max_lag);
    let copy = Copy { db: db.clone(), store, restore, owners, follow, status: status.clone() };
    let follower = copy.prepare(&progress, on_restore_failure == OnRestoreFailure::Start).await;
    let follower = follower.map_err(|error| (db.clone(), error))?;
    let view = status.view();
    let bytes = progress.done() + view.bytes;
    let outcome = Outcome::Restored { txid: view.position, bytes, files: 0 };
    context.registry.restored(&db, restore_record(&outcome, begun.elapsed()));
    context.registry.following(&db, status);
    Ok((copy, follower))
}

/// Whose the copy is. A warning, where the app could change it.
pub fn of_copy(db: &DbPath, owners: Owners) -> Owners {
    let root = nix::unistd::geteuid().is_root();
    let shared = rights::of(db);
    if let Some(shared) = shared.as_ref().filter(|_| root) {
        let (uid, directory) = (shared.uid, db.directory().display());
        tracing::warn!(
            %db, "uid {uid} may write to {directory}, and could change the copy there: chown root \
                {directory} keeps it read-only"
        );
    }
    owner::of_copy(owners, if root && shared.is_none() { owner::Rights::Root } else { owner::Rights::App })
}

fn unavailable(source: crate::store::StoreError) -> CopyError {
    CopyError::Restore(restore::RestoreError::Unavailable { source })
}

fn failure(error: &CopyError) -> StartFailure {
    let text = error.to_string();
    match error.not_started() {
        NotStarted::Damaged => StartFailure::Damaged(text),
        NotStarted::Unavailable => StartFailure::Unavailable(text),
        NotStarted::Nothing => StartFailure::Nothing(text),
        _ => StartFailure::Local(text),
    }
}

//! The engine's part of `[app] setup`. Before the first command everything that the disk holds is uploaded,
//! so that the replica has the state to go back to, and the databases are marked (`lineage::setup_mark`).
//! Nothing is replicated while the commands run. After the last one the marks are removed; then replication
//! begins with what they have written.

use super::flush::{FlushKind, RunningDatabase, flush_all};
use super::messages::StartFailure;
use super::prepare::{self, Prepared, RunContext};
use super::setup_due::{Record, SetupPlan, Standing, is_due};
use crate::lineage::setup_mark::{self, Before};
use crate::lineage::state_file;
use crate::local_state::{LocalStateError, lock};
use crate::model::{DbPath, Deadline, threads};
use crate::replicate::{Handle, Replicator, Target};
use crate::sqlite::files;
use crate::store::{Store, StoreError, StoreErrorKind, retry};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

const RECORD: &str = "setup/done.json";
/// One try of a request for the record.
const RECORD_TRY: Duration = Duration::from_secs(10);
/// Databases that are uploaded at once before the setup.
const AT_ONCE: usize = 16;
/// A task that has done its last flush has this long to close its connections.
const CLOSING: Duration = Duration::from_secs(10);
/// Between two tries to have everything in the replica before the setup is recorded as done.
const RECORD_PAUSE: Duration = Duration::from_secs(5);

/// Makes the databases ready for the commands. False: the commands need not run.
pub async fn begin(
    context: RunContext,
    plan: Arc<SetupPlan>,
    ready: Vec<Prepared>,
) -> Result<(Vec<Prepared>, bool), StartFailure> {
    let record = match record_store(&ready).filter(|_| plan.is_recorded()) {
        Some(store) => read_record(&*store, Deadline::after(context.settings.timeout)).await,
        None => None,
    };
    let names: Vec<_> = ready.iter().map(|one| (one.db.to_string(), one.standing)).collect();
    let standings = names.iter().map(|(db, standing)| (db.as_str(), *standing));
    if !is_due(plan.when, record.as_ref(), plan.digest.as_deref(), standings) {
        tracing::info!("setup: done already with this content (app.setup_when), and skipped");
        return Ok((ready, false));
    }
    let ready = upload_all(&context, ready).await?;
    let before = |one: &Prepared| match one.standing {
        Standing::Empty => Before::Nothing,
        Standing::Continued | Standing::Restored(_) | Standing::Other => Before::Replica,
    };
    let marked: Vec<_> = replicated(&ready).map(|one| (one.db.clone(), before(one))).collect();
    on_disk(move || setup_mark::begin(&marked, state_file::new_node_id())).await?;
    Ok((ready, true))
}

/// All commands have succeeded.
pub async fn keep(databases: Vec<DbPath>) -> Result<(), StartFailure> {
    on_disk(move || setup_mark::succeed(&databases)).await
}

pub fn replicated(ready: &[Prepared]) -> impl Iterator<Item = &Prepared> {
    ready.iter().filter(|one| one.replicate && !one.left_out)
}

/// The commands have failed: the files are closed as they are.
pub async fn give_up(prepared: Vec<Prepared>) {
    let closing = move || {
        for Prepared { db, hold, .. } in prepared {
            drop(hold);
            files::let_go(db.as_path());
            state_file::forget(&db);
            lock::release(&db);
        }
    };
    let _ = tokio::task::spawn_blocking(closing).await;
}

async fn on_disk(
    work: impl FnOnce() -> Result<(), LocalStateError> + Send + 'static,
) -> Result<(), StartFailure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| StartFailure::Local(threads::describe_task_failure(&error)))?;
    done.map_err(|error| StartFailure::Local(format!("the setup cannot be marked: {error}")))
}

/// Uploads what the disk holds and the replica does not, and prepares those databases again.
async fn upload_all(context: &RunContext, ready: Vec<Prepared>) -> Result<Vec<Prepared>, StartFailure> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut uploads = JoinSet::new();
    for (index, one) in ready.into_iter().enumerate() {
        let (context, turns) = (context.clone(), Arc::clone(&turns));
        uploads.spawn(async move {
            let _turn = turns.acquire().await;
            let is_local = one.replicate && !one.left_out && one.standing.is_local();
            (index, if is_local { upload(&context, one).await } else { Ok(one) })
        });
    }
    let mut done = Vec::new();
    while let Some(uploaded) = uploads.join_next().await {
        let (index, one) =
            uploaded.map_err(|error| StartFailure::Local(threads::describe_task_failure(&error)))?;
        done.push((index, one?));
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, one)| one).collect())
}

async fn upload(context: &RunContext, one: Prepared) -> Result<Prepared, StartFailure> {
    let Prepared { db, store, settings, hold, .. } = one;
    let Some(database) = context.locked(&db) else {
        return Err(StartFailure::Local(format!("internal error: {db} is not locked")));
    };
    let (conflict, _conflicts) = unbounded_channel();
    let handle =
        Replicator::new(conflict, None).start(Target { db: db.clone(), store, settings, late: false }, hold);
    flush(&db, &handle, context.settings.timeout).await?;
    let ending = async {
        let _ = handle.flush(true).await;
        handle.ended().await;
    };
    if tokio::time::timeout(CLOSING, ending).await.is_err() {
        return Err(StartFailure::Local(format!("replication of {db} does not end")));
    }
    let path = db.clone();
    let _ = tokio::task::spawn_blocking(move || files::let_go(path.as_path())).await;
    prepare::prepare_again(database, context).await
}

/// Until everything is in the replica. An upload that makes progress is not cut off.
async fn flush(db: &DbPath, handle: &Handle, timeout: Duration) -> Result<(), StartFailure> {
    let mut bytes = None;
    loop {
        let task = vec![RunningDatabase::Replicated(db.clone(), handle.clone())];
        let done = flush_all(task, Deadline::after(timeout), FlushKind::Stop).await;
        let Some(summary) = done.summaries.into_iter().next() else { return Ok(()) };
        let Some(missing) = summary.missing else { return Ok(()) };
        if summary.fenced {
            return Err(StartFailure::Taken(format!("{db}: {missing}")));
        }
        if bytes.replace(summary.bytes).is_some_and(|before| before >= summary.bytes) {
            return Err(StartFailure::Unavailable(format!(
                "{db} has commits that are not in the replica, and before app.setup they must be, so that a \
                 setup that fails can be undone: {missing}"
            )));
        }
    }
}

/// Where the record of this run's databases is.
pub fn record_store(ready: &[Prepared]) -> Option<Arc<dyn Store>> {
    replicated(ready).next().map(|one| Arc::clone(&one.store))
}

/// What cannot be read counts as none: the setup runs once more.
async fn read_record(store: &dyn Store, by: Deadline) -> Option<Record> {
    match retry::run(by, RECORD_TRY, |_, _| {}, |by| store.get(RECORD, None, by)).await {
        Ok(text) => serde_json::from_slice(&text).ok(),
        Err(StoreError { kind: StoreErrorKind::NotFound, .. }) => None,
        Err(error) => {
            tracing::warn!("setup: it is not known whether it was done, so it runs: {error}");
            None
        }
    }
}

/// The setup was done in this run: what the record needs.
pub struct Recording {
    store: Arc<dyn Store>,
    digest: String,
}

impl Recording {
    pub fn of(plan: &SetupPlan, ready: &[Prepared]) -> Option<Recording> {
        let digest = plan.digest.clone()?;
        record_store(ready).map(|store| Recording { store, digest })
    }

    /// Once everything that the commands have written is in the replica. If litevisor ends before, the next
    /// start does it again.
    pub async fn write(self, all: Vec<RunningDatabase>) {
        let replicated: Vec<_> =
            all.into_iter().filter(|one| matches!(one, RunningDatabase::Replicated(..))).collect();
        loop {
            let done = flush_all(replicated.clone(), Deadline::after(RECORD_TRY), FlushKind::Sync).await;
            if done.summaries.iter().any(|summary| summary.fenced) {
                return;
            }
            if done.summaries.iter().all(|summary| summary.complete) && self.put(&replicated).await {
                return;
            }
            tokio::time::sleep(RECORD_PAUSE).await;
        }
    }

    async fn put(&self, replicated: &[RunningDatabase]) -> bool {
        let position = |one: &RunningDatabase| match one {
            RunningDatabase::Replicated(db, handle) => Some((db.to_string(), handle.status().uploaded.0.0)),
            RunningDatabase::NotReplicated(..) | RunningDatabase::EmptyDirectory(_) => None,
        };
        let positions = replicated.iter().filter_map(position).filter(|(_, txid)| *txid > 0).collect();
        let record = Record { digest: self.digest.clone(), positions };
        let text = Bytes::from(serde_json::to_vec(&record).unwrap_or_default());
        match self.store.put(RECORD, text, Deadline::after(RECORD_TRY)).await {
            Ok(()) => {
                tracing::debug!(replica = self.store.url(), "setup: recorded as done");
                true
            }
            Err(error) => {
                tracing::warn!("setup: not recorded as done yet; tried again: {error}");
                false
            }
        }
    }
}

/// An older state was restored in place: the next start does the setup again.
pub async fn forget(store: Arc<dyn Store>) {
    let keys = [RECORD.to_owned()];
    let by = Deadline::after(RECORD_TRY * 3);
    if let Err(error) = retry::run(by, RECORD_TRY, |_, _| {}, |by| store.delete(&keys, by)).await {
        tracing::error!("the next start may skip app.setup, although an older state was restored: {error}");
    }
}

//! Replication: one task per database and the handle to it. Owns everything from the wake-up to the store's
//! acknowledgement. Never touches the app, never decides when the program ends.

mod base_check;
mod capture;
mod database_writer;
mod disk;
mod end;
mod ledger;
mod lockout;
mod mailbox;
mod maintenance;
mod replacement;
mod resume_point;
mod send_queue;
mod session;
mod settings;
mod signs;
mod status;
mod sums;
mod task;
#[cfg(test)]
mod tests;
mod upload;
mod wal_limiter;

pub use ledger::{Ledger, Wanted};
#[cfg(test)]
pub use maintenance::dry_run::StayingSnapshot;
pub use maintenance::dry_run::{DryRun, dry_run};
pub use settings::{LockingMode, OnConflict, ReplicateSettings, Retention, Tiers};
pub use status::Status;

use crate::lineage::state_file;
use crate::model::{DbChecksum, DbPath, Txid, threads};
use crate::sqlite::{ReadHold, SqliteError, Writers};
use crate::store::Store;
use capture::watch::{TaskWaker, Watcher};
use mailbox::{Mailbox, Message, Request};
use status::StatusCell;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use task::Task;
use tokio::sync::{Notify, mpsc, oneshot};

/// What is replicated where.
#[derive(Clone)]
pub struct Target {
    pub db: DbPath,
    pub store: Arc<dyn Store>,
    pub settings: ReplicateSettings,
    /// It appeared while the app was running: it has not been compared with its replica yet. If that has a
    /// history which it does not continue, it is left alone, and the app is not stopped for it.
    pub late: bool,
}

/// Where a database's task says that another writer has its replica.
pub type Conflict = mpsc::UnboundedSender<(DbPath, String)>;

/// The way to one database's task. Dropping it ends the task without a last flush.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::UnboundedSender<Message>,
    status: Arc<StatusCell>,
    replica: Arc<str>,
}

impl Handle {
    /// Returns once everything that is committed now is in the replica, or replication has ended for good;
    /// the status says which. None: the task is gone and does not answer. `last`: no process writes any more,
    /// the task ends.
    pub async fn flush(&self, last: bool) -> Option<Status> {
        self.request(last, false).await
    }

    /// The same for requests from outside (`litevisor sync`), which may come at any time: it hurries nothing
    /// that is under way.
    pub async fn sync(&self) -> Option<Status> {
        self.request(false, true).await
    }

    async fn request(&self, last: bool, patient: bool) -> Option<Status> {
        if last {
            self.status.signs(signs::Signs::app_ended);
        }
        let (reply, answer) = oneshot::channel();
        self.requests.send(Message::Flush(Request { last, patient, reply })).ok()?;
        answer.await.ok()
    }

    /// Returns once the task has ended and closed its files.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    pub fn status(&self) -> Status {
        self.status.read()
    }

    /// The same without a look at the WAL: its size and the missing bytes are not known.
    pub fn known_status(&self) -> Status {
        self.status.known()
    }

    /// The newest position of this run that the replica holds, and the checksum of the whole database there,
    /// as the table of page checksums has it. None: no session knows.
    pub fn position(&self) -> Option<(Txid, DbChecksum)> {
        self.status.position()
    }

    /// The replica's newest state is not proven. These files are taken for damaged, and a new snapshot is
    /// uploaded.
    pub fn renew(&self, damaged: Vec<String>) {
        let _ = self.requests.send(Message::Renew(damaged));
    }

    /// Files of commits that were uploaded in this run.
    pub fn uploads(&self) -> u64 {
        self.status.uploads()
    }

    /// The replica's URL.
    pub fn replica(&self) -> &str {
        &self.replica
    }
}

/// Takes the hold on a database before anybody writes to it. None: there is no database yet, or it cannot be
/// held now; the task goes on trying.
pub fn hold(db: &DbPath, locking: LockingMode, writers: Writers) -> Option<ReadHold> {
    if locks_exclusively(db, locking) {
        return None;
    }
    ReadHold::take(db, writers)
        .inspect_err(|error| match error {
            SqliteError::NotYet { .. } | SqliteError::Writing { .. } => {}
            error => tracing::warn!(%db, "not held yet: {error}"),
        })
        .ok()
}

/// Whether the app locks the whole database, as configured, or as it did in its last life. A connection of
/// ours would keep it from opening the database.
fn locks_exclusively(db: &DbPath, locking: LockingMode) -> bool {
    locking == LockingMode::Exclusive
        || state_file::load(db).is_ok_and(|state| state.is_some_and(|state| state.app_locks_exclusively))
}

/// Starts the tasks, which live as long as their handles. What they share is here: one watcher for all files.
pub struct Replicator {
    watcher: Watcher,
    conflict: Conflict,
    /// None: there is no gate, and what is uploaded is not asked.
    ledger: Option<Arc<Ledger>>,
}

impl Replicator {
    /// On the current runtime.
    pub fn new(conflict: Conflict, ledger: Option<Arc<Ledger>>) -> Replicator {
        Replicator { watcher: Watcher::start(), conflict, ledger }
    }

    pub fn start(&self, target: Target, hold: Option<ReadHold>) -> Handle {
        let (requests, inbox) = mpsc::unbounded_channel();
        let (status, changed) = (Arc::new(StatusCell::new(&target.db)), Arc::new(Notify::new()));
        let waker = TaskWaker { changed: Arc::clone(&changed), status: Arc::clone(&status) };
        self.watcher.add(target.db.clone(), waker);
        let ledger = self.ledger.as_ref().map(|ledger| ledger.enter(&target.db, &status, &requests));
        let handle = Handle { requests, status: Arc::clone(&status), replica: target.store.url().into() };
        let (mailbox, node_id) = (Mailbox::new(inbox), state_file::new_node_id());
        let (conflict, sure_since) = (self.conflict.clone(), Instant::now());
        let base_asked = maintenance::base::LastAsked::now(0);
        let app_locks_exclusively = locks_exclusively(&target.db, target.settings.locking_mode);
        let begun = SystemTime::now();
        let task = Task {
            watcher: self.watcher.clone(),
            target,
            node_id,
            status,
            changed,
            mailbox,
            hold,
            conflict,
            sure_since,
            base_asked,
            replaced: None,
            ledger,
            app_locks_exclusively,
            begun,
            disk: None,
        };
        tokio::spawn(keep_running(task));
        handle
    }
}

/// Runs a task to its end. A panic in it is a bug; it must not take the last flush with it.
async fn keep_running(task: Task) {
    let db = task.target.db.clone();
    let task = Arc::new(tokio::sync::Mutex::new(task));
    loop {
        let running = Arc::clone(&task);
        let ended = tokio::spawn(async move { running.lock().await.run().await }).await;
        let Err(error) = ended else { return };
        let why = threads::describe_task_failure(&error);
        tracing::error!(%db, "the replication task failed and is started again: {why}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

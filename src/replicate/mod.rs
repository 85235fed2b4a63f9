//! Replication: one task per database and the handle to it. Owns everything from the wake-up to the store's
//! acknowledgement. Never touches the app, never decides when the program ends.

mod alone;
mod anchor;
mod capture;
mod checkpoint;
mod compact;
mod frames;
mod inventory;
mod mailbox;
mod merging;
mod outbox;
mod pace;
mod recent;
mod relief;
mod remind;
mod resume;
mod retain;
mod segment;
mod session;
mod settings;
mod snapshot;
mod spill;
mod status;
mod sums;
mod task;
#[cfg(test)]
mod tests;
mod upkeep;
mod upload;
mod watch;
mod work;

pub use settings::{OnConflict, ReplicateSettings, Retention};
pub use status::{Status, UpkeepStatus};

use crate::local_state;
use crate::model::DbPath;
use crate::sqlite::{ReadHold, SqliteError};
use crate::store::Store;
use mailbox::{Mailbox, Request};
use status::StatusCell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::Task;
use tokio::sync::{Notify, mpsc, oneshot};
use watch::{Bell, Watcher};

/// What is replicated where.
#[derive(Clone)]
pub struct Target {
    pub db: DbPath,
    pub store: Arc<dyn Store>,
    pub settings: ReplicateSettings,
    /// It appeared while the app was running: nobody has compared it with its replica yet. If that has a history which it
    /// does not continue, it is left alone, and the app is not stopped for it.
    pub late: bool,
}

/// Where a database's task says that another writer has its replica.
pub type Conflict = mpsc::UnboundedSender<(DbPath, String)>;

/// The way to one database's task. Dropping it ends the task without a last flush.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::UnboundedSender<Request>,
    status: Arc<StatusCell>,
}

impl Handle {
    /// Returns once everything that is committed now is in the replica, or replication has ended for good; the status says
    /// which. None: the task is gone and answers nobody. `last`: nobody writes any more, the task ends.
    pub async fn flush(&self, last: bool) -> Option<Status> {
        self.request(last, false).await
    }

    /// The same for whoever may ask at any time, and as often as he likes: it hurries nothing that is under way.
    pub async fn sync(&self) -> Option<Status> {
        self.request(false, true).await
    }

    async fn request(&self, last: bool, patient: bool) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { last, patient, reply }).ok()?;
        answer.await.ok()
    }

    pub fn status(&self) -> Status {
        self.status.read()
    }
}

/// Takes the hold on a database before anybody writes to it. None: there is no database yet, or it cannot be held now; the
/// task goes on trying.
pub fn hold(db: &DbPath) -> Option<ReadHold> {
    ReadHold::take(db)
        .inspect_err(|error| match error {
            SqliteError::NotYet { .. } => {}
            error => tracing::warn!(%db, "not held yet: {error}"),
        })
        .ok()
}

/// Starts the tasks, which live as long as their handles. What they share is here: one watcher for all files.
pub struct Replicator {
    watcher: Watcher,
    conflict: Conflict,
}

impl Replicator {
    /// On the current runtime.
    pub fn new(conflict: Conflict) -> Replicator {
        Replicator { watcher: Watcher::start(), conflict }
    }

    pub fn start(&self, target: Target, hold: Option<ReadHold>) -> Handle {
        let (requests, inbox) = mpsc::unbounded_channel();
        let (status, changed) = (Arc::new(StatusCell::default()), Arc::new(Notify::new()));
        let bell = Bell { changed: Arc::clone(&changed), status: Arc::clone(&status) };
        self.watcher.add(target.db.clone(), bell);
        let handle = Handle { requests, status: Arc::clone(&status) };
        let (mailbox, node_id) = (Mailbox::new(inbox), local_state::new_node_id());
        let (conflict, sure_since) = (self.conflict.clone(), Instant::now());
        let task = Task { target, node_id, status, changed, mailbox, hold, conflict, sure_since };
        tokio::spawn(keep_running(task));
        handle
    }
}

/// Runs a task to its end. A panic in it is a bug; it must not take the last flush with it.
async fn keep_running(task: Task) {
    let task = Arc::new(tokio::sync::Mutex::new(task));
    loop {
        let running = Arc::clone(&task);
        let ended = tokio::spawn(async move { running.lock().await.run().await }).await;
        let Err(error) = ended else { return };
        tracing::error!("replication task failed and is started again: {error}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

//! A new snapshot of a live database: asked of the session, which knows the pages, and uploaded beside it.
//! Owns the hand-over and the bound over all databases. The session stands still for neither; it only leaves
//! the hold where it is.

use crate::model::{DbPath, TxidRange};
use crate::replicate::upload::{self, Content, Segment, Stored};
use crate::store::Store;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};

/// Snapshots under way at once, of all databases.
static SNAPSHOTS: Semaphore = Semaphore::const_new(2);
/// The session gives one when all that is committed is in the replica; while the store is away it does not.
const GIVEN: Duration = Duration::from_secs(30);

enum State {
    Idle,
    Waiting(oneshot::Sender<Segment>),
    UnderWay,
}

/// Where the session lays down what is asked for.
pub struct SnapshotRequest {
    state: Mutex<State>,
    /// Wakes the session.
    changed: Arc<Notify>,
}

impl SnapshotRequest {
    pub fn new(changed: Arc<Notify>) -> SnapshotRequest {
        SnapshotRequest { state: Mutex::new(State::Idle), changed }
    }

    /// Wakes the session.
    pub fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    pub fn is_waiting(&self) -> bool {
        matches!(*self.state(), State::Waiting(_))
    }

    /// The pages of a snapshot are being read: the WAL and the database file must keep them.
    pub fn is_under_way(&self) -> bool {
        matches!(*self.state(), State::UnderWay)
    }

    pub fn give(&self, snapshot: Segment) {
        let mut state = self.state();
        if let State::Waiting(asker) = std::mem::replace(&mut *state, State::Idle) {
            // Pages are read while they are sent; what is encoded needs the files no more.
            let pages = matches!(snapshot.content, Content::Pages(..));
            if asker.send(snapshot).is_ok() && pages {
                *state = State::UnderWay;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clears the request, however the upload ends.
struct Clear<'a>(&'a SnapshotRequest);

impl Drop for Clear<'_> {
    fn drop(&mut self) {
        *self.0.state() = State::Idle;
        self.0.changed.notify_one();
    }
}

/// Range and bytes (0: not known) of the new snapshot; or why there is none.
pub async fn upload(
    store: &dyn Store,
    db: &DbPath,
    request: &SnapshotRequest,
) -> Result<(TxidRange, u64), String> {
    let _turn = SNAPSHOTS.acquire().await.map_err(|error| error.to_string())?;
    let (sender, given) = oneshot::channel();
    let _clear = Clear(request);
    *request.state() = State::Waiting(sender);
    request.changed.notify_one();
    let segment = match tokio::time::timeout(GIVEN, given).await {
        Ok(Ok(segment)) => segment,
        Ok(Err(_)) | Err(_) => return Err("what is committed is not in the replica yet".into()),
    };
    let range = segment.header.range;
    match upload::put(store, &segment).await {
        Ok(Stored::Yes(bytes)) => {
            tracing::info!(%db, txid = %range.max, bytes, "a new snapshot is in the replica");
            Ok((range, bytes))
        }
        // An earlier try of this run, of the same position.
        Ok(Stored::Earlier) => Ok((range, 0)),
        Ok(Stored::Foreign(detail)) => Err(detail),
        Err(error) => Err(error.to_string()),
    }
}

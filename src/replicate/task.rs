//! The task of one database: take the hold, run sessions (`session.rs`) until it is told to end. Whatever breaks is said,
//! waited for and begun again; only another writer ends replication for good. Never blocks the async thread: disk work
//! runs in `blocking`.

use super::capture::CaptureError;
use super::mailbox::Mailbox;
use super::status::StatusCell;
use super::{Conflict, Target};
use crate::sqlite::{ReadHold, SqliteError};
use crate::store::retry;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The files are looked at this often even when nothing reports a change; what waits for its moment is tried as often.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// While the store is away, it is spoken of this often.
pub(super) const REMIND: Duration = Duration::from_secs(30);
/// A whole turn (capture, checkpoint) is made this often even if the files look the same.
pub(super) const TURN: Duration = Duration::from_secs(15);
pub(super) const BREAK_PAUSE: Duration = Duration::from_millis(500);
/// A lock that is in the way for longer is spoken of.
const LOCKED: Duration = Duration::from_secs(3);

pub struct Task {
    pub target: Target,
    /// Of this run: two copies of one disk must not take each other's files for their own.
    pub node_id: u64,
    pub status: Arc<StatusCell>,
    pub changed: Arc<Notify>,
    pub mailbox: Mailbox,
    /// Taken before the app was started, if there was a database.
    pub hold: Option<ReadHold>,
    pub conflict: Conflict,
}

/// Why a session ended.
pub(super) enum End {
    /// The last flush is done, or nobody is left to ask.
    Closed,
    Fenced(String),
    /// A late database whose replica holds another history.
    Refused(String),
    /// Look again at everything, after a pause.
    Again(String),
}

impl From<CaptureError> for End {
    fn from(error: CaptureError) -> End {
        End::Again(error.to_string())
    }
}

impl Task {
    pub async fn run(&mut self) {
        let mut breaks = 0;
        loop {
            let begun = Instant::now();
            match self.life().await {
                End::Closed => return,
                End::Fenced(detail) => return self.fenced(detail).await,
                End::Refused(detail) => return self.refused(detail).await,
                End::Again(reason) => {
                    // What keeps failing is tried, and spoken of, more and more rarely.
                    breaks = if begun.elapsed() > REMIND { 1 } else { breaks + 1 };
                    tracing::warn!(db = %self.target.db, "replication begins anew: {reason}");
                    self.status.update(|status| status.problem = Some(reason));
                    self.mailbox.pause(retry::pause(breaks)).await;
                }
            }
        }
    }

    async fn life(&mut self) -> End {
        let hold = match self.held().await {
            Ok(hold) => hold,
            Err(end) => return end,
        };
        match self.session(hold).await {
            Ok(end) | Err(end) => end,
        }
    }

    /// A hold on the database, as soon as there is one.
    async fn held(&mut self) -> Result<ReadHold, End> {
        if let Some(hold) = self.hold.take() {
            return Ok(hold);
        }
        let mut said = None;
        let begun = Instant::now();
        loop {
            let asked = self.mailbox.asked();
            let db = self.target.db.clone();
            match blocking(move || ReadHold::take(&db)).await? {
                Ok(hold) => {
                    self.status.update(|status| status.absent = false);
                    return Ok(hold);
                }
                Err(SqliteError::NotYet { .. }) => {
                    self.status.update(|status| (status.absent, status.problem) = (true, None));
                    if self.mailbox.answer(asked, &self.status.read()) || self.mailbox.closed() {
                        return Err(End::Closed);
                    }
                }
                Err(error @ SqliteError::Busy { .. }) if begun.elapsed() < LOCKED => {
                    self.status.update(|status| status.problem = Some(error.to_string()));
                }
                Err(error) => {
                    if said.replace(error.to_string()).as_ref() != said.as_ref() {
                        tracing::warn!(db = %self.target.db, "not replicated yet: {error}");
                    }
                    self.status.update(|status| status.problem = Some(error.to_string()));
                }
            }
            if self.mailbox.closed() {
                return Err(End::Closed);
            }
            let absent = self.status.read().absent;
            // A file that comes rings.
            let pause = if asked > 0 {
                BREAK_PAUSE
            } else if absent {
                TURN
            } else {
                TICK
            };
            self.mailbox.wait(&self.changed, Instant::now() + pause).await;
        }
    }

    /// Another writer has the replica: answer whoever asks, touch nothing.
    async fn fenced(&mut self, detail: String) {
        tracing::error!(db = %self.target.db, "another instance writes to {}: {detail}", self.target.store.url());
        self.status.update(|status| status.fenced = Some(detail.clone()));
        let _ = self.conflict.send((self.target.db.clone(), detail));
        self.stand_aside().await;
    }

    /// The app goes on, and what it writes there stays here.
    async fn refused(&mut self, detail: String) {
        let replica = self.target.store.url();
        tracing::error!(
            db = %self.target.db, replica,
            "NOT REPLICATED: it appeared while the app was running, and its replica holds another history: {detail}. \
             The next start would restore that history in its place: move one of the two"
        );
        let told = format!("{replica} holds another history, which it does not continue: {detail}");
        self.status.update(|status| status.fenced = Some(told));
        self.stand_aside().await;
    }

    /// Replication has ended: answers whoever asks, until the last one.
    async fn stand_aside(&mut self) {
        while !self.mailbox.closed() {
            let asked = self.mailbox.asked();
            if self.mailbox.answer(asked, &self.status.read()) {
                return;
            }
            self.mailbox.pause(Duration::from_secs(3600)).await;
        }
    }
}

/// Runs disk work off the async thread. A panic in it ends the session, not the program.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
    tokio::task::spawn_blocking(work).await.map_err(|error| End::Again(format!("internal error: {error}")))
}

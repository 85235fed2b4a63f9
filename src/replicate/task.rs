//! The task of one database: take the hold, run sessions (`session.rs`) until it is told to end. Whatever breaks is said,
//! waited for and begun again; only another writer ends replication for good. Never blocks the async thread: disk work
//! runs in `blocking`.

use super::capture::CaptureError;
use super::mailbox::Mailbox;
use super::remind::Reminder;
use super::status::StatusCell;
use super::{Conflict, OnConflict, Target};
use crate::model::Txid;
use crate::sqlite::{ReadHold, SqliteError};
use crate::store::retry;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The files are looked at this often even when nothing reports a change; what waits for its moment is tried as often.
pub(super) const TICK: Duration = Duration::from_secs(1);
pub(super) use super::remind::REMIND;
/// A whole turn (capture, checkpoint) is made this often even if the files look the same.
pub(super) const TURN: Duration = Duration::from_secs(15);
pub(super) const BREAK_PAUSE: Duration = Duration::from_millis(500);
/// That a database is no longer replicated is said this often, when the app goes on all the same.
const LOST: Duration = Duration::from_secs(5 * 60);
/// A lock that is in the way for longer is spoken of.
const LOCKED: Duration = Duration::from_secs(3);
/// Whoever asks for a flush of a database that we cannot open waits this long: nothing that we do opens it.
const HOPELESS: Duration = Duration::from_secs(5);

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
    /// When the replica was last seen to end where we say.
    pub sure_since: Instant,
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
                    self.status.update(|status| {
                        (status.problem, status.replicating) = (Some(reason), false);
                        status.failures += 1;
                    });
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
        let mut reminder = Reminder::default();
        let begun = Instant::now();
        let mut asked_since = None;
        loop {
            let asked = self.mailbox.asked();
            if asked > 0 {
                asked_since.get_or_insert_with(Instant::now);
            }
            let db = self.target.db.clone();
            let mut hopeless = false;
            match blocking(move || ReadHold::take(&db)).await? {
                Ok(hold) => {
                    self.status.update(|status| status.absent = false);
                    return Ok(hold);
                }
                Err(error @ (SqliteError::NotYet { .. } | SqliteError::ReadOnly { .. })) => {
                    let absent = matches!(error, SqliteError::NotYet { .. });
                    if !absent && reminder.due(&error.to_string()) {
                        tracing::warn!(db = %self.target.db, "not replicated: {error}");
                    }
                    let problem = (!absent).then(|| error.to_string());
                    self.status.update(|status| {
                        (status.absent, status.problem, status.written_at) = (absent, problem, None);
                    });
                    if self.mailbox.answer(asked, &self.status.read()) {
                        return Err(End::Closed);
                    }
                    asked_since = None;
                }
                Err(error) => {
                    let locked = matches!(error, SqliteError::Busy { .. });
                    if (!locked || begun.elapsed() >= LOCKED) && reminder.due(&error.to_string()) {
                        tracing::warn!(db = %self.target.db, "not replicated yet: {error}");
                    }
                    self.status.update(|status| status.problem = Some(error.to_string()));
                    hopeless = !locked && asked_since.is_some_and(|since: Instant| since.elapsed() >= HOPELESS);
                }
            }
            if self.mailbox.closed() || (hopeless && self.mailbox.refuse(asked)) {
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
        let uploaded = self.status.read().uploaded.0;
        let ours = if uploaded == Txid::NONE { "nothing of this run".to_owned() } else { format!("TXID {uploaded}") };
        let detail = format!("{detail}; the last of ours in the replica is {ours}");
        self.status.update(|status| {
            (status.fenced, status.problem, status.replicating) = (Some(detail.clone()), None, false);
        });
        let (db, url) = (&self.target.db, self.target.store.url());
        tracing::error!(%db, "another instance writes to {url}: {detail}");
        let goes_on = self.target.settings.on_conflict == OnConflict::Continue;
        if !goes_on {
            let _ = self.conflict.send((self.target.db.clone(), detail));
        }
        self.stand_aside(goes_on.then_some("on_conflict = \"continue\"")).await;
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
        self.status.update(|status| (status.fenced, status.refused, status.replicating) = (Some(told), true, false));
        self.stand_aside(Some("its replica holds another history")).await;
    }

    /// Replication has ended: answers whoever asks, until the last one. `goes_on`: why the app runs on all the same.
    async fn stand_aside(&mut self, goes_on: Option<&str>) {
        while !self.mailbox.closed() {
            let asked = self.mailbox.asked();
            if self.mailbox.answer(asked, &self.status.read()) {
                return;
            }
            if let Some(why) = goes_on
                && asked == 0
            {
                let db = &self.target.db;
                tracing::error!(%db, "the app goes on WITHOUT replication ({why}): what it writes is on this disk only");
            }
            self.mailbox.pause(LOST).await;
        }
    }
}

/// Runs disk work off the async thread. A panic in it ends the session, not the program.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
    tokio::task::spawn_blocking(work).await.map_err(|error| End::Again(format!("internal error: {error}")))
}

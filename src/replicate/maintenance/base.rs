//! Whether the replica still holds its base: the snapshot that a restore begins with. A lifecycle rule or an operator may
//! delete it while every upload succeeds, and then nothing can be restored. Owns the rule for when to ask (`is_due`, pure),
//! the request itself, and what the session and its maintenance tell each other about the base. Asks for nothing while nothing is
//! written.

use super::Maintenance;
use super::inventory::File;
use super::ownership;
use crate::model::{Deadline, TxidRange};
use crate::replicate::task::{End, Task};
use crate::store::layout::Level;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// While commits are uploaded, the base is asked for this often: one small request.
pub const EVERY: Duration = Duration::from_secs(300);
/// A request for the base while the app writes, and the one before the last flush ends, which has to fit into what is left
/// of the platform's grace.
const REQUEST: Duration = Duration::from_secs(20);
const LAST_REQUEST: Duration = Duration::from_millis(1500);

/// What the answer is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Nobody waits for a flush.
    Writing,
    /// A sync, or the flush before the app is told to stop.
    Flush,
    /// The last flush of this run.
    Last,
}

/// Files of commits that were uploaded since the base was last asked for, and in this run.
#[derive(Clone, Copy, Debug)]
pub struct Uploads {
    pub since: u64,
    pub in_run: u64,
}

pub fn is_due(occasion: Occasion, uploads: Uploads, since: Duration) -> bool {
    match occasion {
        Occasion::Writing => uploads.since > 0 && since >= EVERY,
        Occasion::Flush => uploads.since > 0,
        Occasion::Last => uploads.in_run > 0,
    }
}

/// When the session last asked, and how many files had been uploaded in this run by then.
pub struct LastAsked {
    at: Instant,
    uploads: u64,
}

impl LastAsked {
    pub fn now(uploads: u64) -> LastAsked {
        LastAsked { at: Instant::now(), uploads }
    }
}

/// Whether the replica's newest state can be restored, as far as its files are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Restorable {
    #[default]
    Unknown,
    Yes,
    /// Why not.
    No(String),
    /// Everything in it was removed.
    Emptied,
}

/// Written by maintenance, read by the session.
pub struct Standing {
    state: Mutex<(Option<File>, Restorable)>,
    /// Wakes the session.
    changed: Arc<Notify>,
}

impl Standing {
    pub fn new(changed: Arc<Notify>) -> Standing {
        Standing { state: Mutex::default(), changed }
    }

    fn state(&self) -> MutexGuard<'_, (Option<File>, Restorable)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session may wait for this before it answers a flush.
    pub fn set(&self, base: Option<File>, restorable: Restorable) {
        let mut state = self.state();
        let news = state.1 != restorable;
        *state = (base, restorable);
        drop(state);
        if news {
            self.changed.notify_one();
        }
    }

    pub fn set_base(&self, base: Option<File>) {
        self.state().0 = base;
    }

    pub fn base(&self) -> Option<(Level, TxidRange)> {
        self.state().0.map(|file| (file.level, file.range))
    }

    pub fn set_emptied(&self) {
        self.set(None, Restorable::Emptied);
    }

    pub fn is_emptied(&self) -> bool {
        self.state().1 == Restorable::Emptied
    }

    /// Only then is a flush complete.
    pub fn is_restorable(&self) -> bool {
        self.state().1 == Restorable::Yes
    }
}

impl Task {
    /// Asks for the base, if that is due. When it is gone the session ends: the next one lists the replica and uploads what is
    /// missing.
    pub async fn check_base(&mut self, maintenance: &Maintenance, occasion: Occasion) -> Result<(), End> {
        if maintenance.standing().is_emptied() {
            return Err(End::Again("the replica is empty: everything in it was removed".into()));
        }
        let in_run = self.status.read().uploads;
        let uploads = Uploads { since: in_run.saturating_sub(self.base_asked.uploads), in_run };
        let Some((level, range)) = maintenance.standing().base() else { return Ok(()) };
        if !is_due(occasion, uploads, self.base_asked.at.elapsed()) {
            return Ok(());
        }
        let limit = if occasion == Occasion::Last { LAST_REQUEST } else { REQUEST };
        let store = Arc::clone(&self.target.store);
        let asked = ownership::there(&*store, level, range, Deadline::after(limit));
        let Some(answer) = self.mailbox.during(true, asked).await else {
            return if self.mailbox.closed() { Err(End::Closed) } else { Ok(()) };
        };
        let db = &self.target.db;
        let url = self.target.store.url();
        match answer {
            Ok(true) => self.base_asked = LastAsked::now(in_run),
            // Maintenance has uploaded a newer one meanwhile, and deleted this one.
            Ok(false) if maintenance.standing().base() != Some((level, range)) => {}
            Ok(false) => {
                let what =
                    format!("the snapshot {range} (level {}), which every restore begins with, is gone", level.0);
                tracing::error!(
                    %db, "{url}: {what}: nothing can be restored until a new one is there. It is uploaded now; find out what \
                     deletes there (a lifecycle rule?) and stop it"
                );
                return Err(End::Again(what));
            }
            Err(error) => {
                // What was uploaded was acknowledged; the next upload meets the same store.
                self.base_asked.at = Instant::now();
                tracing::warn!(%db, "cannot ask whether the replica's snapshot is still there: {error}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_now_and_then_while_writing_and_once_before_the_end() {
        let (soon, late) = (Duration::from_secs(1), EVERY);
        for (occasion, since, in_run, elapsed, due) in [
            (Occasion::Writing, 0, 9, late, false),
            (Occasion::Writing, 1, 9, soon, false),
            (Occasion::Writing, 1, 9, late, true),
            (Occasion::Flush, 0, 9, late, false),
            (Occasion::Flush, 1, 9, soon, true),
            (Occasion::Last, 0, 0, late, false),
            (Occasion::Last, 0, 9, soon, true),
        ] {
            assert_eq!(is_due(occasion, Uploads { since, in_run }, elapsed), due, "{occasion:?} {since} {in_run}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_when_it_can_be_restored() {
        let changed = Arc::new(Notify::new());
        let standing = Standing::new(Arc::clone(&changed));
        assert!(!standing.is_restorable(), "nothing is known yet");
        standing.set(None, Restorable::No("a gap".into()));
        changed.notified().await;
        assert!(!standing.is_restorable());
        standing.set(None, Restorable::Yes);
        changed.notified().await;
        assert!(standing.is_restorable());
    }
}

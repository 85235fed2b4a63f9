//! Whether the replica still holds its base: the snapshot that a restore begins with. A lifecycle rule or an
//! operator may delete it while every upload succeeds, and then nothing can be restored. Owns the rule for
//! when to ask (`is_due`, pure) and what the session and its maintenance tell each other about the base. Asks
//! for nothing while nothing is written.

use super::inventory::File;
use crate::model::TxidRange;
use crate::replicate::ledger::LedgerEntry;
use crate::replicate::mailbox::Occasion;
use crate::store::layout::Level;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// While commits are uploaded, the base is asked for this often: one small request.
pub const EVERY: Duration = Duration::from_secs(300);

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
    pub at: Instant,
    pub uploads: u64,
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
pub struct BaseStatus {
    state: Mutex<(Option<File>, Restorable)>,
    /// Wakes the session.
    changed: Arc<Notify>,
    ledger: Option<LedgerEntry>,
}

impl BaseStatus {
    pub fn new(changed: Arc<Notify>, ledger: Option<LedgerEntry>) -> BaseStatus {
        BaseStatus { state: Mutex::default(), changed, ledger }
    }

    fn state(&self) -> MutexGuard<'_, (Option<File>, Restorable)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session may wait for this before it answers a flush.
    pub fn set(&self, base: Option<File>, restorable: Restorable) {
        let mut state = self.state();
        let news = state.1 != restorable;
        let is_restorable = restorable == Restorable::Yes;
        *state = (base, restorable);
        drop(state);
        if news {
            self.ledger.iter().for_each(|ledger| ledger.restorable(is_restorable));
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
            assert_eq!(
                is_due(occasion, Uploads { since, in_run }, elapsed),
                due,
                "{occasion:?} {since} {in_run}"
            );
        }
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_when_it_can_be_restored() {
        let changed = Arc::new(Notify::new());
        let status = BaseStatus::new(Arc::clone(&changed), None);
        assert!(!status.is_restorable(), "nothing is known yet");
        status.set(None, Restorable::No("a gap".into()));
        changed.notified().await;
        assert!(!status.is_restorable());
        status.set(None, Restorable::Yes);
        changed.notified().await;
        assert!(status.is_restorable());
    }
}

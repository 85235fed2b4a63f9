//! What one database's task has reached; shared with whoever wants to know. Holds values only; `lag` ◦ is counted from them.

use crate::model::{Captured, Txid, Uploaded};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub captured: Captured,
    pub uploaded: Uploaded,
    /// Bytes and files of commits sent to the replica in this run.
    pub bytes: u64,
    pub uploads: u64,
    pub uploaded_at: Option<SystemTime>,
    /// A session goes on from the replica's newest position.
    pub replicating: bool,
    /// The app has not made its database.
    pub absent: bool,
    /// Why replication does not get on right now.
    pub problem: Option<String>,
    /// Tries that failed: requests of ours for a commit, and sessions.
    pub failures: u64,
    /// When the oldest commit was seen that is captured and not uploaded.
    pub waiting_since: Option<Instant>,
    /// When the files were first written since the last look at what is committed.
    pub written_at: Option<Instant>,
    /// Committed, not in the replica: bytes, as far as was looked.
    pub lag_bytes: u64,
    /// The WAL file's length.
    pub wal_bytes: u64,
    /// Captured, not uploaded, and on this disk outside of the WAL.
    pub spilled_bytes: u64,
    /// Why the WAL grows past its limit, if it does.
    pub wal_grows: Option<String>,
    /// Another writer holds the replica: replication has stopped for good.
    pub fenced: Option<String>,
    /// It is not another writer, but a history that this late database does not continue.
    pub refused: bool,
    pub upkeep: UpkeepStatus,
}

/// Merging, snapshots and deletion, in this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpkeepStatus {
    pub snapshots: u64,
    pub snapshot_at: Option<SystemTime>,
    pub merges: u64,
    pub deleted_files: u64,
    /// Bytes of snapshots and merged files.
    pub bytes: u64,
    pub failures: u64,
    /// Why it does not get on right now.
    pub problem: Option<String>,
}

impl UpkeepStatus {
    /// One more is in the replica. Bytes beside those of commits.
    pub fn snapshot(&mut self, bytes: u64) {
        self.snapshots += 1;
        self.snapshot_at = Some(SystemTime::now());
        self.done(bytes);
    }

    pub fn done(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.problem = None;
    }

    pub fn failed(&mut self, problem: String) {
        self.failures += 1;
        self.problem = Some(problem);
    }
}

impl Status {
    /// The age of the oldest commit that is not in the replica. What was written and not looked at yet counts as one.
    pub fn lag(&self, now: Instant) -> Duration {
        if self.absent {
            return Duration::ZERO;
        }
        let since = self.waiting_since.into_iter().chain(self.written_at).min();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[derive(Default)]
pub struct StatusCell(Mutex<State>);

#[derive(Default)]
struct State {
    status: Status,
    /// `written_at` of what is being looked at.
    looking: Option<Instant>,
}

impl StatusCell {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn read(&self) -> Status {
        let state = self.state();
        let mut status = state.status.clone();
        status.written_at = state.looking.into_iter().chain(status.written_at).min();
        status
    }

    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.state().status);
    }

    pub fn uploaded(&self, txid: Txid) {
        self.update(|status| {
            status.uploaded = Uploaded(txid);
            status.problem = None;
        });
    }

    /// One more file of commits is in the replica; so much is left.
    pub fn sent(&self, bytes: u64, spilled_bytes: u64, waiting_bytes: u64) {
        self.update(|status| {
            (status.bytes, status.uploads) = (status.bytes + bytes, status.uploads + 1);
            status.uploaded_at = Some(SystemTime::now());
            (status.spilled_bytes, status.lag_bytes, status.wal_grows) = (spilled_bytes, waiting_bytes, None);
        });
    }

    /// The files were written.
    pub fn written(&self) {
        self.update(|status| {
            status.written_at.get_or_insert_with(Instant::now);
        });
    }

    /// What is committed is about to be looked at: what is written from now on belongs to the next look.
    pub fn look(&self) {
        let mut state = self.state();
        let written = state.status.written_at.take();
        state.looking = state.looking.into_iter().chain(written).min();
    }

    /// The look is over. `waits`: there is something that is not in the replica.
    pub fn looked(&self, waits: bool) {
        let mut state = self.state();
        let looking = state.looking.take();
        let since = state.status.waiting_since;
        state.status.waiting_since = waits.then(|| since.or(looking).unwrap_or_else(Instant::now));
    }

    /// Everything captured is in the replica.
    pub fn caught_up(&self) {
        self.update(|status| (status.waiting_since, status.lag_bytes) = (None, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_oldest_commit_that_is_not_there() {
        let cell = StatusCell::default();
        let lag = |cell: &StatusCell| cell.read().lag(Instant::now());
        let pause = || std::thread::sleep(Duration::from_millis(2));
        assert_eq!(lag(&cell), Duration::ZERO);
        cell.written();
        pause();
        let first = lag(&cell);
        assert!(first >= Duration::from_millis(2));
        cell.look();
        assert!(lag(&cell) >= first, "it is being looked at");
        // Committed while the look was under way.
        cell.written();
        let second = Instant::now();
        cell.looked(true);
        assert!(lag(&cell) >= first);
        pause();
        cell.caught_up();
        let left = lag(&cell);
        assert!(left >= Duration::from_millis(2) && left <= second.elapsed() + Duration::from_millis(1), "{left:?}");
        cell.look();
        cell.looked(false);
        assert_eq!(lag(&cell), Duration::ZERO);
        // Found without anybody having rung.
        cell.look();
        cell.looked(true);
        pause();
        assert!(lag(&cell) >= Duration::from_millis(2));
        cell.update(|status| status.absent = true);
        assert_eq!(lag(&cell), Duration::ZERO);
    }
}

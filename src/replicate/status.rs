//! What one database's task has reached; shared with the parts that report it. Holds values only; `lag` ◦ is
//! counted from them.

use super::signs::Signs;
use crate::model::{Captured, DbChecksum, DbPath, Txid, Uploaded};
use crate::replica::RestorableRange;
use crate::sqlite::WalView;
use crate::wal::{Cursor, Salts};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

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
    /// The app locks the whole database: nothing is replicated before its end.
    pub locked_by_app: bool,
    /// Why replication does not get on right now.
    pub problem: Option<String>,
    /// Its files were overwritten, replaced or removed, and what is there now is not in the replica; why not.
    pub replaced: Option<String>,
    /// Tries that failed: requests of ours for a commit, and sessions.
    pub failures: u64,
    /// When the oldest commit was seen that is captured and not uploaded.
    pub waiting_since: Option<Instant>,
    /// When the files were first written since the last look at what is committed.
    pub written_at: Option<Instant>,
    /// Committed, not in the replica: bytes at this moment. None: it is not known what the replica lacks.
    pub lag_bytes: Option<u64>,
    /// The WAL file's length at this moment.
    pub wal_bytes: u64,
    /// Captured, not uploaded, and on this disk outside of the WAL.
    pub spilled_bytes: u64,
    /// What can be restored, by the files that this run knows of, the oldest first.
    pub restorable: Arc<[RestorableRange]>,
    /// Why the replica's newest state cannot be restored, if it cannot: a new snapshot is on its way.
    pub unrestorable: Option<String>,
    /// What is wrong with the clocks of this machine and of those that wrote before, if anything is.
    pub clock: Option<String>,
    /// Why the WAL grows past its limit, if it does.
    pub wal_grows: Option<String>,
    /// Another writer holds the replica: replication has stopped for good.
    pub fenced: Option<String>,
    /// It is not another writer, but a history that this late database does not continue.
    pub refused: bool,
    pub maintenance: MaintenanceStatus,
}

/// Merging, snapshots and deletion, in this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaintenanceStatus {
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

impl MaintenanceStatus {
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
    /// Something is in the way of a flush.
    pub fn is_hindered(&self) -> bool {
        self.problem.is_some()
            || self.replaced.is_some()
            || self.fenced.is_some()
            || self.unrestorable.is_some()
    }

    /// The app has not created its database in this run, and no earlier run has either.
    pub fn never_existed(&self) -> bool {
        self.absent && self.uploaded.0 == Txid::NONE
    }

    /// The age of the oldest commit that is not in the replica. What was written and not looked at yet counts
    /// as one.
    pub fn lag(&self, now: Instant) -> Duration {
        if self.absent {
            return Duration::ZERO;
        }
        let since = self.waiting_since.into_iter().chain(self.written_at).min();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// Where the capture stands, so that how much is missing can be counted when it is asked for.
#[derive(Clone)]
pub struct CaptureState {
    pub view: Option<WalView>,
    pub captured: Option<Cursor>,
    /// Bytes of the WAL that were let go of and wait for a comparison.
    pub skipped_bytes: u64,
    /// Bytes of what is captured and not in the replica.
    pub waiting_bytes: u64,
    /// What the replica holds, and the checksum of the whole database there.
    pub uploaded: Option<(Txid, DbChecksum)>,
}

impl CaptureState {
    fn lag_bytes(&self) -> Option<u64> {
        let end = self.view.as_ref()?.end();
        let end = end.map(|end| (end.salts, end.offset));
        let captured =
            self.captured.map(|cursor| (cursor.salts, cursor.offset)).filter(|_| self.skipped_bytes == 0);
        Some(self.waiting_bytes + self.skipped_bytes + uncaptured(end, captured))
    }
}

/// Bytes of the WAL behind the captured position. Salts differ when the WAL was started over since.
fn uncaptured(end: Option<(Salts, u64)>, captured: Option<(Salts, u64)>) -> u64 {
    match (end, captured) {
        (None, _) => 0,
        (Some((salts, end)), Some((known, offset))) if salts == known => end.saturating_sub(offset),
        (Some((_, end)), _) => end.saturating_sub(crate::wal::HEADER),
    }
}

#[derive(Default)]
pub struct StatusCell {
    state: Mutex<State>,
    /// The files were written.
    stirred: Notify,
    /// A session may keep the app out of its database.
    lockout_suspected: Notify,
}

#[derive(Default)]
struct State {
    status: Status,
    /// `written_at` of what is being looked at.
    looking: Option<Instant>,
    wal: Option<PathBuf>,
    capture: Option<CaptureState>,
    database_created: Option<Instant>,
    /// When the `-wal` was created last, and whether a `-shm` was, since the files are watched.
    wal_created: Option<Instant>,
    index_created: bool,
    /// A second `-wal` was created, and no `-shm` between the two.
    wal_without_index: bool,
    signs: Signs,
}

impl State {
    fn known(&self) -> Status {
        let written_at = self.looking.into_iter().chain(self.status.written_at).min();
        Status { written_at, ..self.status.clone() }
    }
}

impl StatusCell {
    pub fn new(db: &DbPath) -> StatusCell {
        let cell = StatusCell::default();
        cell.state().wal = Some(db.wal());
        cell
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn read(&self) -> Status {
        let (mut status, capture, wal) = {
            let state = self.state();
            (state.known(), state.capture.clone(), state.wal.clone())
        };
        if let Some(wal) = wal {
            status.wal_bytes = std::fs::metadata(wal).map_or(0, |meta| meta.len());
        }
        status.lag_bytes =
            if status.absent { Some(0) } else { capture.and_then(|capture| capture.lag_bytes()) };
        status
    }

    /// Without a look at any file.
    pub fn known(&self) -> Status {
        self.state().known()
    }

    pub fn uploads(&self) -> u64 {
        self.state().status.uploads
    }

    pub fn wal_created(&self) {
        let mut state = self.state();
        state.wal_without_index |= state.wal_created.is_some() && !state.index_created;
        state.wal_created = Some(Instant::now());
    }

    pub fn index_created(&self) {
        self.state().index_created = true;
    }

    pub fn database_created(&self) {
        self.state().database_created = Some(Instant::now());
    }

    /// How long ago the database or its `-wal` was created, if that was since the files are watched.
    pub fn created_ago(&self) -> Option<Duration> {
        let state = self.state();
        state.database_created.max(state.wal_created).map(|created| created.elapsed())
    }

    /// How long ago a `-wal` was created without a `-shm`: only an app with `locking_mode = EXCLUSIVE` does
    /// that. Others create the one a moment after the other.
    pub fn without_index_for(&self) -> Option<Duration> {
        let state = self.state();
        state.wal_created.filter(|_| !state.index_created).map(|created| created.elapsed())
    }

    /// Whether an app with `locking_mode = EXCLUSIVE` has closed the database: the `-wal` that followed is
    /// another one.
    pub fn wal_without_index(&self) -> bool {
        self.state().wal_without_index
    }

    /// Adds to, or asks for, the signs of an app that is kept out of its database.
    pub fn signs<T>(&self, work: impl FnOnce(&mut Signs) -> T) -> T {
        work(&mut self.state().signs)
    }

    pub fn suspect_lockout(&self) {
        self.lockout_suspected.notify_one();
    }

    /// Until there is a sign to be looked at closely.
    pub async fn lockout_suspected(&self) {
        self.lockout_suspected.notified().await;
    }

    /// Where the capture stands now. None: no session knows.
    pub fn set_capture(&self, capture: Option<CaptureState>) {
        self.state().capture = capture;
    }

    pub fn position(&self) -> Option<(Txid, DbChecksum)> {
        self.state().capture.as_ref().and_then(|capture| capture.uploaded)
    }

    /// Until the files are written.
    pub async fn stirred(&self) {
        self.stirred.notified().await;
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

    /// One more file of commits is in the replica.
    pub fn sent(&self, bytes: u64) {
        self.update(|status| {
            (status.bytes, status.uploads) = (status.bytes + bytes, status.uploads + 1);
            status.uploaded_at = Some(SystemTime::now());
            status.wal_grows = None;
        });
    }

    /// The files were written.
    pub fn written(&self) {
        self.update(|status| {
            status.written_at.get_or_insert_with(Instant::now);
        });
        self.stirred.notify_one();
    }

    /// What is committed is about to be looked at: what is written from now on belongs to the next look.
    pub fn capture_begins(&self) {
        let mut state = self.state();
        let written = state.status.written_at.take();
        state.looking = state.looking.into_iter().chain(written).min();
    }

    /// The look is over. `waits`: there is something that is not in the replica.
    pub fn capture_ended(&self, waits: bool) {
        let mut state = self.state();
        let looking = state.looking.take();
        let since = state.status.waiting_since;
        state.status.waiting_since = waits.then(|| since.or(looking).unwrap_or_else(Instant::now));
    }

    /// Everything captured is in the replica.
    pub fn caught_up(&self) {
        self.update(|status| status.waiting_since = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_the_captured_position() {
        let (this, next) = (Salts(7, 1), Salts(8, 2));
        for (end, captured, bytes) in [
            (None, None, 0),
            (None, Some((this, 5000)), 0),
            (Some((this, 32)), None, 0),
            (Some((this, 4152)), None, 4120),
            (Some((this, 9000)), Some((this, 5000)), 4000),
            (Some((this, 5000)), Some((this, 5000)), 0),
            (Some((this, 32)), Some((this, 5000)), 0),
            (Some((next, 4152)), Some((this, 5000)), 4120),
        ] {
            assert_eq!(uncaptured(end, captured), bytes, "{end:?} {captured:?}");
        }
    }

    #[test]
    fn an_app_without_a_wal_index_is_recognised_by_the_next_wal() {
        for (index_first, expected) in [(false, true), (true, false)] {
            let cell = StatusCell::default();
            cell.wal_created();
            if index_first {
                cell.index_created();
            }
            assert!(!cell.wal_without_index());
            // Ours, after the app has closed the database.
            cell.wal_created();
            cell.index_created();
            assert_eq!(cell.wal_without_index(), expected);
        }
    }

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
        cell.capture_begins();
        assert!(lag(&cell) >= first, "it is being looked at");
        // Committed while the look was under way.
        cell.written();
        let second = Instant::now();
        cell.capture_ended(true);
        assert!(lag(&cell) >= first);
        pause();
        cell.caught_up();
        let left = lag(&cell);
        assert!(
            left >= Duration::from_millis(2) && left <= second.elapsed() + Duration::from_millis(1),
            "{left:?}"
        );
        cell.capture_begins();
        cell.capture_ended(false);
        assert_eq!(lag(&cell), Duration::ZERO);
        // Found without a notification.
        cell.capture_begins();
        cell.capture_ended(true);
        pause();
        assert!(lag(&cell) >= Duration::from_millis(2));
        cell.update(|status| status.absent = true);
        assert_eq!(lag(&cell), Duration::ZERO);
    }
}

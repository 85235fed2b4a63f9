//! A session's work on the disk, in the order of a commit: capture, number (`send_queue`), record what is
//! sent and what has arrived, checkpoint. Blocks: `disk` runs it on threads of the blocking pool. Sends
//! nothing itself. What keeps the WAL within its limit is in `upload/limits` and `upload/spill_writer`.

use super::ReplicateSettings;
use super::capture::checkpoint::{self, CheckpointDecision, Situation};
use super::capture::{Capture, CaptureError};
use super::ledger::{LedgerEntry, Proof};
use super::resume_point::{First, ResumePoint};
use super::send_queue::{Pending, Queue, cursor, end_of, header, position};
use super::upload::Segment;
use super::upload::attempts::Tries;
use crate::lineage::{FileTimes, LocalState, Origin, SpillEnd, WalPosition, file_times, state_file};
use crate::local_state::spill;
use crate::model::log_throttle::LogThrottle;
use crate::model::{DbPath, Txid, TxidRange};
use crate::sqlite::{Missing, SqliteError, files};
use crate::store::layout::Level;
use crate::wal::Cursor;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Everything of a session that touches the disk.
pub struct DatabaseWriter {
    pub(super) db: DbPath,
    pub(super) capture: Capture,
    pub(super) queue: Queue,
    /// The newest position has no raw file yet.
    needs_level_0: bool,
    /// The first of the pending segments is being sent, and the upload reads its pages.
    pub sending: bool,
    /// The last capture stopped before the end of what was committed.
    pub behind: bool,
    /// The record of the newest uploaded position, as the state file has it.
    pub(super) acked: LocalState,
    /// When a checkpoint was tried last.
    pub(super) last_try: Instant,
    /// The WAL may be restarted, and nothing came since.
    pub(super) settled: Option<Cursor>,
    pub(super) tries: Tries,
    /// About checkpoints that fail, records that fail, and files that another program removed.
    pub(super) trouble: LogThrottle,
    unrecorded: LogThrottle,
    removed: LogThrottle,
    /// None: what is uploaded is not asked, or cannot be proven.
    proof: Option<Proof>,
}

impl DatabaseWriter {
    pub fn new(db: DbPath, replica: String, point: ResumePoint) -> Result<DatabaseWriter, CaptureError> {
        let ResumePoint {
            capture, node_id, uploaded, last_timestamp_ms, clock, first, needs_level_0, ..
        } = point;
        let app_locks_exclusively = point.app_locks_exclusively;
        let acked = LocalState {
            replica,
            node_id,
            acked: uploaded,
            sent: uploaded,
            tip_checksum: point.tip_checksum,
            page_size: capture.page_size(),
            wal: position(point.uploaded_at),
            wal_sent: WalPosition::default(),
            db_checksum: point.uploaded_checksum,
            file: None,
            spilled: point.spill_end,
            origin: Origin::Continued,
            app_locks_exclusively,
        };
        let mut queue = Queue {
            node_id,
            app_locks_exclusively,
            numbered: uploaded,
            last_timestamp_ms,
            clock,
            end: capture.cursor(),
            pending: VecDeque::new(),
        };
        for file in point.spilled {
            let recorded = point.spill_end.filter(|end| end.txid == file.txid());
            let end = recorded.map_or_else(|| end_of(&file.header), |end| end.wal);
            queue.push_spilled(file, end);
        }
        match first {
            First::Nothing => {}
            First::Snapshot(draft) => queue.number(draft, Level::SNAPSHOT, true)?,
            First::FullSnapshot(draft) => queue.number(draft, Level::RAW, true)?,
        }
        let last_try = Instant::now();
        let settled = None;
        let tries = Tries::of(&capture);
        let [trouble, unrecorded, removed] = std::array::from_fn(|_| LogThrottle::default());
        let behind = false;
        Ok(DatabaseWriter {
            db,
            capture,
            queue,
            needs_level_0,
            sending: false,
            behind,
            acked,
            last_try,
            settled,
            tries,
            trouble,
            unrecorded,
            removed,
            proof: None,
        })
    }

    /// Tells the ledger from now on what is uploaded.
    pub fn prove_to(&mut self, ledger: LedgerEntry) {
        let DatabaseWriter { db, capture, .. } = self;
        match capture.view().map(|view| view.map()) {
            Some(Ok(map)) => {
                self.proof = Some(Proof::begin(ledger, map, capture.named(), capture.page_size()))
            }
            Some(Err(error)) => tracing::warn!(%db, "what is uploaded cannot be proven: {error}"),
            None => tracing::warn!(%db, "what is uploaded cannot be proven: its -shm cannot be read"),
        }
    }

    /// Tells the ledger what is uploaded now.
    pub fn prove(&mut self) {
        let Some(proof) = &mut self.proof else { return };
        let sent = self.queue.pending.is_empty();
        let to = if sent { self.queue.end } else { cursor(self.acked.wal) };
        let all = sent && self.queue.end == self.capture.cursor() && self.capture.is_guarded();
        proof.update(to, all, || self.capture.in_force());
    }

    /// Whether the gate waits for what `prove` could not prove.
    pub fn is_awaited(&self) -> bool {
        self.proof.as_ref().is_some_and(Proof::is_open)
    }

    /// The newest raw file of the replica, if its newest position has one.
    pub fn raw_end(&self) -> Option<Txid> {
        Some(self.acked.acked).filter(|txid| *txid != Txid::NONE && !self.needs_level_0)
    }

    /// The segment that is sent now, or next.
    pub fn pending(&self) -> Option<Arc<Segment>> {
        self.queue.pending.front().map(|pending| Arc::clone(&pending.segment))
    }

    /// Captures what is committed, if nothing is on its way. False: there is nothing. `closely`: what an
    /// earlier look saw of an open transaction does not count.
    pub fn capture(&mut self, closely: bool) -> Result<bool, CaptureError> {
        if closely {
            self.capture.compare_everything();
        }
        match self.capture.missing() {
            None => {}
            // The app's open connections write on to it, and so do we read it. New ones find nothing of what
            // is in it until it is copied into the database, which the next checkpoint does.
            Some(what @ (Missing::Wal | Missing::Shm)) => self.say_removed(what),
            Some(missing) => {
                if missing == Missing::WalForAnother {
                    // What is in the old one alone would be in no file.
                    let DatabaseWriter { capture, queue, .. } = self;
                    let _ = capture.checkpoint(CheckpointDecision::Gentle, |draft| queue.push(draft));
                }
                return Err(self.capture.replaced(missing));
            }
        }
        // What is pending was captured earlier: there may be more.
        self.behind = !self.queue.pending.is_empty();
        if self.behind {
            return Ok(true);
        }
        if let Some(proof) = &mut self.proof {
            proof.before_capture();
        }
        // After an error nothing is known until the next session.
        self.capture_more().inspect_err(|_| self.proof = None)
    }

    /// Captures one draft, whatever is on its way. False: there is nothing.
    pub(super) fn capture_more(&mut self) -> Result<bool, CaptureError> {
        let next = match self.capture.next() {
            Err(CaptureError::Broken(why)) => {
                let draft = self.capture.compare()?;
                let pages = draft.pages.list.len();
                if pages > 0 {
                    self.capture.prove_sound()?;
                }
                if self.tries.compared.due(why) {
                    tracing::warn!(db = %self.db, pages, "{why}: the database was compared, what changed is \
                        uploaded");
                }
                Some(draft)
            }
            next => next?,
        };
        match next {
            Some(draft) => {
                self.behind = draft.full;
                self.queue.push(draft)?;
            }
            None if self.needs_level_0 && self.queue.pending.is_empty() => {
                self.queue.push(self.capture.empty())?
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    /// The app locks the whole database: a segment without pages tells the next start, if no other segment
    /// will.
    pub fn note_exclusive(&mut self) -> Result<(), CaptureError> {
        let noted = std::mem::replace(&mut self.queue.app_locks_exclusively, true);
        self.acked.app_locks_exclusively = true;
        if !noted {
            self.advance()?;
        }
        Ok(())
    }

    /// Gives the replica a new position, also if nothing is committed: a segment without pages.
    pub fn advance(&mut self) -> Result<(), CaptureError> {
        if !self.capture_more()? {
            self.queue.push(self.capture.empty())?;
        }
        Ok(())
    }

    /// The whole database at the newest position of the replica, if that is where it stands.
    pub fn snapshot(&mut self) -> Result<Option<Segment>, CaptureError> {
        if self.behind || !self.queue.pending.is_empty() || self.queue.numbered == Txid::NONE {
            return Ok(None);
        }
        let draft = match self.capture.snapshot() {
            // The next capture sees it too, and knows what to do.
            Err(CaptureError::Broken(_)) => return Ok(None),
            draft => draft?,
        };
        let Some(draft) = draft else { return Ok(None) };
        let range = TxidRange { min: Txid::FIRST, max: self.queue.numbered };
        let timestamp_ms = self.queue.timestamp();
        self.queue.last_timestamp_ms = timestamp_ms;
        let header = header(&draft, range, timestamp_ms, &self.queue);
        Ok(Some(Segment::of_any_size(Level::SNAPSHOT, header, draft.pages)?))
    }

    /// The next segment that is sent, and the newest raw file that it follows. None: nothing is left.
    pub fn send_next(&mut self) -> Option<(Arc<Segment>, Option<Txid>)> {
        let segment = self.pending()?;
        self.sending = true;
        self.record_sending();
        Some((segment, self.raw_end()))
    }

    /// Records that the next segment is about to be sent: if its reply gets lost with us, the next start
    /// knows it. False: it could not be.
    pub fn record_sending(&mut self) -> bool {
        let Some(next) = self.queue.pending.front() else { return true };
        let sent = next.segment.header.range.max;
        let file = self.file_times();
        let wal_sent = next.end;
        // What waited on the disk may be an earlier run's.
        let node_id = next.segment.header.node_id;
        self.record(&LocalState { node_id, sent, wal_sent, file, ..self.acked.clone() })
    }

    /// The first pending segment has arrived: its TXID. Its file in the spill directory goes; should it stay,
    /// the next start knows that it is in the replica.
    pub fn remove_sent(&mut self) -> Option<Txid> {
        let (txid, file) = self.arrived()?;
        if let Some(path) = file {
            let _ = spill::remove(&path);
        }
        Some(txid)
    }

    /// The first pending segment has arrived. Its TXID, and its file here, which may go.
    pub fn arrived(&mut self) -> Option<(Txid, Option<PathBuf>)> {
        let Pending { segment, end, db_checksum, spilled, .. } = self.queue.pending.pop_front()?;
        let txid = segment.header.range.max;
        self.sending = false;
        self.proof.iter_mut().for_each(Proof::arrived);
        self.needs_level_0 = segment.level != Level::RAW;
        self.acked = LocalState {
            node_id: segment.header.node_id,
            acked: txid,
            sent: txid,
            // Our node id in the newest file says whose it is; an earlier run's file is known by its
            // checksum.
            tip_checksum: spilled.as_ref().map(|file| file.checksum),
            wal: end,
            db_checksum,
            spilled: self.acked.spilled.filter(|end| end.txid > txid),
            ..self.acked.clone()
        };
        Some((txid, spilled.map(|file| file.path)))
    }

    /// An error, if something that is not SQLite wrote to the database file.
    pub fn prove_untouched(&mut self) -> Result<(), CaptureError> {
        self.capture.prove_untouched(false)
    }

    /// Bytes of the WAL up to the captured position.
    pub fn wal_bytes(&self) -> u64 {
        self.capture.wal_bytes()
    }

    /// Everything is copied into the database file and the WAL may be restarted, or was never written.
    pub fn settled(&self) -> bool {
        self.capture.cursor().is_none_or(|cursor| self.settled == Some(cursor))
    }

    /// Checkpoints when it is time to. `quiet`: nothing was written since the last upload.
    pub fn checkpoint(&mut self, settings: &ReplicateSettings, quiet: bool) -> Result<(), CaptureError> {
        let decision = checkpoint::decide(
            settings,
            Situation {
                wal_bytes: self.capture.wal_bytes(),
                all_uploaded: self.queue.pending.is_empty(),
                settled: self.settled(),
                quiet,
                since_try: self.last_try.elapsed(),
            },
        );
        if decision != CheckpointDecision::No {
            self.checkpoint_as(decision)?;
        }
        // Also in a pause of an app that is never quiet for long.
        if quiet || decision == CheckpointDecision::Gentle && self.settled() {
            self.cut_file(checkpoint::locked_from(settings));
        }
        Ok(())
    }

    /// Checkpoints as hard as `decision` says.
    pub fn checkpoint_as(&mut self, decision: CheckpointDecision) -> Result<(), CaptureError> {
        let begun = Instant::now();
        self.last_try = begun;
        let DatabaseWriter { capture, queue, .. } = self;
        let settled = match capture.checkpoint(decision, |draft| queue.push(draft)) {
            // The next capture sees it too, and knows what to do.
            Err(CaptureError::Broken(_)) => false,
            // A full disk, for one. The hold is where it was, or further; the WAL goes on growing.
            Err(CaptureError::Sqlite(error @ (SqliteError::Failed { .. } | SqliteError::Busy { .. }))) => {
                self.say_not_copied(&error);
                false
            }
            other => other?,
        };
        if settled {
            self.settled = self.capture.cursor();
        }
        tracing::debug!(db = %self.db, ?decision, settled, took = ?begun.elapsed(), "checkpoint");
        Ok(())
    }

    /// Lets go of the database, and removes its WAL if that is copied to its end and no other process has it
    /// open.
    pub fn close(mut self) {
        let finished = self.capture.finished_wal();
        if let Some(proof) = self.proof.take() {
            proof.close();
        }
        let db = self.db;
        drop(self.capture);
        let Some(finished) = finished else { return };
        match files::remove_sides_alone(&db, |wal| finished.is(wal)) {
            Ok(removed) => tracing::debug!(%db, removed, "closed"),
            Err(error) => tracing::debug!(%db, %error, "the -wal stays"),
        }
    }

    /// Records that everything is where it belongs.
    pub fn record_settled(&mut self) {
        self.record(&LocalState { file: self.file_times(), ..self.acked.clone() });
    }

    /// The database file as it looks now, and whether it is complete without its WAL.
    fn file_times(&self) -> Option<FileTimes> {
        let mut look = file_times(&self.db)?;
        // Only after the look: a later checkpoint changes the time again.
        if self.capture.copied() {
            look.modified_ns = 0;
        }
        Some(look)
    }

    fn say_removed(&mut self, what: Missing) {
        if self.removed.due(&what.to_string()) {
            tracing::error!(db = %self.db, "{what}: commits may get lost; restart the app");
        }
    }

    fn record(&mut self, state: &LocalState) -> bool {
        let stored = state_file::store(&self.db, state);
        if let Err(error) = &stored
            && self.unrecorded.due(&error.to_string())
        {
            tracing::warn!(db = %self.db, %error, "a restart on this disk will restore instead of going on");
        }
        stored.is_ok()
    }

    /// Where the spill directory ends, as things are.
    pub(super) fn spill_end(&self) -> Option<SpillEnd> {
        let last = self.queue.pending.iter().rev().find(|pending| pending.spilled.is_some())?;
        Some(SpillEnd { txid: last.segment.header.range.max, wal: last.end, db_checksum: last.db_checksum? })
    }
}

//! Replication of one database between two breaks of the chain: number what was captured, put it, record it, checkpoint.
//! The async part is `upload`; everything that reads or writes the disk is in `Work`, which blocks and runs elsewhere.

use super::ReplicateSettings;
use super::anchor::{Anchor, First};
use super::capture::{Capture, CaptureError, Draft};
use super::checkpoint::{self, Situation, Verdict};
use super::segment::SegmentError;
use super::upload::Segment;
use crate::local_state::{self, file_look};
use crate::ltx::Header;
use crate::model::lineage::{LocalState, WalPosition};
use crate::model::{DbChecksum, DbPath, Txid, TxidRange};
use crate::store::layout::Level;
use crate::wal::Cursor;
use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A segment on its way, and where the database stands once it has arrived.
struct Pending {
    segment: Segment,
    end: Option<Cursor>,
    db_checksum: DbChecksum,
}

/// Numbers drafts and queues them.
struct Queue {
    node_id: u64,
    /// Last number given to a segment.
    numbered: Txid,
    last_timestamp_ms: i64,
    /// In the order in which they must arrive.
    pending: VecDeque<Pending>,
}

impl Queue {
    /// The draft gets the next number, and one file on each of the levels.
    fn push(&mut self, draft: Draft, levels: &[Level]) -> Result<(), SegmentError> {
        let (txid, timestamp_ms) = (self.numbered.next(), self.timestamp());
        for level in levels {
            let min = if *level == Level::SNAPSHOT { Txid::FIRST } else { txid };
            let header = header(&draft, TxidRange { min, max: txid }, timestamp_ms, self.node_id);
            let segment = Segment::prepare(*level, header, draft.pages.clone())?;
            let (end, db_checksum) = (draft.end, draft.db_checksum);
            self.pending.push_back(Pending { segment, end, db_checksum });
        }
        self.numbered = txid;
        self.last_timestamp_ms = timestamp_ms;
        Ok(())
    }

    /// Wall clock, but never at or before the segment before: points in time are found by it.
    fn timestamp(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        i64::try_from(now).unwrap_or(i64::MAX).max(self.last_timestamp_ms.saturating_add(1))
    }
}

/// Everything of a session that touches the disk.
pub struct Work {
    db: DbPath,
    capture: Capture,
    queue: Queue,
    needs_level_0: bool,
    /// The last capture stopped before the end of what was committed.
    pub behind: bool,
    acked: LocalState,
    last_try: Instant,
    /// The WAL may be restarted, and nothing came since.
    settled: Option<Cursor>,
}

impl Work {
    pub fn new(db: DbPath, replica: String, anchor: Anchor) -> Result<Work, CaptureError> {
        let Anchor { capture, node_id, uploaded, last_timestamp_ms, first, needs_level_0, .. } = anchor;
        let acked = LocalState {
            replica,
            node_id,
            acked: uploaded,
            sent: uploaded,
            tip_checksum: anchor.tip_checksum,
            page_size: capture.page_size(),
            wal: position(anchor.uploaded_at),
            wal_sent: WalPosition::default(),
            db_checksum: anchor.uploaded_checksum,
            file: None,
        };
        let mut queue = Queue { node_id, numbered: uploaded, last_timestamp_ms, pending: VecDeque::new() };
        match first {
            First::Nothing => {}
            First::Snapshot(draft) => queue.push(draft, &[Level::SNAPSHOT])?,
            First::Image { draft, new_page_size: false } => queue.push(draft, &[Level::RAW])?,
            // Restores must start at the new page size at once: the snapshot goes first.
            First::Image { draft, new_page_size: true } => queue.push(draft, &[Level::SNAPSHOT, Level::RAW])?,
        }
        let (last_try, settled) = (Instant::now(), None);
        Ok(Work { db, capture, queue, needs_level_0, behind: false, acked, last_try, settled })
    }

    /// What is on its way next.
    pub fn pending(&self) -> Option<&Segment> {
        self.queue.pending.front().map(|pending| &pending.segment)
    }

    /// Captures what is committed, if nothing is on its way. False: there is nothing.
    pub fn capture(&mut self) -> Result<bool, CaptureError> {
        if !self.capture.in_place() {
            return Err(CaptureError::Replaced);
        }
        // What is pending was captured earlier: there may be more.
        self.behind = !self.queue.pending.is_empty();
        if self.behind {
            return Ok(true);
        }
        let next = match self.capture.next() {
            Err(CaptureError::Broken(why)) => {
                let draft = self.capture.compare()?;
                let pages = draft.pages.list.len();
                tracing::warn!(db = %self.db, pages, "{why}: the database was compared, what changed is uploaded");
                Some(draft)
            }
            next => next?,
        };
        match next {
            Some(draft) => {
                self.behind = draft.full;
                self.queue.push(draft, &[Level::RAW])?;
            }
            None if self.needs_level_0 => self.queue.push(self.capture.empty(), &[Level::RAW])?,
            None => return Ok(false),
        }
        Ok(true)
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
        let (range, timestamp_ms) = (TxidRange { min: Txid::FIRST, max: self.queue.numbered }, self.queue.timestamp());
        self.queue.last_timestamp_ms = timestamp_ms;
        let header = header(&draft, range, timestamp_ms, self.queue.node_id);
        Ok(Some(Segment::of_any_size(Level::SNAPSHOT, header, draft.pages)?))
    }

    /// Records that the next segment is about to be sent: if its reply gets lost with us, the next start knows it.
    pub fn record_sending(&self) {
        if let Some(next) = self.queue.pending.front() {
            let sent = next.segment.header.range.max;
            let (file, wal_sent) = (file_look(&self.db), position(next.end));
            self.record(&LocalState { sent, wal_sent, file, ..self.acked.clone() });
        }
    }

    /// The first pending segment has arrived. Its TXID.
    pub fn arrived(&mut self) -> Option<Txid> {
        let Pending { segment, end, db_checksum } = self.queue.pending.pop_front()?;
        let txid = segment.header.range.max;
        self.needs_level_0 = segment.level != Level::RAW;
        self.acked = LocalState {
            acked: txid,
            sent: txid,
            // From here on our node id in the newest file says whose it is.
            tip_checksum: None,
            wal: position(end),
            db_checksum: Some(db_checksum),
            ..self.acked.clone()
        };
        Some(txid)
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
        let verdict = checkpoint::decide(
            settings,
            Situation {
                wal_bytes: self.capture.wal_bytes(),
                all_uploaded: self.queue.pending.is_empty(),
                settled: self.settled(),
                quiet,
                since_try: self.last_try.elapsed(),
            },
        );
        if verdict == Verdict::No {
            return Ok(());
        }
        let begun = Instant::now();
        self.last_try = begun;
        let Work { capture, queue, .. } = self;
        let settled = match capture.checkpoint(verdict, |draft| queue.push(draft, &[Level::RAW])) {
            // The next capture sees it too, and knows what to do.
            Err(CaptureError::Broken(_)) => false,
            other => other?,
        };
        if settled {
            self.settled = self.capture.cursor();
        }
        tracing::debug!(db = %self.db, ?verdict, settled, took = ?begun.elapsed(), "checkpoint");
        Ok(())
    }

    /// Records that everything is where it belongs.
    pub fn record_settled(&self) {
        let mut file = file_look(&self.db);
        // Everything is copied: the file is complete without its WAL.
        if let Some(look) = file.as_mut().filter(|_| self.settled()) {
            look.modified_ns = 0;
        }
        self.record(&LocalState { file, ..self.acked.clone() });
    }

    fn record(&self, state: &LocalState) {
        if let Err(error) = local_state::store(&self.db, state) {
            tracing::warn!(db = %self.db, %error, "a restart on this disk will restore instead of going on");
        }
    }
}

fn header(draft: &Draft, range: TxidRange, timestamp_ms: i64, node_id: u64) -> Header {
    let mut header = Header::new(draft.pages.files.page_size, draft.commit, range, timestamp_ms);
    header.node_id = node_id;
    header.db_checksum = Some(draft.db_checksum);
    // What was not made from a WAL range says 32 and 0: 0 would make Litestream's sync fail for ever.
    header.wal_offset = crate::wal::HEADER as i64;
    if let Some(range) = draft.wal {
        header.wal_offset = i64::try_from(range.offset).unwrap_or(i64::MAX);
        header.wal_size = i64::try_from(range.size).unwrap_or(0);
        (header.salt1, header.salt2) = (range.salts.0, range.salts.1);
    }
    header
}

fn position(cursor: Option<Cursor>) -> WalPosition {
    cursor.map_or_else(WalPosition::default, |cursor| WalPosition {
        salt1: cursor.salts.0,
        salt2: cursor.salts.1,
        offset: cursor.offset,
        checksum: [cursor.sums.0, cursor.sums.1],
    })
}

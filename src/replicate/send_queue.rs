//! What was captured and is not uploaded yet: drafts get their numbers here, and are sent in this order.

use super::capture::Draft;
use super::capture::segment::SegmentError;
use super::maintenance::pace::believed_ms;
use super::upload::Segment;
use crate::lineage::{Spilled, WalPosition};
use crate::ltx::Header;
use crate::model::{DbChecksum, FileChecksum, Txid, TxidRange};
use crate::store::StoreClock;
use crate::store::layout::Level;
use crate::wal::format::Sums;
use crate::wal::{Cursor, Salts};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// A segment on its way, and where the database stands once it has arrived.
pub struct Pending {
    pub segment: Arc<Segment>,
    pub end: WalPosition,
    pub db_checksum: Option<DbChecksum>,
    /// It is in the spill directory.
    pub spilled: Option<OnDisk>,
    /// Of the whole database, from before segments of the WAL can be: nothing is lost with it.
    pub full_snapshot: bool,
}

pub struct OnDisk {
    pub path: PathBuf,
    pub bytes: u64,
    pub checksum: FileChecksum,
}

/// Numbers drafts and queues them.
pub struct Queue {
    pub node_id: u64,
    pub app_locks_exclusively: bool,
    /// Last number given to a segment.
    pub numbered: Txid,
    pub last_timestamp_ms: i64,
    pub clock: Option<Arc<StoreClock>>,
    /// Where in the WAL the last queued segment ends.
    pub end: Option<Cursor>,
    /// In the order in which they must arrive; those in the spill directory come first.
    pub pending: VecDeque<Pending>,
}

impl Queue {
    /// Numbers a draft from the WAL. It becomes a raw file.
    pub fn push(&mut self, draft: Draft) -> Result<(), SegmentError> {
        self.number(draft, Level::RAW, false)
    }

    /// Gives the draft the next TXID and queues it as one file of this level. A TXID is one file, which is
    /// created once: of two writers that give the same TXID, one is refused.
    pub fn number(&mut self, draft: Draft, level: Level, full_snapshot: bool) -> Result<(), SegmentError> {
        let txid = self.numbered.next();
        let timestamp_ms = self.timestamp();
        let min = if level == Level::SNAPSHOT { Txid::FIRST } else { txid };
        let header = header(&draft, TxidRange { min, max: txid }, timestamp_ms, self);
        let segment = Arc::new(Segment::prepare(level, header, draft.pages)?);
        let end = position(draft.end);
        let db_checksum = Some(draft.db_checksum);
        self.pending.push_back(Pending { segment, end, db_checksum, spilled: None, full_snapshot });
        self.numbered = txid;
        self.end = draft.end;
        self.last_timestamp_ms = timestamp_ms;
        Ok(())
    }

    /// Queues a file of the spill directory under the TXID that an earlier session gave it.
    pub fn push_spilled(&mut self, file: Spilled, end: WalPosition) {
        self.numbered = file.txid();
        let on_disk = OnDisk { path: file.path.clone(), bytes: file.bytes, checksum: file.checksum };
        let db_checksum = file.header.db_checksum;
        let segment = Arc::new(Segment::of_spilled(file));
        self.pending.push_back(Pending {
            segment,
            end,
            db_checksum,
            spilled: Some(on_disk),
            full_snapshot: false,
        });
    }

    /// The time that is believed, but never at or before the segment before: points in time are found by it.
    pub fn timestamp(&self) -> i64 {
        believed_ms(self.clock.as_deref()).max(self.last_timestamp_ms.saturating_add(1))
    }
}

pub fn header(draft: &Draft, range: TxidRange, timestamp_ms: i64, by: &Queue) -> Header {
    let mut header = Header::new(draft.pages.files.page_size, draft.commit, range, timestamp_ms);
    (header.node_id, header.app_locks_exclusively) = (by.node_id, by.app_locks_exclusively);
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

/// Where a file's range of the WAL ends, if it has one. The WAL's checksum there is not known.
pub fn end_of(header: &Header) -> WalPosition {
    let end = header.wal_offset.saturating_add(header.wal_size);
    let offset = if header.wal_size > 0 { u64::try_from(end).unwrap_or(0) } else { 0 };
    WalPosition { salt1: header.salt1, salt2: header.salt2, offset, checksum: [0; 2] }
}

pub fn position(cursor: Option<Cursor>) -> WalPosition {
    cursor.map_or_else(WalPosition::default, |cursor| WalPosition {
        salt1: cursor.salts.0,
        salt2: cursor.salts.1,
        offset: cursor.offset,
        checksum: [cursor.sums.0, cursor.sums.1],
    })
}

/// The inverse of `position`.
pub fn cursor(position: WalPosition) -> Option<Cursor> {
    let WalPosition { salt1, salt2, offset, checksum: [first, second] } = position;
    (offset != 0).then_some(Cursor { offset, salts: Salts(salt1, salt2), sums: Sums(first, second) })
}

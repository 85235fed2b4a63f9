//! The header of the wal-index as bytes: pure. Numbers are in the machine's byte order, salts as in the WAL.

use crate::model::PageSize;
use crate::wal::format::Sums;
use crate::wal::{Cursor, HEADER, Salts, frame_size};

/// Bytes of one of the two copies of the header.
pub(super) const INDEX_HEADER: usize = 48;
/// Where the number of copied frames stands, behind both copies.
pub(super) const COPIED_AT: usize = 2 * INDEX_HEADER;

/// The header that readers see. It changes with each commit, with each restart of the WAL and when the WAL is
/// emptied or recovered; not with a checkpoint that only copies frames. Two equal ones mean that nothing was
/// committed in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexHeader([u8; INDEX_HEADER]);

impl IndexHeader {
    /// None: there is none, or a writer is changing it.
    pub fn parse(bytes: &[u8]) -> Option<IndexHeader> {
        let (first, second) = bytes.get(..COPIED_AT)?.split_at_checked(INDEX_HEADER)?;
        let initialised = *first.get(12)? != 0;
        (first == second && initialised).then_some(IndexHeader(first.try_into().ok()?))
    }

    /// Where the last commit ends in the WAL. Offset `HEADER`: the WAL has no frames.
    pub fn end(&self, page_size: PageSize) -> Option<Cursor> {
        position(&self.0, page_size)
    }
}

/// Where the last commit ends, by one copy of the header.
pub(super) fn position(header: &[u8], page_size: PageSize) -> Option<Cursor> {
    let salts = Salts(u32::from_be(word(header, 32)?), u32::from_be(word(header, 36)?));
    let sums = Sums(word(header, 24)?, word(header, 28)?);
    Some(Cursor { offset: offset(word(header, 16)?, page_size), salts, sums })
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn offset(frames: u32, page_size: PageSize) -> u64 {
    HEADER + u64::from(frames) * frame_size(page_size)
}

//! The scanner: reads frames from a cursor on, one at a time, and keeps the newest version of each page of
//! the committed transactions. A frame that the salts and the running checksum do not prove ends the scan: it
//! is not written yet, or left over from an earlier WAL.

use super::cursor::{Cursor, Mark};
use super::format::{FRAME_HEADER, FrameHeader, Sums, WalHeader, frame_size};
use crate::model::{PageNo, page_checksum};
use std::collections::BTreeMap;

/// What one frame did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// Inside a transaction.
    Open,
    /// The frame closed a transaction.
    Commit,
    /// Not (yet) a frame of this WAL: the scan is over.
    End,
}

/// A version of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Offset of its bytes (behind the frame's header) in the WAL.
    pub at: u64,
    /// Its page checksum, of the very bytes that were proven to be a frame of this WAL.
    pub sum: u64,
}

/// Whole transactions, merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Newest version of each page. In page order, none above `commit`.
    pub pages: BTreeMap<PageNo, Version>,
    /// Database size in pages after the last transaction.
    pub commit: u32,
    /// Behind the last transaction.
    pub cursor: Cursor,
    /// The first frame of the last transaction: where the next one begins if no reader could see this one.
    /// None: there is no transaction.
    pub last: Option<Mark>,
}

/// What was proven of a transaction that is not committed yet: a large one is written for minutes, and need
/// not be proven from its beginning at every look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    from: Cursor,
    first: Mark,
    offset: u64,
    sums: Sums,
    pages: Vec<(PageNo, Version)>,
}

impl Open {
    pub fn begins_at(&self, cursor: Cursor) -> bool {
        self.from == cursor
    }

    /// Frames of it that were read.
    #[cfg(test)]
    pub fn frames(&self) -> usize {
        self.pages.len()
    }

    /// Its first frame: when that is another one now, the transaction was given up.
    pub fn first(&self) -> Mark {
        self.first
    }
}

pub struct Scanner {
    big_endian: bool,
    frame_size: u64,
    /// Behind the last frame that was proven, committed or not.
    offset: u64,
    sums: Sums,
    open: Vec<(PageNo, Version)>,
    /// Of the open transaction.
    first: Option<Mark>,
    committed: Committed,
}

impl Scanner {
    /// Scans on from `cursor` in the WAL that `header` describes; `commit` is the database's size there, in
    /// pages.
    pub fn new(header: &WalHeader, cursor: Cursor, commit: u32) -> Scanner {
        Scanner {
            big_endian: header.big_endian_sums,
            frame_size: frame_size(header.page_size),
            offset: cursor.offset,
            sums: cursor.sums,
            open: Vec::new(),
            first: None,
            committed: Committed { pages: BTreeMap::new(), commit, cursor, last: None },
        }
    }

    /// The same, behind what was proven of the transaction there.
    pub fn resume(header: &WalHeader, open: Open, commit: u32) -> Scanner {
        let Open { from, first, offset, sums, pages } = open;
        Scanner { offset, sums, open: pages, first: Some(first), ..Scanner::new(header, from, commit) }
    }

    /// Offset of the next frame to feed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Pages of the committed transactions so far: what a segment of them would hold.
    pub fn pages(&self) -> usize {
        self.committed.pages.len()
    }

    /// Takes the whole frame at `offset()`. After `End` nothing more may be fed.
    pub fn feed(&mut self, frame: &[u8]) -> Fed {
        let Some((header, page)) = self.prove(frame) else { return Fed::End };
        let here = Mark { offset: self.offset, salts: header.salts, sums: header.sums };
        self.first.get_or_insert(here);
        let at = self.offset + FRAME_HEADER as u64;
        self.open.push((header.page, Version { at, sum: page_checksum(header.page, page) }));
        self.offset += self.frame_size;
        self.sums = header.sums;
        if header.commit == 0 {
            return Fed::Open;
        }
        self.commit(header.commit);
        Fed::Commit
    }

    fn prove<'a>(&self, frame: &'a [u8]) -> Option<(FrameHeader, &'a [u8])> {
        let header = FrameHeader::parse(frame)?;
        let page = frame.get(FRAME_HEADER..self.frame_size as usize)?;
        let sums = self.sums.over(frame.get(..8)?, self.big_endian).over(page, self.big_endian);
        let sound = header.salts == self.committed.cursor.salts && header.sums == sums && header.page.0 != 0;
        sound.then_some((header, page))
    }

    fn commit(&mut self, commit: u32) {
        self.committed.pages.extend(self.open.drain(..));
        // A transaction that shrinks the database drops the pages behind its new end, also those of earlier
        // ones.
        self.committed.pages.split_off(&PageNo(commit.saturating_add(1)));
        self.committed.commit = commit;
        self.committed.cursor.offset = self.offset;
        self.committed.cursor.sums = self.sums;
        self.committed.last = self.first.take();
    }

    /// The committed transactions. What was fed of an open one is forgotten.
    pub fn finish(self) -> Committed {
        self.committed
    }

    /// The committed transactions, and what was fed of an open one.
    pub fn suspend(self) -> (Committed, Option<Open>) {
        let Scanner { offset, sums, open: pages, first, committed, .. } = self;
        let from = committed.cursor;
        let open = first.map(|first| Open { from, first, offset, sums, pages });
        (committed, open)
    }
}

#[cfg(test)]
mod tests;

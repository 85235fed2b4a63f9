//! The position in the WAL up to which everything is captured, with the checksum that proves that the next
//! frame continues it.

use super::format::{FrameHeader, HEADER, Salts, Sums, WalHeader};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Byte offset of the next frame; at least 32. Always behind a commit.
    pub offset: u64,
    pub salts: Salts,
    pub sums: Sums,
}

/// What the present header of the WAL says about a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorState {
    /// The same WAL: frames continue at the cursor.
    Here,
    /// A writer has restarted the WAL once: the frames before the cursor were captured and checkpointed; the
    /// new ones begin at this cursor.
    Restarted(Cursor),
    /// The WAL was restarted more than once. Under a hold that was in force all the time nothing was written
    /// in between.
    Counted(Cursor),
    /// Another file, or begun with new salts, as SQLite does when the WAL was emptied by another connection
    /// than the one that writes next.
    Lost,
}

/// After at most this many restarts, which increment the first salt, a WAL still counts as the same one.
const RESTARTS: u32 = 1 << 16;

impl Cursor {
    /// The beginning of a WAL with this header.
    pub fn start(header: &WalHeader) -> Cursor {
        Cursor { offset: HEADER, salts: header.salts, sums: header.sums }
    }

    pub fn state_in(&self, header: &WalHeader) -> CursorState {
        if header.salts == self.salts {
            CursorState::Here
        } else if header.salts.0 == self.salts.0.wrapping_add(1) {
            // SQLite counts the first salt up by one at each restart; a new file begins at random.
            CursorState::Restarted(Cursor::start(header))
        } else if (2..RESTARTS).contains(&header.salts.0.wrapping_sub(self.salts.0)) {
            CursorState::Counted(Cursor::start(header))
        } else {
            CursorState::Lost
        }
    }

    /// Where frames continue in the same WAL. Nothing is captured at its beginning, and a header can be
    /// written twice: a transaction that is rolled back may be the first to write it, and the next writer
    /// writes it with the same salts and its own count of checkpoints, so that the sums differ.
    pub fn continued_in(self, header: &WalHeader) -> Cursor {
        if self.offset == HEADER { Cursor::start(header) } else { self }
    }

    /// The last captured frame; None at the WAL's beginning.
    pub fn last_frame(&self, frame_size: u64) -> Option<Mark> {
        let offset = self.offset.checked_sub(frame_size).filter(|offset| *offset >= HEADER)?;
        Some(Mark { offset, salts: self.salts, sums: self.sums })
    }
}

/// A frame that was read. Another frame is at its offset if a writer failed after it had written a whole
/// transaction and before it published it, or rolled one back, and the next writer wrote over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of the frame's header.
    pub offset: u64,
    pub salts: Salts,
    pub sums: Sums,
}

impl Mark {
    /// Whether the bytes at its offset are still that frame.
    pub fn is(&self, frame: &FrameHeader) -> bool {
        frame.salts == self.salts && frame.sums == self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PageSize;

    fn header(first: u32, second: u32) -> WalHeader {
        WalHeader {
            big_endian_sums: false,
            page_size: PageSize::new(512).unwrap(),
            salts: Salts(first, second),
            sums: Sums(3, 4),
        }
    }

    #[test]
    fn the_salts_tell_what_happened() {
        let cursor = Cursor { offset: 568, salts: Salts(u32::MAX, 7), sums: Sums(1, 2) };
        assert_eq!(cursor.state_in(&header(u32::MAX, 7)), CursorState::Here);
        let restarted = header(0, 99);
        assert_eq!(cursor.state_in(&restarted), CursorState::Restarted(Cursor::start(&restarted)));
        let twice = header(1, 7);
        assert_eq!(cursor.state_in(&twice), CursorState::Counted(Cursor::start(&twice)));
        for (first, second) in [(u32::MAX - 1, 7), (u32::MAX, 8), (123_456, 7)] {
            assert_eq!(cursor.state_in(&header(first, second)), CursorState::Lost, "{first} {second}");
        }
    }

    #[test]
    fn only_the_beginning_takes_the_sums_of_a_header_that_was_written_twice() {
        let again = header(1, 1);
        let cursor = Cursor { offset: 568, salts: Salts(1, 1), sums: Sums(1, 2) };
        assert_eq!(cursor.continued_in(&again), cursor);
        assert_eq!(Cursor { offset: HEADER, ..cursor }.continued_in(&again), Cursor::start(&again));
    }

    #[test]
    fn last_frame_exists_only_behind_one() {
        let mut cursor = Cursor { offset: 568, salts: Salts(1, 1), sums: Sums(1, 2) };
        assert_eq!(cursor.last_frame(536), Some(Mark { offset: 32, salts: cursor.salts, sums: cursor.sums }));
        cursor.offset = 32;
        assert_eq!(cursor.last_frame(536), None);
    }
}

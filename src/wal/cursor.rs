//! Where in the WAL everything before has been captured, with what is needed to prove that the next frame continues it.

use super::format::{FrameHeader, HEADER, Salts, Sums, WalHeader};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Byte offset of the next frame; at least 32. Always behind a commit.
    pub offset: u64,
    pub salts: Salts,
    pub sums: Sums,
}

/// What the WAL's present header says about a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The same WAL: frames continue at the cursor.
    Here,
    /// A writer started over from the beginning, once: the frames behind the cursor are gone because they were
    /// captured and checkpointed; the new ones begin at this cursor.
    Restarted(Cursor),
    /// More than one restart, or another file: frames may have been lost in between.
    Lost,
}

impl Cursor {
    /// The beginning of a WAL with this header.
    pub fn start(header: &WalHeader) -> Cursor {
        Cursor { offset: HEADER, salts: header.salts, sums: header.sums }
    }

    pub fn place(&self, header: &WalHeader) -> Place {
        if header.salts == self.salts {
            Place::Here
        } else if header.salts.0 == self.salts.0.wrapping_add(1) {
            // SQLite counts the first salt up by one at each restart; a new file begins at random.
            Place::Restarted(Cursor::start(header))
        } else {
            Place::Lost
        }
    }

    /// The last captured frame; None at the WAL's beginning.
    pub fn last_frame(&self, frame_size: u64) -> Option<Mark> {
        let offset = self.offset.checked_sub(frame_size).filter(|offset| *offset >= HEADER)?;
        Some(Mark { offset, salts: self.salts, sums: self.sums })
    }
}

/// A frame that was read. Another one stands there when a writer failed after it had written a whole transaction and
/// before anybody could see it, or gave one up, and the next one wrote over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of the frame's header.
    pub offset: u64,
    pub salts: Salts,
    pub sums: Sums,
}

impl Mark {
    /// Whether what is found there is still that frame.
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
        assert_eq!(cursor.place(&header(u32::MAX, 7)), Place::Here);
        let restarted = header(0, 99);
        assert_eq!(cursor.place(&restarted), Place::Restarted(Cursor::start(&restarted)));
        for (first, second) in [(1, 7), (u32::MAX, 8), (12345, 7)] {
            assert_eq!(cursor.place(&header(first, second)), Place::Lost, "{first} {second}");
        }
    }

    #[test]
    fn last_frame_exists_only_behind_one() {
        let mut cursor = Cursor { offset: 568, salts: Salts(1, 1), sums: Sums(1, 2) };
        assert_eq!(cursor.last_frame(536), Some(Mark { offset: 32, salts: cursor.salts, sums: cursor.sums }));
        cursor.offset = 32;
        assert_eq!(cursor.last_frame(536), None);
    }
}

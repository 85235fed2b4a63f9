//! How files are cut into requests: pure. Small pieces at first, so that a slow connection can transfer each
//! one within the request's deadline; larger ones while they arrive quickly.

use crate::replica::RemoteFile;
use std::ops::Range;
use std::time::Duration;

const SMALLEST: u64 = 64 << 10;
const FIRST: u64 = 256 << 10;
/// Stores that keep objects in chunks of their own answer small ranges at a multiple of the cost.
const LARGEST: u64 = 10 << 20;
/// Long pieces end at a multiple of this: the usual part of an upload, which such a store reads as a whole.
const PART: u64 = 5 << 20;
/// What may be on the way or waiting to be applied: bounds memory, whatever the number of requests.
const BUDGET: u64 = 24 << 20;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which file of the plan.
    pub file: usize,
    /// None: the whole object, whatever its length is by now.
    pub range: Option<Range<u64>>,
    /// As the listing has it.
    pub bytes: u64,
    /// The file ends here.
    pub last: bool,
}

/// Hands out the pieces of some files, one file after the other.
#[derive(Debug)]
pub struct Cutter {
    sizes: Vec<u64>,
    file: usize,
    at: u64,
    piece: u64,
}

impl Cutter {
    pub fn new(files: &[RemoteFile]) -> Cutter {
        Cutter { sizes: files.iter().map(|file| file.size).collect(), file: 0, at: 0, piece: FIRST }
    }

    /// Whether everything was handed out.
    pub fn is_done(&self) -> bool {
        self.file >= self.sizes.len()
    }

    /// The next piece, if memory allows it beside the `out` bytes that are on the way or not used up. A first
    /// one always is allowed.
    pub fn next(&mut self, out: u64) -> Option<Piece> {
        let size = *self.sizes.get(self.file)?;
        let start = self.at;
        // A rest that is hardly worth a request of its own comes along.
        let end = if size - start <= self.piece + self.piece / 4 {
            size
        } else {
            self.part_end(start + self.piece)
        };
        let bytes = end - start;
        if out > 0 && out + bytes > BUDGET {
            return None;
        }
        let file = self.file;
        let last = end == size;
        (self.file, self.at) = if last { (file + 1, 0) } else { (file, end) };
        Some(Piece { file, range: (start > 0 || !last).then_some(start..end), bytes, last })
    }

    fn part_end(&self, end: u64) -> u64 {
        if self.piece < PART { end } else { end - end % PART }
    }

    /// A piece of so many bytes has come after `time`.
    pub fn learn(&mut self, bytes: u64, time: Duration) {
        if bytes < self.piece / 2 {
            return; // the end of a file says nothing about the line
        }
        if time < Duration::from_secs(1) {
            self.piece = (self.piece * 2).min(LARGEST);
        } else if time > Duration::from_secs(4) {
            self.piece = (self.piece / 2).max(SMALLEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Txid, TxidRange};
    use crate::store::layout::Level;

    fn cutter(sizes: &[u64]) -> Cutter {
        let file = |size: &u64| {
            let range = TxidRange::single(Txid(1));
            RemoteFile { key: String::new(), level: Level(0), range, size: *size, modified_ms: 0 }
        };
        Cutter::new(&sizes.iter().map(file).collect::<Vec<_>>())
    }

    #[test]
    fn pieces_cover_every_file_in_order_without_overlap() {
        for sizes in
            [&[][..], &[0], &[1, 0, FIRST, 3 * FIRST + 7], &[100 << 20], &[FIRST * 5 / 4, FIRST * 5 / 4 + 1]]
        {
            let (mut at, mut file) = (0, 0);
            let mut cutter = cutter(sizes);
            while let Some(piece) = cutter.next(0) {
                assert_eq!(piece.file, file);
                match &piece.range {
                    None => assert!(piece.last && at == 0),
                    Some(range) => {
                        assert!(range.start == at && range.end > at && range.end - at <= LARGEST * 5 / 4);
                        at = range.end;
                        assert_eq!(piece.last, at == sizes[file]);
                    }
                }
                if piece.last {
                    (file, at) = (file + 1, 0);
                }
                cutter.learn(piece.bytes, Duration::ZERO);
            }
            assert!(file == sizes.len() && cutter.is_done());
        }
    }

    #[test]
    fn what_is_on_the_way_is_bounded() {
        let mut cutter = cutter(&[64 << 20, 1 << 30, 10]);
        let mut out = 0;
        while let Some(piece) = cutter.next(out) {
            out += piece.bytes;
        }
        assert_eq!(out, BUDGET);
        cutter.learn(FIRST, Duration::from_millis(1));
        assert_eq!(cutter.next(out - FIRST), None, "the next one is twice as large");
        assert_eq!(cutter.next(out - 2 * FIRST).map(|piece| piece.bytes), Some(2 * FIRST));
        // One piece is always allowed.
        let mut cutter = Cutter { piece: 2 * BUDGET, ..cutter };
        assert_eq!(cutter.next(1), None);
        assert!(cutter.next(0).is_some_and(|piece| piece.bytes > BUDGET));
    }

    #[test]
    fn long_pieces_end_where_the_parts_of_an_upload_do() {
        let mut cutter = Cutter { piece: LARGEST, ..cutter(&[100 << 20]) };
        cutter.at = 7 << 20;
        let ends: Vec<u64> =
            std::iter::from_fn(|| cutter.next(0)?.range).map(|range| range.end >> 20).collect();
        assert_eq!(ends, [15, 25, 35, 45, 55, 65, 75, 85, 95, 100]);
    }

    #[test]
    fn the_size_follows_the_line() {
        let mut cutter = cutter(&[1 << 30]);
        let mut length = |bytes, ms| {
            cutter.learn(bytes, Duration::from_millis(ms));
            cutter.next(0).and_then(|piece| piece.range).map(|range| range.end - range.start).unwrap()
        };
        assert_eq!(length(0, 0), FIRST);
        assert_eq!(length(FIRST, 100), 2 * FIRST);
        assert_eq!(length(100, 1), 2 * FIRST);
        assert_eq!(length(2 * FIRST, 2000), 2 * FIRST);
        assert_eq!(length(2 * FIRST, 9000), FIRST);
        for _ in 0..10 {
            length(LARGEST, 9000);
        }
        assert_eq!(length(LARGEST, 2000), SMALLEST);
        for _ in 0..10 {
            length(LARGEST, 9);
        }
        assert_eq!(length(LARGEST, 9), LARGEST);
    }
}

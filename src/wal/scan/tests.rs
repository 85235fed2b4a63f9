//! The scanner against WAL files built frame by frame.

use super::*;
use crate::wal::format::{HEADER, Salts};
use proptest::prelude::*;

const PAGE: usize = 512;

/// Builds a WAL as SQLite writes it.
struct Wal {
    bytes: Vec<u8>,
    sums: Sums,
    salts: Salts,
    big_endian: bool,
}

impl Wal {
    fn new(salts: Salts, big_endian: bool) -> Wal {
        let mut bytes = Vec::new();
        let magic = if big_endian { 0x377f_0683u32 } else { 0x377f_0682 };
        for word in [magic, 3_007_000, PAGE as u32, 0, salts.0, salts.1] {
            bytes.extend(word.to_be_bytes());
        }
        let sums = Sums(0, 0).over(&bytes, big_endian);
        bytes.extend(sums.0.to_be_bytes());
        bytes.extend(sums.1.to_be_bytes());
        Wal { bytes, sums, salts, big_endian }
    }

    fn frame(mut self, page: u32, commit: u32, fill: u8) -> Wal {
        let mut frame = Vec::new();
        frame.extend(page.to_be_bytes());
        frame.extend(commit.to_be_bytes());
        let data = [fill; PAGE];
        self.sums = self.sums.over(&frame, self.big_endian).over(&data, self.big_endian);
        for word in [self.salts.0, self.salts.1, self.sums.0, self.sums.1] {
            frame.extend(word.to_be_bytes());
        }
        self.bytes.extend(frame);
        self.bytes.extend(data);
        self
    }

    fn scan(&self) -> (Committed, usize) {
        scan_from(&self.bytes, None)
    }
}

fn scan_from(bytes: &[u8], cursor: Option<Cursor>) -> (Committed, usize) {
    let header = WalHeader::parse(bytes).unwrap();
    let mut scanner = Scanner::new(&header, cursor.unwrap_or(Cursor::start(&header)), 0);
    let mut fed = 0;
    loop {
        let start = scanner.offset() as usize;
        let end = bytes.len().min(start + PAGE + FRAME_HEADER);
        if scanner.feed(&bytes[start.min(end)..end]) == Fed::End {
            return (scanner.finish(), fed);
        }
        fed += 1;
    }
}

#[test]
fn keeps_the_newest_version_of_each_page_of_whole_transactions() {
    for big_endian in [false, true] {
        let wal =
            Wal::new(Salts(1, 2), big_endian).frame(1, 0, 1).frame(2, 2, 2).frame(2, 2, 3).frame(1, 0, 4);
        let (committed, fed) = wal.scan();
        assert_eq!(fed, 4);
        let size = (PAGE + FRAME_HEADER) as u64;
        let version = |page: u32, frame: u64, fill: u8| {
            let at = HEADER + frame * size + FRAME_HEADER as u64;
            (PageNo(page), Version { at, sum: page_checksum(PageNo(page), &[fill; PAGE]) })
        };
        assert_eq!(committed.pages, BTreeMap::from([version(1, 0, 1), version(2, 2, 3)]));
        assert_eq!((committed.commit, committed.cursor.offset), (2, HEADER + 3 * size));
    }
}

#[test]
fn a_later_scan_continues_at_the_cursor() {
    let wal = Wal::new(Salts(1, 2), false).frame(1, 1, 1);
    let (first, _) = wal.scan();
    let wal = wal.frame(2, 2, 2);
    let (second, fed) = scan_from(&wal.bytes, Some(first.cursor));
    assert_eq!((fed, second.pages.len(), second.commit), (1, 1, 2));
}

#[test]
fn frames_of_an_earlier_wal_are_not_read() {
    let old = Wal::new(Salts(7, 9), false).frame(1, 1, 1).frame(2, 2, 2).frame(3, 3, 3);
    let new = Wal::new(Salts(8, 3), false).frame(4, 4, 4);
    let mut bytes = old.bytes.clone();
    bytes[..new.bytes.len()].copy_from_slice(&new.bytes);
    let (committed, fed) = scan_from(&bytes, None);
    assert_eq!((fed, committed.pages.keys().copied().collect::<Vec<_>>()), (1, vec![PageNo(4)]));
}

#[test]
fn pages_behind_a_shrink_are_dropped_and_regrowth_counts_again() {
    let wal = Wal::new(Salts(1, 2), false).frame(1, 0, 1).frame(5, 5, 1).frame(1, 2, 2);
    assert_eq!(wal.scan().0.pages.keys().copied().collect::<Vec<_>>(), vec![PageNo(1)]);
    let wal = wal.frame(3, 3, 3);
    assert_eq!(wal.scan().0.pages.keys().copied().collect::<Vec<_>>(), vec![PageNo(1), PageNo(3)]);
}

#[test]
fn a_header_that_is_torn_or_foreign_is_none() {
    let wal = Wal::new(Salts(1, 2), false).bytes;
    assert!(WalHeader::parse(&wal[..31]).is_none());
    for at in 0..24 {
        let mut bad = wal.clone();
        bad[at] ^= 1;
        assert!(WalHeader::parse(&bad).is_none(), "byte {at}");
    }
}

proptest! {
    /// Whatever prefix of a WAL is on disk, and whichever byte is damaged, the scan never invents a
    /// transaction: what it yields is exactly the transactions that are whole and undamaged from the start.
    #[test]
    fn any_prefix_and_any_damage_yield_only_whole_transactions(
        frames in prop::collection::vec((1u32..6, prop::bool::ANY, any::<u8>()), 1..20),
        cut in 0usize..20_000,
        flip in prop::option::of(0usize..20_000),
    ) {
        let mut wal = Wal::new(Salts(10, 20), false);
        for (page, commit, fill) in &frames {
            wal = wal.frame(*page, if *commit { 5 } else { 0 }, *fill);
        }
        let size = PAGE + FRAME_HEADER;
        let mut bytes = wal.bytes.clone();
        bytes.truncate(cut.max(32));
        let mut sound = (bytes.len() - 32) / size;
        if let Some(flip) = flip.filter(|at| (32..bytes.len()).contains(at)) {
            bytes[flip] ^= 0x40;
            sound = sound.min((flip - 32) / size);
        }
        let (committed, fed) = scan_from(&bytes, None);
        prop_assert_eq!(fed, sound);
        let last = frames.iter().take(sound).rposition(|frame| frame.1).map_or(0, |at| at + 1);
        prop_assert_eq!(committed.cursor.offset as usize, 32 + last * size);
        let mut expected = BTreeMap::new();
        for (at, (page, _, fill)) in frames.iter().take(last).enumerate() {
            let (page, at) = (PageNo(*page), (32 + at * size + FRAME_HEADER) as u64);
            expected.insert(page, Version { at, sum: page_checksum(page, &[*fill; PAGE]) });
        }
        prop_assert_eq!(committed.pages, expected);
    }
}

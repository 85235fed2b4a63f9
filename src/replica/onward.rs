//! Which files lead from the position of a local database to a later one: pure.
//!
//! A file may be applied to a database at TXID N if it begins at or before N + 1 and ends after N. It holds
//! the newest version of every page that was changed in its range, and the size at its end. A page that was
//! changed after N is in it, as it is at its end. A page that was last changed at or before N is the same in
//! the database and at the end of the file, whether the file holds it or not. So the database is that of the
//! file's end.

use super::listing::RemoteFile;
use crate::model::Txid;
use std::cmp::Reverse;

/// A request costs about as much as so many bytes.
const REQUEST_BYTES: u64 = 64 << 10;

/// What a listing has for a database at some position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Onward {
    /// The replica ends where the database stands, or no file leads on within the limit.
    UpToDate,
    /// To be applied in this order. The last one ends at the wanted position, or at the newest.
    Files(Vec<RemoteFile>),
    /// This file ends later, and no file leads there.
    Gap(RemoteFile),
    /// The replica ends before the database.
    Behind { end: Txid },
}

/// The way from `from` to the end of `files`, or to `until`: of all ways the one with the fewest bytes.
pub fn onward(files: &[RemoteFile], from: Txid, until: Option<Txid>) -> Onward {
    let end = files.iter().map(|file| file.range.max).max().unwrap_or_default();
    let wanted = until.map_or(end, |until| until.min(end));
    let mut later: Vec<&RemoteFile> =
        files.iter().filter(|file| file.range.max > from && file.range.max <= wanted).collect();
    later.sort_by_key(|file| (file.range.max, Reverse(file.range.min)));
    let ways = ways(&later, from);
    match ways.last() {
        Some(last) if last.end == wanted && wanted > from => Onward::Files(path(&later, &ways)),
        _ if end < from => Onward::Behind { end },
        _ => match files.iter().filter(|file| file.range.max > from).min_by_key(|file| file.range) {
            None => Onward::UpToDate,
            // The position that is wanted may still come.
            Some(_) if wanted <= from => Onward::UpToDate,
            Some(beyond) => Onward::Gap(beyond.clone()),
        },
    }
}

/// The cheapest way to a position.
struct Way {
    end: Txid,
    cost: u64,
    /// The last file of the way, and the way to where that is applied; None: the beginning.
    last: Option<(usize, usize)>,
}

/// Each position that can be reached from `from`, in their order. `later`: by their ends.
fn ways(later: &[&RemoteFile], from: Txid) -> Vec<Way> {
    let mut ways = vec![Way { end: from, cost: 0, last: None }];
    for (at, file) in later.iter().enumerate() {
        // From here on a position is one that the file can be applied to, unless it is the file's own end.
        let first = ways.partition_point(|way| way.end.next() < file.range.min);
        let begins = ways.iter().enumerate().skip(first).filter(|(_, way)| way.end < file.range.max);
        let Some((before, cost)) = begins.map(|(index, way)| (index, way.cost)).min_by_key(|(_, cost)| *cost)
        else {
            continue;
        };
        let cost = cost.saturating_add(file.size).saturating_add(REQUEST_BYTES);
        let way = Way { end: file.range.max, cost, last: Some((at, before)) };
        match ways.last_mut() {
            Some(last) if last.end == way.end && last.cost <= way.cost => {}
            Some(last) if last.end == way.end => *last = way,
            _ => ways.push(way),
        }
    }
    ways
}

fn path(later: &[&RemoteFile], ways: &[Way]) -> Vec<RemoteFile> {
    let mut files = Vec::new();
    let mut way = ways.last();
    while let Some((file, before)) = way.and_then(|way| way.last) {
        files.extend(later.get(file).map(|file| (*file).clone()));
        way = ways.get(before);
    }
    files.reverse();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TxidRange;
    use crate::store::layout::Level;

    const KIB: u64 = 1 << 10;

    fn file(level: u8, min: u64, max: u64, size: u64) -> RemoteFile {
        let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
        RemoteFile { key: format!("{level}/{range}"), level: Level(level), range, size, modified_ms: 0 }
    }

    fn raw(txids: std::ops::RangeInclusive<u64>) -> Vec<RemoteFile> {
        txids.map(|txid| file(0, txid, txid, KIB)).collect()
    }

    /// (level, min, max) of each file of the way.
    fn way(files: &[RemoteFile], from: u64, until: Option<u64>) -> Vec<(u8, u64, u64)> {
        match onward(files, Txid(from), until.map(Txid)) {
            Onward::Files(files) => {
                files.iter().map(|file| (file.level.0, file.range.min.0, file.range.max.0)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn raw_files_that_follow_each_other() {
        assert_eq!(way(&raw(1..=9), 6, None), [(0, 7, 7), (0, 8, 8), (0, 9, 9)]);
        assert_eq!(way(&raw(1..=9), 6, Some(8)), [(0, 7, 7), (0, 8, 8)]);
        assert_eq!(way(&raw(1..=9), 6, Some(99)), [(0, 7, 7), (0, 8, 8), (0, 9, 9)], "as far as there is");
        assert_eq!(onward(&raw(1..=9), Txid(9), None), Onward::UpToDate);
        assert_eq!(onward(&raw(1..=9), Txid(9), Some(Txid(9))), Onward::UpToDate);
        assert_eq!(onward(&raw(1..=9), Txid(9), Some(Txid(4))), Onward::UpToDate);
        assert_eq!(onward(&raw(1..=9), Txid(10), None), Onward::Behind { end: Txid(9) });
        assert_eq!(onward(&[], Txid(1), None), Onward::Behind { end: Txid(0) });
    }

    #[test]
    fn merged_files_lead_on_where_raw_ones_are_gone() {
        let mut files = raw(8..=9);
        assert_eq!(onward(&files, Txid(6), None), Onward::Gap(files[0].clone()));
        // It begins before the database's position: what it holds of that is there already.
        files.push(file(1, 4, 7, 90 * KIB));
        assert_eq!(way(&files, 6, None), [(1, 4, 7), (0, 8, 8), (0, 9, 9)]);
        assert_eq!(way(&files, 3, None), [(1, 4, 7), (0, 8, 8), (0, 9, 9)]);
        assert_eq!(onward(&files, Txid(2), None), Onward::Gap(files[2].clone()));
        // Of two ways the one with fewer bytes; a request has its price, too.
        files.push(file(2, 1, 9, 900 * KIB));
        assert_eq!(way(&files, 6, None), [(1, 4, 7), (0, 8, 8), (0, 9, 9)]);
        files.push(file(2, 5, 9, 150 * KIB));
        assert_eq!(way(&files, 6, None), [(2, 5, 9)]);
        assert_eq!(way(&files, 6, Some(8)), [(1, 4, 7), (0, 8, 8)]);
        // A snapshot leads from everywhere to its position.
        let snapshot = file(9, 1, 9, 9000 * KIB);
        assert_eq!(way(std::slice::from_ref(&snapshot), 6, None), [(9, 1, 9)]);
        assert_eq!(way(&[snapshot, file(0, 10, 10, KIB)], 6, None), [(9, 1, 9), (0, 10, 10)]);
    }

    #[test]
    fn a_position_inside_a_file_is_not_reached() {
        let files = [file(1, 4, 7, KIB), file(0, 8, 8, KIB)];
        assert_eq!(onward(&files, Txid(5), Some(Txid(6))), Onward::Gap(files[0].clone()));
        assert_eq!(way(&files, 5, Some(7)), [(1, 4, 7)]);
    }

    /// The cheapest way never costs more than any other, and each of its files can be applied.
    #[test]
    fn every_way_can_be_gone() {
        let mut random = 7u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % below
        };
        let (mut found, mut gaps) = (0, 0);
        for _ in 0..2000 {
            let files: Vec<_> = (0..next(9) + 1)
                .map(|_| {
                    let min = next(8) + 1;
                    file(next(4) as u8, min, min + next(5), KIB * (next(200) + 1))
                })
                .collect();
            let (from, until) = (next(9) + 1, next(4));
            let until = (until > 0).then(|| Txid(from + until));
            let end = files.iter().map(|file| file.range.max).max().unwrap();
            match onward(&files, Txid(from), until) {
                Onward::Files(way) => {
                    let mut at = Txid(from);
                    for file in &way {
                        assert!(file.range.min <= at.next() && file.range.max > at);
                        at = file.range.max;
                    }
                    assert_eq!(at, until.map_or(end, |until| until.min(end)));
                    found += 1;
                }
                Onward::Gap(file) => {
                    assert!(file.range.max > Txid(from));
                    gaps += 1;
                }
                Onward::Behind { end: ended } => assert!(ended == end && end < Txid(from)),
                Onward::UpToDate => assert!(end == Txid(from)),
            }
        }
        assert!(found > 300 && gaps > 100, "{found} {gaps}");
    }
}

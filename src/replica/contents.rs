//! What can be restored from a replica, by its listing: pure. Snapshots, files per level, restorable ranges
//! of positions, gaps, and Litestream 0.3's generations.

use super::clocks::mark;
use super::listing::{Listing, RemoteFile};
use super::moment::Times;
use super::plan::{Target, plan};
use crate::ltx::{HEADER_BYTES, TRAILER_BYTES};
use crate::model::{Moment, Txid, TxidRange};
use crate::store::layout::Level;
use crate::v3::{self, Generation, Part};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub snapshots: Vec<Snapshot>,
    pub levels: Vec<LevelSum>,
    /// Oldest first. Each position in one is reached from the one before.
    pub ranges: Vec<RestorableRange>,
    pub generations: Vec<V3Sum>,
    /// What is wrong, ready to print.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub txid: Txid,
    pub time: Moment,
    pub bytes: u64,
    /// What is wrong with the time; empty: nothing that is known.
    pub mark: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelSum {
    pub level: Level,
    pub files: usize,
    pub bytes: u64,
    pub range: TxidRange,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorableRange {
    pub first: (Txid, Moment),
    pub last: (Txid, Moment),
    /// What is wrong with the last time; empty: nothing that is known.
    pub mark: &'static str,
    /// Positions that `--txid` can name.
    pub points: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V3Sum {
    pub generation: Generation,
    pub snapshots: usize,
    pub segments: usize,
    pub bytes: u64,
    pub first: Moment,
    pub last: Moment,
}

/// `times` are those that headers have told; for the rest the listing's are taken. `now_ms`: this machine's
/// time.
pub fn contents(listing: &Listing, times: &Times, now_ms: i64) -> Contents {
    let files = &listing.files;
    let time = |file: &RemoteFile| Moment(times.get(&file.key).copied().unwrap_or(file.modified_ms));
    let mut snapshots: Vec<&RemoteFile> = files.iter().filter(|file| file.level == Level::SNAPSHOT).collect();
    snapshots.sort_by_key(|file| file.range.max);
    let marked = |file: &RemoteFile| mark(time(file).0, file.modified_ms, now_ms);
    let snapshot = |file: &&RemoteFile| Snapshot {
        txid: file.range.max,
        time: time(file),
        bytes: file.size,
        mark: marked(file),
    };
    let mut ranges = restorable(files, &time);
    for range in &mut ranges {
        // Of the file that gave the position its time.
        let ends = files.iter().filter(|file| file.range.max == range.last.0);
        range.mark = ends.min_by_key(|file| time(file)).map_or("", marked);
    }
    Contents {
        snapshots: snapshots.iter().map(snapshot).collect(),
        levels: levels(files),
        ranges,
        generations: v3::plan::generations(&listing.v3).iter().map(v3_sum).collect(),
        problems: problems(listing),
    }
}

/// The files whose headers make it exact: the snapshots, and what ends where a range begins or ends.
pub fn dated(listing: &Listing) -> Vec<RemoteFile> {
    let ends: Vec<Txid> = restorable(&listing.files, &|_| Moment(0))
        .iter()
        .flat_map(|range| [range.first.0, range.last.0])
        .collect();
    let wanted = |file: &&RemoteFile| file.level == Level::SNAPSHOT || ends.contains(&file.range.max);
    listing.files.iter().filter(wanted).cloned().collect()
}

fn levels(files: &[RemoteFile]) -> Vec<LevelSum> {
    let mut sums: BTreeMap<Level, LevelSum> = BTreeMap::new();
    for file in files {
        let level = file.level;
        let range = file.range;
        let sum = sums.entry(level).or_insert(LevelSum { level, files: 0, bytes: 0, range });
        sum.files += 1;
        sum.bytes += file.size;
        sum.range = TxidRange { min: sum.range.min.min(range.min), max: sum.range.max.max(range.max) };
    }
    sums.into_values().collect()
}

/// The ranges alone, without marks.
pub fn restorable(files: &[RemoteFile], time: &impl Fn(&RemoteFile) -> Moment) -> Vec<RestorableRange> {
    let mut by_end: BTreeMap<Txid, Vec<&RemoteFile>> = BTreeMap::new();
    files.iter().for_each(|file| by_end.entry(file.range.max).or_default().push(file));
    let mut ranges: Vec<RestorableRange> = Vec::new();
    for (end, files) in by_end {
        // The newest position before it leads here if any does.
        let before = ranges.last().map(|range| range.last.0);
        let follows = |file: &RemoteFile| before.is_some_and(|before| file.range.min <= before.next());
        let starts = files.iter().any(|file| file.range.min == Txid::FIRST);
        let goes_on = files.iter().any(|file| follows(file) && file.level < Level::SNAPSHOT);
        let at = files.iter().map(|file| time(file)).min().unwrap_or(Moment(0));
        match ranges.last_mut() {
            Some(range) if goes_on || starts && range.last.0.next() >= end => {
                (range.last, range.points) = ((end, at), range.points + 1);
            }
            _ if starts => {
                ranges.push(RestorableRange { first: (end, at), last: (end, at), mark: "", points: 1 })
            }
            _ => {}
        }
    }
    ranges
}

fn v3_sum(known: &v3::V3Generation) -> V3Sum {
    let snapshots = known.files.iter().filter(|file| file.name.part == Part::Snapshot).count();
    V3Sum {
        generation: known.generation,
        snapshots,
        segments: known.files.len() - snapshots,
        bytes: known.files.iter().map(|file| file.size).sum(),
        first: Moment(known.created_ms),
        last: Moment(known.updated_ms),
    }
}

fn problems(listing: &Listing) -> Vec<String> {
    let mut problems = Vec::new();
    let least = (HEADER_BYTES + TRAILER_BYTES) as u64;
    for file in listing.files.iter().filter(|file| file.size < least) {
        problems.push(format!("{} has {} bytes: it cannot be whole", file.key, file.size));
    }
    if !listing.files.is_empty()
        && let Err(error) = plan(&listing.files, Target::Latest)
    {
        problems.push(error.to_string());
    }
    if !listing.v3.is_empty()
        && let Err(error) = v3::plan::plan(&listing.v3, None)
    {
        problems.push(error.to_string());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Object;
    use crate::store::layout::Layout;

    const NOW: i64 = 1_800_000_000_000;

    fn listing(files: &[(u8, u64, u64)]) -> Listing {
        let object = |(level, min, max): &(u8, u64, u64)| Object {
            key: Layout::Directory.key(Level(*level), TxidRange::new(Txid(*min), Txid(*max)).unwrap()),
            size: 200,
            modified_ms: *max as i64 * 100,
        };
        Listing::of(Layout::Directory, &files.iter().map(object).collect::<Vec<_>>())
    }

    #[test]
    fn ranges_break_where_no_chain_leads_on() {
        for (files, expected, problems) in [
            (vec![], vec![], 0),
            (vec![(9, 1, 1), (0, 2, 2), (0, 3, 3)], vec![(1, 3, 3)], 0),
            (vec![(9, 1, 1), (1, 2, 5), (0, 4, 4), (0, 5, 5), (0, 6, 6)], vec![(1, 6, 3)], 0),
            // 4 to 8 are lost; the snapshot of 9 goes on.
            (vec![(9, 1, 1), (0, 2, 2), (0, 3, 3), (9, 1, 9), (0, 10, 10)], vec![(1, 3, 3), (9, 10, 2)], 0),
            (vec![(9, 1, 2), (0, 4, 4)], vec![(2, 2, 1)], 1),
            (vec![(0, 4, 4)], vec![], 1),
            (vec![(9, 1, 1), (0, 2, 2), (9, 1, 2), (0, 3, 3)], vec![(1, 3, 3)], 0),
        ] {
            let listing = listing(&files);
            let found = contents(&listing, &Times::new(), NOW);
            let ranges: Vec<_> =
                found.ranges.iter().map(|range| (range.first.0.0, range.last.0.0, range.points)).collect();
            assert_eq!(ranges, expected, "{files:?}");
            assert_eq!(found.problems.len(), problems, "{:?}", found.problems);
            assert_eq!(found.levels.iter().map(|level| level.files).sum::<usize>(), files.len());
        }
    }

    #[test]
    fn every_point_of_a_range_can_be_restored() {
        let listing = listing(&[
            (9, 1, 1),
            (1, 2, 5),
            (0, 4, 4),
            (0, 5, 5),
            (0, 6, 6),
            (9, 1, 6),
            (2, 2, 6),
            (0, 8, 8),
        ]);
        let found = contents(&listing, &Times::new(), NOW);
        let reachable =
            (1..=9).filter(|txid| plan(&listing.files, Target::Txid(Txid(*txid))).is_ok()).count();
        assert_eq!(found.ranges.iter().map(|range| range.points).sum::<usize>(), reachable);
        let asked = dated(&listing);
        assert!(
            asked.iter().filter(|file| file.level == Level::SNAPSHOT).count() == 2 && asked.len() == 4,
            "{asked:?}"
        );
        let times = asked.iter().map(|file| (file.key.clone(), 7)).collect();
        let exact = contents(&listing, &times, NOW);
        assert_eq!((exact.ranges[0].first.1, exact.snapshots[1].time), (Moment(7), Moment(7)));
        assert!(exact.ranges.iter().all(|range| range.mark.is_empty()), "nothing is wrong with them");
        let ahead = asked.iter().map(|file| (file.key.clone(), NOW + 86_400_000)).collect();
        let marked = contents(&listing, &ahead, NOW);
        assert!(marked.ranges.iter().all(|range| range.mark.starts_with("in the future")), "{marked:?}");
        assert!(
            marked.snapshots.iter().all(|snapshot| snapshot.mark.starts_with("in the future")),
            "{marked:?}"
        );
    }
}

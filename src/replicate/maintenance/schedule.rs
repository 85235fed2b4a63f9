//! What is merged next, and when a new snapshot is due: pure. Litestream's rules: everything happens at
//! multiples of its interval in UTC, and level n takes up all files of level n-1 that follow its own newest
//! one. Ours beside them: never across a hole; the first snapshot is not dragged along; what holds no page
//! waits for what does.

use super::inventory::{File, Inventory};
use crate::model::Txid;
use crate::store::layout::Level;
use std::time::Duration;

/// Files of one merge at most: each costs memory while it lasts. What is left over is merged next, at once.
const INPUTS: usize = 64;

/// Something to do now, or not before a time (Unix milliseconds), or not until something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due<T> {
    Now(T),
    At(i64),
    Never,
}

impl<T> Due<T> {
    pub fn at(self) -> Option<i64> {
        match self {
            Due::At(at) => Some(at),
            Due::Now(_) | Due::Never => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// That the merged file will be on.
    pub level: Level,
    pub inputs: Vec<File>,
}

/// The next merge. Lower levels go first: what they make is taken up by the higher ones in the same turn.
pub fn merge(inventory: &Inventory, levels: &[Duration], now_ms: i64) -> Due<Job> {
    let mut soonest = None;
    for (level, interval) in (1..=8).map(Level).zip(levels) {
        let inputs = inputs(inventory, level);
        let Some(first) = inputs.iter().find(|file| file.has_pages()) else { continue };
        let at = multiple_after(first.since_ms, millis(*interval));
        if at <= now_ms {
            return Due::Now(Job { level, inputs });
        }
        soonest = soonest.into_iter().chain([at]).min();
    }
    soonest.map_or(Due::Never, Due::At)
}

/// Files of the level below that go on from where `level` ends.
fn inputs(inventory: &Inventory, level: Level) -> Vec<File> {
    let end =
        inventory.level(level).rev().find(|file| !file.damaged).map_or(Txid::NONE, |file| file.range.max);
    let covered = inventory.newest(Level::SNAPSHOT).map_or(Txid::NONE, |file| file.range.max);
    let below = Level(level.0.saturating_sub(1));
    let dragged_along = |file: &&File| file.is_base() && file.range.max <= covered;
    let usable = inventory.after(below, end).filter(|file| !file.damaged && !dragged_along(file));
    let mut candidates: Vec<File> = usable.take(4 * INPUTS).copied().collect();
    candidates.sort_unstable_by_key(|file| file.range);
    let mut chain: Vec<File> = Vec::new();
    for file in candidates {
        let follows = match chain.last() {
            Some(last) if file.range.max <= last.range.max => continue,
            Some(last) => file.range.min <= last.range.max.next(),
            // A hole that a snapshot covers is none that a restore has to cross.
            None => end == Txid::NONE || file.range.min <= end.next() || file.range.min <= covered.next(),
        };
        if !follows || chain.len() == INPUTS {
            break;
        }
        chain.push(file);
    }
    chain
}

/// Whether a snapshot is due: at the first multiple of the interval that is not just after the last one (a
/// replica that was begun before midnight does not get its second copy at midnight), if anything was written
/// since.
pub fn snapshot(inventory: &Inventory, interval: Duration, now_ms: i64) -> Due<()> {
    let Some(base) = inventory.base() else { return Due::Never };
    let written = (0..=8).any(|level| inventory.after(Level(level), base.range.max).any(File::has_pages));
    if !written {
        return Due::Never;
    }
    let interval = millis(interval);
    let at = multiple_after(base.since_ms.saturating_add(interval / 2).saturating_sub(1), interval);
    if at <= now_ms { Due::Now(()) } else { Due::At(at) }
}

pub fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn multiple_after(ms: i64, interval: i64) -> i64 {
    ms.div_euclid(interval).saturating_add(1).saturating_mul(interval)
}

#[cfg(test)]
mod tests {
    use super::super::inventory::sample::{file, inventory};
    use super::*;

    const LEVELS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(1000)];

    fn next(files: &[(u8, u64, u64, i64)], now: i64) -> Due<(u8, Vec<(u64, u64)>)> {
        match merge(&inventory(files), &LEVELS, now) {
            Due::Now(Job { level, inputs }) => {
                Due::Now((level.0, inputs.iter().map(|file| (file.range.min.0, file.range.max.0)).collect()))
            }
            Due::At(at) => Due::At(at),
            Due::Never => Due::Never,
        }
    }

    #[test]
    fn merges_at_aligned_instants_lower_levels_first() {
        let fresh = [(9, 1, 1, 10), (0, 2, 2, 20), (0, 3, 3, 150)];
        for (files, now, expected) in [
            (&[][..], 9999, Due::Never),
            (&[(9, 1, 1, 10)], 9999, Due::Never),
            (&fresh, 99, Due::At(100)),
            // Everything that is there, also what came after the instant; the snapshot stays where it is.
            (&fresh, 160, Due::Now((1, vec![(2, 2), (3, 3)]))),
            (&[(0, 2, 2, 100)], 150, Due::At(200)),
            (&[(9, 1, 1, 10), (1, 2, 3, 150), (0, 3, 3, 150)], 160, Due::At(1000)),
            (&[(9, 1, 1, 10), (1, 2, 3, 150), (0, 4, 4, 990)], 995, Due::At(1000)),
            (&[(9, 1, 1, 10), (1, 2, 3, 150), (0, 4, 4, 990)], 1000, Due::Now((1, vec![(4, 4)]))),
            (&[(9, 1, 1, 10), (1, 2, 3, 150), (1, 4, 4, 990)], 1000, Due::Now((2, vec![(2, 3), (4, 4)]))),
            (&[(9, 1, 1, 10), (2, 2, 4, 990), (1, 4, 4, 990), (0, 4, 4, 990)], 9999, Due::Never),
            // Without a snapshot the first full snapshot is merged like anything else.
            (&[(0, 1, 1, 0), (0, 2, 2, 0)], 160, Due::Now((1, vec![(1, 1), (2, 2)]))),
            (&[(9, 1, 1, 0), (0, 1, 1, 0), (0, 2, 2, 0)], 160, Due::Now((1, vec![(2, 2)]))),
            // Litestream's levels begin with it.
            (&[(9, 1, 1, 0), (1, 1, 1, 0), (0, 1, 1, 0), (0, 2, 2, 0)], 160, Due::Now((1, vec![(2, 2)]))),
            (&[(9, 1, 1, 0), (1, 1, 4, 0), (0, 4, 4, 0), (0, 5, 5, 0)], 160, Due::Now((1, vec![(5, 5)]))),
        ] {
            assert_eq!(next(files, now), expected, "{files:?} at {now}");
        }
    }

    #[test]
    fn never_across_a_hole_that_no_snapshot_covers() {
        for (files, expected) in [
            (&[(9, 1, 1, 0), (1, 2, 3, 0), (0, 5, 5, 0)][..], Due::At(1000)),
            (&[(9, 1, 3, 0), (1, 2, 3, 0), (0, 5, 5, 0)], Due::At(1000)),
            (&[(9, 1, 4, 0), (1, 2, 3, 0), (0, 5, 5, 0)], Due::Now((1, vec![(5, 5)]))),
            (
                &[(9, 1, 9, 0), (1, 2, 3, 0), (0, 5, 5, 0), (0, 6, 6, 0), (0, 8, 8, 0)],
                Due::Now((1, vec![(5, 5), (6, 6)])),
            ),
            (&[(9, 1, 1, 0), (0, 2, 2, 0), (0, 4, 4, 0)], Due::Now((1, vec![(2, 2)]))),
            // Overlaps are none; what lies within another adds nothing.
            (
                &[(9, 1, 1, 0), (1, 2, 5, 0), (0, 4, 6, 0), (0, 5, 6, 0), (0, 6, 9, 0)],
                Due::Now((1, vec![(4, 6), (6, 9)])),
            ),
        ] {
            assert_eq!(next(files, 160), expected, "{files:?}");
        }
    }

    #[test]
    fn what_holds_no_page_waits_and_what_is_damaged_is_left_out() {
        let empty = File { size: 131, ..file(0, 2, 2, 0) };
        let mut all = inventory(&[(9, 1, 1, 0)]);
        all.add(empty);
        assert_eq!(merge(&all, &LEVELS, 9999), Due::Never);
        all.add(file(0, 3, 3, 9950));
        assert_eq!(merge(&all, &LEVELS, 9999), Due::At(10_000));
        assert_eq!(
            merge(&all, &LEVELS, 10_000),
            Due::Now(Job { level: Level(1), inputs: vec![empty, file(0, 3, 3, 9950)] })
        );
        all.add(file(0, 4, 4, 9960));
        all.mark_damaged(Level::RAW, file(0, 3, 3, 0).range);
        assert_eq!(merge(&all, &LEVELS, 10_000), Due::Never, "2-2 leads nowhere");
        assert_eq!(merge(&all, &[], 10_000), Due::Never);
    }

    #[test]
    fn a_backlog_is_merged_in_parts() {
        let mut all = inventory(&[(9, 1, 1, 0)]);
        (2..=200).for_each(|txid| all.add(file(0, txid, txid, 0)));
        let Due::Now(job) = merge(&all, &LEVELS, 160) else { panic!("due") };
        assert_eq!((job.inputs.len(), job.inputs[63].range.max), (INPUTS, Txid(65)));
        all.add(file(1, 2, 65, 0));
        let Due::Now(job) = merge(&all, &LEVELS, 160) else { panic!("due at once") };
        assert_eq!(job.inputs[0].range.min, Txid(66));
    }

    #[test]
    fn snapshots_come_at_aligned_instants_when_something_was_written() {
        let due = |files: &[(u8, u64, u64, i64)], now| {
            snapshot(&inventory(files), Duration::from_millis(1000), now)
        };
        for (files, now, expected) in [
            (&[][..], 9999, Due::Never),
            (&[(9, 1, 5, 100)], 9999, Due::Never),
            (&[(9, 1, 5, 100), (0, 5, 5, 100), (1, 2, 5, 100)], 9999, Due::Never),
            (&[(9, 1, 5, 100), (0, 6, 6, 200)], 999, Due::At(1000)),
            (&[(9, 1, 5, 100), (0, 6, 6, 200)], 1000, Due::Now(())),
            (&[(9, 1, 5, 500), (0, 6, 6, 600)], 700, Due::At(1000)),
            // Just before an instant: the next but one.
            (&[(9, 1, 5, 501), (0, 6, 6, 600)], 1000, Due::At(2000)),
            (&[(9, 1, 5, 999), (1, 2, 6, 999)], 1000, Due::At(2000)),
            (&[(9, 1, 5, 1000), (0, 6, 6, 1000)], 1001, Due::At(2000)),
            // A replica that begins with a raw file of Litestream's.
            (&[(0, 1, 1, 100), (0, 2, 2, 100)], 1000, Due::Now(())),
        ] {
            assert_eq!(due(files, now), expected, "{files:?} at {now}");
        }
        let mut idle = inventory(&[(9, 1, 1, 100)]);
        idle.add(File { size: 131, ..file(0, 2, 2, 100) });
        assert_eq!(
            snapshot(&idle, Duration::from_millis(1000), 9999),
            Due::Never,
            "an empty segment is no write"
        );
    }
}

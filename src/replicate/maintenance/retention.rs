//! What is deleted next, in which order, and why: pure. Nothing goes that is not replaced: a snapshot by a
//! newer one that is itself older than the window of states that are promised, files of levels by that
//! snapshot, raw files by the merged one that holds them. Snapshots that a tier keeps stay beside it. The
//! newest file of a level stays (raw: Litestream would start over at TXID 1 without one).

use super::inventory::{File, Inventory};
use super::schedule::millis;
use super::tiers;
use crate::model::{Txid, TxidRange};
use crate::replicate::settings::Retention;
use crate::store::layout::Level;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Every state that is promised is after this snapshot.
    Superseded(Txid),
    /// A file of level 1 holds it, and both are old enough.
    Merged(TxidRange),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Superseded(base) => {
                write!(f, "every state of the retention can be restored from the snapshot at {base}")
            }
            Reason::Merged(into) => write!(f, "it is merged into {into}, and old enough"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub level: Level,
    pub range: TxidRange,
    pub reason: Reason,
}

impl Deletion {
    /// The file that must be there for it.
    pub fn replaced_by(&self) -> (Level, TxidRange) {
        match self.reason {
            Reason::Superseded(base) => (Level::SNAPSHOT, TxidRange { min: Txid::FIRST, max: base }),
            Reason::Merged(into) => (Level(1), into),
        }
    }
}

/// What to delete now, each group when the one before is gone; and when there may be more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub groups: Vec<Vec<Deletion>>,
    pub next_ms: Option<i64>,
}

/// Files of one request at most.
const GROUP: usize = 500;

pub fn expired(inventory: &Inventory, retention: &Retention, now_ms: i64) -> Expired {
    let cutoff = now_ms.saturating_sub(millis(retention.snapshots));
    let snapshots = || inventory.level(Level::SNAPSHOT).filter(|file| file.is_base() && !file.damaged);
    let base =
        snapshots().rev().find(|file| file.since_ms <= cutoff).map_or(Txid::NONE, |file| file.range.max);
    let younger = snapshots().filter(|file| file.range.max > base).map(|file| file.since_ms);
    let promised = younger.min().map(|since| since.saturating_add(millis(retention.snapshots)));
    // Without their base the files that build on it restore nothing; without them it would restore an older
    // state than was asked for. So what a restore can begin with goes first, the oldest first, one at a time.
    let kept = tiers::kept(&snapshots().copied().collect::<Vec<_>>(), &retention.tiers);
    let (bases, mut rest) = superseded(inventory, base, |range| kept.contains_key(range));
    let (raw, raw_next) = raw(inventory, retention, base, now_ms);
    rest.extend(raw);
    let groups =
        bases.into_iter().map(|base| vec![base]).chain(rest.chunks(GROUP).map(<[_]>::to_vec)).collect();
    Expired { groups, next_ms: promised.into_iter().chain(raw_next).min() }
}

/// Everything above level 0 that the snapshot at `base` replaces, but for the snapshots that are kept: what a
/// restore can begin with, and the rest.
fn superseded(
    inventory: &Inventory,
    base: Txid,
    is_kept: impl Fn(&TxidRange) -> bool,
) -> (Vec<Deletion>, Vec<Deletion>) {
    let mut bases = Vec::new();
    let mut rest = Vec::new();
    for level in (1..=9).map(Level) {
        let newest = inventory.newest(level).map(|file| file.range);
        for file in inventory.level(level).take_while(|file| file.range.max <= base) {
            let deletion = Deletion { level, range: file.range, reason: Reason::Superseded(base) };
            match (level == Level::SNAPSHOT, file.is_base()) {
                (true, _) if file.range.max < base && !is_kept(&file.range) => bases.push(deletion),
                (true, _) => {}
                (false, true) => bases.push(deletion),
                (false, false) if newest != Some(file.range) => rest.push(deletion),
                (false, false) => {}
            }
        }
    }
    bases.sort_by_key(|deletion| deletion.range.max);
    rest.sort_by_key(|deletion| (deletion.range.max, deletion.level));
    (bases, rest)
}

/// Raw files, the oldest first, up to the first one that is too young.
fn raw(
    inventory: &Inventory,
    retention: &Retention,
    base: Txid,
    now_ms: i64,
) -> (Vec<Deletion>, Option<i64>) {
    let mut found = Vec::new();
    let Some(newest) = inventory.newest(Level::RAW) else { return (found, None) };
    let merged = inventory.newest(Level(1)).map_or(Txid::NONE, |file| file.range.max);
    let old_at = |file: &File| file.since_ms.saturating_add(millis(retention.raw));
    for file in inventory.level(Level::RAW).take_while(|file| file.range.max <= merged.max(base)) {
        if file.range == newest.range {
            break;
        }
        // The raw files of one merged file go together: until then each of their states can be restored.
        let (reason, at) = match (file.range.max <= base, holder(inventory, file)) {
            (true, _) => (Reason::Superseded(base), old_at(file)),
            (false, Some(holder)) => (Reason::Merged(holder.range), old_at(file).max(old_at(holder))),
            (false, None) => continue,
        };
        if at > now_ms {
            return (found, Some(at));
        }
        found.push(Deletion { level: Level::RAW, range: file.range, reason });
    }
    (found, None)
}

/// A file of level 1 that a raw one was merged into.
fn holder<'a>(inventory: &'a Inventory, raw: &File) -> Option<&'a File> {
    let before = Txid(raw.range.max.0.saturating_sub(1));
    inventory.after(Level(1), before).find(|file| !file.damaged && file.range.min <= raw.range.min)
}

#[cfg(test)]
mod tests {
    use super::super::inventory::sample::{file, inventory};
    use super::*;
    use crate::replicate::settings::Tiers;
    use std::time::Duration;

    /// Level, first and last TXID of what goes, in groups.
    type Groups = Vec<Vec<(u8, u64, u64)>>;

    const NONE: Tiers = Tiers { hourly: 0, daily: 0, weekly: 0, monthly: 0 };
    const RETENTION: Retention =
        Retention { snapshots: Duration::from_millis(1000), raw: Duration::from_millis(100), tiers: NONE };

    fn next(files: &[(u8, u64, u64, i64)], now: i64) -> (Groups, Option<i64>) {
        let Expired { groups, next_ms } = expired(&inventory(files), &RETENTION, now);
        let names =
            |group: Vec<Deletion>| group.iter().map(|d| (d.level.0, d.range.min.0, d.range.max.0)).collect();
        (groups.into_iter().map(names).collect(), next_ms)
    }

    #[test]
    fn snapshots_are_a_window_with_a_base() {
        let none = Groups::new();
        assert_eq!(next(&[], 9999), (none.clone(), None));
        assert_eq!(next(&[(9, 1, 1, 0)], 9999), (none.clone(), None), "never the newest");
        let three = [(9, 1, 1, 0), (9, 1, 5, 500), (9, 1, 9, 900)];
        for (now, gone, at) in [
            (600, none.clone(), Some(1000)),
            // The oldest is the base of the window's beginning.
            (1000, none.clone(), Some(1500)),
            (1500, vec![vec![(9, 1, 1)]], Some(1900)),
            (1900, vec![vec![(9, 1, 1)], vec![(9, 1, 5)]], None),
        ] {
            assert_eq!(next(&three, now), (gone, at), "{now}");
        }
        // What a clock in disorder says.
        assert_eq!(next(&[(9, 1, 1, 9000), (9, 1, 5, 500)], 1600), (vec![vec![(9, 1, 1)]], None));
    }

    #[test]
    fn what_a_tier_keeps_stays_and_all_that_is_built_on_it_goes() {
        let hour = 3_600_000;
        let files = [
            (9, 1, 1, 0),
            (9, 1, 2, hour - 1),
            (9, 1, 4, hour),
            (9, 1, 9, 5 * hour),
            (1, 3, 4, hour),
            (1, 5, 8, 2 * hour),
            (1, 9, 9, 5 * hour),
            (0, 9, 9, 5 * hour),
        ];
        let tiers = |hourly, daily| Retention { tiers: Tiers { hourly, daily, ..NONE }, ..RETENTION };
        let next = |retention: &Retention| {
            let gone = expired(&inventory(&files), retention, 6 * hour).groups.concat();
            gone.iter().map(|deletion| (deletion.level.0, deletion.range.max.0)).collect::<Vec<_>>()
        };
        let rest = [(1, 4), (1, 8)];
        for (retention, snapshots) in [
            (RETENTION, &[(9, 1), (9, 2), (9, 4)][..]),
            (tiers(1, 0), &[(9, 1), (9, 2), (9, 4)]),
            (tiers(2, 0), &[(9, 1), (9, 2)]),
            (tiers(3, 0), &[(9, 1)]),
            (tiers(99, 9), &[(9, 1)]),
            (tiers(0, 9), &[(9, 1), (9, 2), (9, 4)]),
        ] {
            assert_eq!(next(&retention), [snapshots, &rest].concat(), "{retention:?}");
        }
        // A damaged one keeps no place from a sound one.
        let mut damaged = inventory(&files);
        damaged.mark_damaged(Level(9), file(9, 1, 2, 0).range);
        let gone = expired(&damaged, &tiers(3, 0), 6 * hour).groups.concat();
        let gone: Vec<_> =
            gone.iter().filter(|one| one.level == Level(9)).map(|one| one.range.max.0).collect();
        assert_eq!(gone, [2]);
    }

    #[test]
    fn bases_go_first_then_what_is_built_on_them() {
        let files = [
            (9, 1, 1, 0),
            (9, 1, 6, 100),
            (9, 1, 20, 200),
            (9, 1, 30, 5000),
            (1, 1, 4, 0),
            (1, 5, 8, 0),
            (1, 9, 20, 0),
            (1, 21, 25, 0),
            (2, 5, 8, 0),
            (2, 9, 20, 0),
            (0, 19, 19, 0),
            (0, 20, 20, 0),
            (0, 25, 25, 0),
            (0, 26, 26, 0),
            (0, 30, 30, 0),
        ];
        let (groups, at) = next(&files, 5000);
        assert_eq!(
            groups,
            [
                vec![(9, 1, 1)],
                vec![(1, 1, 4)],
                vec![(9, 1, 6)],
                // 2 9-20 is the newest of its level; 25 is in 1 21-25; 26 is nowhere else.
                vec![(1, 5, 8), (2, 5, 8), (1, 9, 20), (0, 19, 19), (0, 20, 20), (0, 25, 25)],
            ]
        );
        assert_eq!(at, Some(6000));
    }

    #[test]
    fn raw_files_go_with_all_that_they_were_merged_with() {
        let none = Groups::new();
        let files = [(9, 1, 1, 0), (1, 2, 4, 50), (0, 2, 2, 0), (0, 3, 3, 20), (0, 4, 4, 50), (0, 5, 5, 60)];
        assert_eq!(next(&files, 149), (none.clone(), Some(150)), "4 is too young, so 2 and 3 stay");
        assert_eq!(next(&files, 150), (vec![vec![(0, 2, 2), (0, 3, 3), (0, 4, 4)]], Some(1000)));
        assert_eq!(next(&files[..5], 9999), (vec![vec![(0, 2, 2), (0, 3, 3)]], None), "never the newest");
        // Half of it is elsewhere; nothing holds it; it is newer than the newest merged one.
        assert_eq!(next(&[(1, 2, 4, 0), (0, 1, 2, 0), (0, 9, 9, 0)], 9999), (none.clone(), None));
        assert_eq!(
            next(&[(1, 2, 2, 0), (1, 4, 4, 0), (0, 3, 3, 0), (0, 9, 9, 0)], 9999),
            (none.clone(), None)
        );
        assert_eq!(next(&[(1, 2, 4, 0), (0, 5, 5, 0), (0, 9, 9, 0)], 9999), (none.clone(), None));
        // Without levels the snapshot alone replaces.
        let files = [(9, 1, 1, 0), (9, 1, 3, 50), (0, 2, 2, 0), (0, 3, 3, 0), (0, 4, 4, 0)];
        assert_eq!(next(&files, 1049), (none, Some(1050)));
        assert_eq!(next(&files, 1050).0, [vec![(9, 1, 1)], vec![(0, 2, 2), (0, 3, 3)]]);
        let mut damaged = inventory(&[(1, 2, 4, 0), (0, 2, 2, 0), (0, 9, 9, 0)]);
        damaged.mark_damaged(Level(1), file(1, 2, 4, 0).range);
        assert_eq!(
            expired(&damaged, &RETENTION, 9999),
            Expired::default(),
            "what is damaged replaces nothing"
        );
    }
}

//! Which snapshots stay beyond the window of the retention: of each of the last hours, days, weeks and months
//! that have a snapshot, the newest one. All in UTC, weeks from Monday. Pure.

use super::inventory::File;
use crate::model::TxidRange;
use crate::replicate::settings::Tiers;
use std::collections::BTreeMap;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What a tier calls its periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    Hourly,
    Daily,
    Weekly,
    Monthly,
}

impl Tier {
    const ALL: [Tier; 4] = [Tier::Hourly, Tier::Daily, Tier::Weekly, Tier::Monthly];

    pub fn name(self) -> &'static str {
        match self {
            Tier::Hourly => "hourly",
            Tier::Daily => "daily",
            Tier::Weekly => "weekly",
            Tier::Monthly => "monthly",
        }
    }

    fn count(self, tiers: &Tiers) -> usize {
        let count = match self {
            Tier::Hourly => tiers.hourly,
            Tier::Daily => tiers.daily,
            Tier::Weekly => tiers.weekly,
            Tier::Monthly => tiers.monthly,
        };
        count as usize
    }

    /// The number of the period that this time is in.
    fn period(self, ms: i64) -> i64 {
        let day = ms.div_euclid(DAY_MS);
        match self {
            Tier::Hourly => ms.div_euclid(HOUR_MS),
            Tier::Daily => day,
            // 1970 began on a Thursday.
            Tier::Weekly => (day + 3).div_euclid(7),
            Tier::Monthly => month(ms),
        }
    }
}

/// Months since the year 0.
fn month(ms: i64) -> i64 {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let date = jiff::tz::Offset::UTC.to_datetime(time);
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

/// The snapshots that stay, each with the tiers that keep it. `snapshots`: those that a restore can begin
/// with, in any order.
pub fn kept(snapshots: &[File], tiers: &Tiers) -> BTreeMap<TxidRange, Vec<Tier>> {
    let mut kept: BTreeMap<TxidRange, Vec<Tier>> = BTreeMap::new();
    for tier in Tier::ALL {
        // Later positions replace earlier ones of the same period.
        let mut newest: BTreeMap<i64, TxidRange> = BTreeMap::new();
        for file in snapshots {
            let slot = newest.entry(tier.period(file.since_ms)).or_insert(file.range);
            *slot = (*slot).max(file.range);
        }
        for range in newest.into_values().rev().take(tier.count(tiers)) {
            kept.entry(range).or_default().push(tier);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::inventory::sample::file;
    use super::*;
    use proptest::prelude::*;

    /// A snapshot of this position, at this time.
    fn at(txid: u64, time: &str) -> File {
        file(9, 1, txid, crate::model::Moment::parse(time).unwrap().0)
    }

    fn ends(files: &[File], hourly: u32, daily: u32, weekly: u32, monthly: u32) -> Vec<u64> {
        let tiers = Tiers { hourly, daily, weekly, monthly };
        kept(files, &tiers).into_keys().map(|range| range.max.0).collect()
    }

    #[test]
    fn the_newest_of_each_period_stays() {
        let files = [
            at(1, "2025-11-30T23:59:59Z"),
            at(2, "2025-12-01T00:00:00Z"),
            at(3, "2025-12-31T12:00:00Z"),
            // A Sunday and the Monday after it.
            at(4, "2026-01-04T10:00:00Z"),
            at(5, "2026-01-05T10:00:00Z"),
            at(6, "2026-01-05T10:59:59Z"),
            at(7, "2026-01-05T11:00:00Z"),
            at(8, "2026-01-06T09:00:00Z"),
        ];
        for ((hourly, daily, weekly, monthly), expected) in [
            ((0, 0, 0, 0), &[][..]),
            ((1, 0, 0, 0), &[8]),
            ((3, 0, 0, 0), &[6, 7, 8]),
            ((0, 3, 0, 0), &[4, 7, 8]),
            ((0, 0, 3, 0), &[2, 4, 8]),
            ((0, 0, 0, 2), &[3, 8]),
            ((0, 0, 0, 9), &[1, 3, 8]),
            ((2, 2, 0, 2), &[3, 7, 8]),
        ] {
            assert_eq!(
                ends(&files, hourly, daily, weekly, monthly),
                expected,
                "{hourly} {daily} {weekly} {monthly}"
            );
        }
        let tiers = Tiers { hourly: 1, daily: 2, weekly: 0, monthly: 1 };
        let named = kept(&files, &tiers);
        assert_eq!(
            named.into_values().collect::<Vec<_>>(),
            [vec![Tier::Daily], vec![Tier::Hourly, Tier::Daily, Tier::Monthly]]
        );
    }

    proptest! {
        /// What is deleted by and by is what a single look at everything would delete: a snapshot that has
        /// fallen out of all tiers is never wanted again, and none that is wanted has been deleted.
        #[test]
        fn a_snapshot_that_was_dropped_is_never_missed(
            gaps in prop::collection::vec(1..200i64, 1..60),
            hourly in 0..5u32, daily in 0..5u32, weekly in 0..3u32, monthly in 0..3u32,
        ) {
            let tiers = Tiers { hourly, daily, weekly, monthly };
            let (mut now, mut all, mut left) = (1_700_000_000_000, Vec::new(), Vec::new());
            for (gap, txid) in gaps.iter().zip(1..) {
                now += gap * HOUR_MS / 4;
                all.push(file(9, 1, txid, now));
                left.push(file(9, 1, txid, now));
                let wanted = kept(&all, &tiers);
                let stays = kept(&left, &tiers);
                prop_assert_eq!(&stays, &wanted);
                left.retain(|file| stays.contains_key(&file.range));
                prop_assert!(left.len() <= (hourly + daily + weekly + monthly) as usize);
                let any = hourly + daily + weekly + monthly > 0;
                prop_assert_eq!(any, left.iter().any(|file| file.range.max.0 == txid), "the newest");
            }
        }
    }
}

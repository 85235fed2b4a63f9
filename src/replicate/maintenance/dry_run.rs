//! What retention would do with a replica that has just been listed: which snapshots stay and why, and what
//! would be deleted. Pure; nothing is deleted.

use super::inventory::Inventory;
use super::schedule::millis;
use super::{retention, tiers};
use crate::model::Txid;
use crate::replica::RemoteFile;
use crate::replicate::settings::Retention;
use crate::store::layout::Level;

/// A snapshot that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StayingSnapshot {
    pub txid: Txid,
    /// Since when it is there, Unix milliseconds.
    pub since_ms: i64,
    pub bytes: u64,
    /// `window`, `base`, `hourly`, `daily`, `weekly`, `monthly`.
    pub because: Vec<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DryRun {
    /// The oldest first.
    pub stay: Vec<StayingSnapshot>,
    /// Position, time and bytes of each snapshot that would go.
    pub go: Vec<(Txid, i64, u64)>,
    /// Files of levels 0 to 8 that would go, and their bytes.
    pub files: usize,
    pub bytes: u64,
}

/// `listed`: everything that the replica holds.
pub fn dry_run(listed: &[RemoteFile], settings: &Retention, now_ms: i64) -> DryRun {
    let inventory = Inventory::of(listed, now_ms);
    let gone = retention::expired(&inventory, settings, now_ms).groups.concat();
    let goes =
        |level: Level, range| gone.iter().any(|deletion| deletion.level == level && deletion.range == range);
    let snapshots: Vec<_> = inventory.level(Level::SNAPSHOT).filter(|file| file.is_base()).copied().collect();
    let kept = tiers::kept(&snapshots, &settings.tiers);
    let cutoff = now_ms.saturating_sub(millis(settings.snapshots));
    let base = snapshots.iter().rev().find(|file| file.since_ms <= cutoff).map(|file| file.range);
    let mut dry_run = DryRun::default();
    for file in snapshots {
        let (txid, since_ms, bytes) = (file.range.max, file.since_ms, file.size);
        if goes(Level::SNAPSHOT, file.range) {
            dry_run.go.push((txid, since_ms, bytes));
            continue;
        }
        let window = (since_ms > cutoff).then_some("window");
        let begins = (base == Some(file.range)).then_some("base");
        let tiers = kept.get(&file.range).into_iter().flatten().map(|tier| tier.name());
        dry_run.stay.push(StayingSnapshot {
            txid,
            since_ms,
            bytes,
            because: window.into_iter().chain(begins).chain(tiers).collect(),
        });
    }
    for file in
        (0..=8).flat_map(|level| inventory.level(Level(level))).filter(|file| goes(file.level, file.range))
    {
        (dry_run.files, dry_run.bytes) = (dry_run.files + 1, dry_run.bytes + file.size);
    }
    dry_run
}

#[cfg(test)]
mod tests {
    use super::super::inventory::{remote, sample::file};
    use super::*;
    use crate::replicate::settings::Tiers;
    use std::time::Duration;

    #[test]
    fn what_stays_and_why() {
        let hour = 3_600_000;
        let day = 24 * hour;
        let now = 400 * day;
        let times = [
            (1, now - 90 * day),
            (2, now - 3 * day),
            (5, now - 2 * day),
            (7, now - 2 * hour),
            (9, now - hour),
        ];
        let mut listed: Vec<_> =
            times.iter().map(|(txid, since)| remote(&file(9, 1, *txid, *since))).collect();
        listed.push(remote(&file(1, 3, 5, now - 2 * day)));
        listed.push(remote(&file(1, 8, 9, now - hour)));
        let retention = Retention {
            snapshots: Duration::from_secs(86_400),
            raw: Duration::from_secs(300),
            tiers: Tiers { daily: 2, monthly: 9, ..Tiers::default() },
        };
        let found = dry_run(&listed, &retention, now);
        let stay: Vec<_> = found.stay.iter().map(|one| (one.txid.0, one.because.join(" "))).collect();
        assert_eq!(
            stay,
            [
                (1, "monthly".to_owned()),
                (5, "base daily".to_owned()),
                (7, "window".to_owned()),
                (9, "window daily monthly".to_owned())
            ]
        );
        assert_eq!((found.go, found.files, found.bytes), (vec![(Txid(2), now - 3 * day, 200)], 1, 200));
        assert_eq!(dry_run(&[], &retention, now), DryRun::default());
    }
}

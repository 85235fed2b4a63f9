//! When to checkpoint, and how hard to try. Pure.

use crate::replicate::ReplicateSettings;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Bytes of the WAL up to the captured position.
    pub wal_bytes: u64,
    /// Everything captured is in the replica.
    pub all_uploaded: bool,
    /// Nothing was written since the last checkpoint that let the WAL restart.
    pub settled: bool,
    /// Nothing was written since the last upload.
    pub quiet: bool,
    /// Since the last try.
    pub since_try: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointDecision {
    No,
    /// Copy frames into the database; let the WAL restart if the app happens to be quiet. Takes no lock.
    Gentle,
    /// The WAL has grown although gentle tries came first: keep writers out for the moment that it takes.
    Locked,
}

/// Between two tries, so that an app with a long reader is not asked all the time.
const PAUSE: Duration = Duration::from_secs(1);
/// The WAL's size, in thresholds, from which writers are kept out for a moment. Gentle tries, one each second, come first:
/// only an app that never leaves a pause as long as two syncs of the disk gets here.
const LOCKED_FROM: u64 = 8;

/// Bytes of the WAL from which writers are kept out for a moment.
pub fn locked_from(settings: &ReplicateSettings) -> u64 {
    settings.checkpoint_bytes.saturating_mul(LOCKED_FROM)
}

pub fn decide(settings: &ReplicateSettings, now: Situation) -> CheckpointDecision {
    let bytes = now.wal_bytes;
    let frames = bytes > crate::wal::HEADER;
    if !frames || now.settled || !now.all_uploaded || now.since_try < PAUSE {
        return CheckpointDecision::No;
    }
    if bytes >= locked_from(settings) {
        return CheckpointDecision::Locked;
    }
    // In a quiet moment it costs the app nothing; and a checkpoint of its own (TRUNCATE, RESTART), which would wait for our
    // hold with all writers locked out, goes through once everything is copied.
    if now.quiet || bytes >= settings.checkpoint_bytes || now.since_try >= settings.checkpoint_interval {
        return CheckpointDecision::Gentle;
    }
    CheckpointDecision::No
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let settings = ReplicateSettings {
            checkpoint_bytes: 1000,
            checkpoint_interval: Duration::from_secs(60),
            ..ReplicateSettings::default()
        };
        let base = Situation {
            wal_bytes: 1000,
            all_uploaded: true,
            settled: false,
            quiet: false,
            since_try: Duration::from_secs(2),
        };
        let minute = Duration::from_secs(60);
        for (situation, decision) in [
            (base, CheckpointDecision::Gentle),
            (Situation { wal_bytes: 999, ..base }, CheckpointDecision::No),
            (Situation { wal_bytes: 999, quiet: true, ..base }, CheckpointDecision::Gentle),
            (Situation { wal_bytes: 32, quiet: true, ..base }, CheckpointDecision::No),
            (Situation { settled: true, quiet: true, ..base }, CheckpointDecision::No),
            (Situation { since_try: Duration::ZERO, quiet: true, ..base }, CheckpointDecision::No),
            (Situation { wal_bytes: 999, since_try: minute, ..base }, CheckpointDecision::Gentle),
            (Situation { wal_bytes: 32, since_try: minute, ..base }, CheckpointDecision::No),
            (Situation { wal_bytes: 7_999, ..base }, CheckpointDecision::Gentle),
            (Situation { wal_bytes: 8_000, ..base }, CheckpointDecision::Locked),
            (Situation { wal_bytes: 8_000, all_uploaded: false, ..base }, CheckpointDecision::No),
            (Situation { wal_bytes: 8_000, settled: true, ..base }, CheckpointDecision::No),
            (Situation { wal_bytes: 8_000, since_try: Duration::ZERO, ..base }, CheckpointDecision::No),
        ] {
            assert_eq!(decide(&settings, situation), decision, "{situation:?}");
        }
    }
}

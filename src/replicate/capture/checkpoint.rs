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
    /// The WAL has passed its limit: that moment may be longer.
    LockedLonger,
}

impl CheckpointDecision {
    pub fn keeps_writers_out(self) -> bool {
        matches!(self, CheckpointDecision::Locked | CheckpointDecision::LockedLonger)
    }
}

/// A round of a checkpoint: it captures, copies and syncs what came during the round before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Counted from 1.
    pub number: usize,
    /// Bytes that came during the round before, and during the one before that.
    pub came: u64,
    pub came_before: u64,
    /// Bytes of the WAL up to the captured position.
    pub wal_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRound {
    Again,
    /// What comes during a round is little: keep writers out and copy it.
    KeepOut,
    /// It is too much, and does not become less.
    GiveUp,
}

pub const ROUNDS: usize = 8;
/// Bytes of a round that are few enough to keep writers out at once.
const LITTLE: u64 = 64 << 10;
/// Bytes that are captured and copied while writers are kept out.
const REST: u64 = 1 << 20;
/// Past its limit, a part of the WAL: a long WAL costs the app more than a longer pause.
const PART: u64 = 4;
const MOST_REST: u64 = 16 << 20;

/// Bytes that may be left when writers are kept out.
pub fn rest_limit(decision: CheckpointDecision, wal_bytes: u64) -> u64 {
    match decision {
        CheckpointDecision::LockedLonger => (wal_bytes / PART).clamp(REST, MOST_REST),
        _ => REST,
    }
}

/// Whether another round leaves less for the moment in which writers are kept out.
pub fn after_round(decision: CheckpointDecision, round: Round) -> AfterRound {
    // What the first round finds came during no round.
    if round.number < 2 {
        return AfterRound::Again;
    }
    let rest = rest_limit(decision, round.wal_bytes);
    let last = round.number >= ROUNDS;
    let shrinks = round.number == 2 || round.came < round.came_before / 4 * 3;
    if round.came <= LITTLE
        || round.came <= rest && (last || decision == CheckpointDecision::LockedLonger && !shrinks)
    {
        return AfterRound::KeepOut;
    }
    // An app writes now more, now less: twice as much may still become little enough.
    if last || !shrinks && round.came > 2 * rest { AfterRound::GiveUp } else { AfterRound::Again }
}

/// Between two tries, so that an app with a long reader is not asked all the time.
const PAUSE: Duration = Duration::from_secs(1);
/// The WAL's size, in thresholds, from which writers are kept out for a moment. Gentle tries, one each
/// second, come first: only an app that never leaves a pause as long as two syncs of the disk gets here.
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
    if bytes >= settings.wal_limit {
        return CheckpointDecision::LockedLonger;
    }
    if bytes >= locked_from(settings) {
        return CheckpointDecision::Locked;
    }
    // In a quiet moment it costs the app nothing; and a checkpoint of its own (TRUNCATE, RESTART), which
    // would wait for our hold with all writers locked out, goes through once everything is copied.
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
            wal_limit: 20_000,
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
            (Situation { wal_bytes: 20_000, ..base }, CheckpointDecision::LockedLonger),
            (Situation { wal_bytes: 20_000, quiet: true, settled: true, ..base }, CheckpointDecision::No),
            (Situation { wal_bytes: 8_000, all_uploaded: false, ..base }, CheckpointDecision::No),
            (Situation { wal_bytes: 8_000, settled: true, ..base }, CheckpointDecision::No),
            (Situation { wal_bytes: 8_000, since_try: Duration::ZERO, ..base }, CheckpointDecision::No),
        ] {
            assert_eq!(decide(&settings, situation), decision, "{situation:?}");
        }
    }

    #[test]
    fn when_writers_are_kept_out() {
        use AfterRound::{Again, GiveUp, KeepOut};
        use CheckpointDecision::{Locked, LockedLonger};
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        for (decision, wal_mib, number, came_before, came, expected) in [
            (Locked, 32, 1, 0, 0, Again),
            (LockedLonger, 32, 1, 0, 32 * MIB, Again),
            (Locked, 32, 2, 32 * MIB, 64 * KIB, KeepOut),
            (LockedLonger, 32, 2, 32 * MIB, 64 * KIB, KeepOut),
            // As long as the rounds become shorter, the moment becomes shorter, too.
            (Locked, 32, 2, 32 * MIB, MIB, Again),
            (LockedLonger, 32, 2, 32 * MIB, MIB, Again),
            (LockedLonger, 32, 3, 8 * MIB, 2 * MIB, Again),
            (Locked, 32, 3, MIB, MIB, Again),
            (Locked, 32, ROUNDS, MIB, MIB, KeepOut),
            (Locked, 32, 3, 2 * MIB, 2 * MIB, Again),
            (Locked, 32, ROUNDS, 2 * MIB, 2 * MIB, GiveUp),
            (Locked, 1000, 3, 3 * MIB, 3 * MIB, GiveUp),
            (LockedLonger, 16, 3, 4 * MIB, 4 * MIB, KeepOut),
            (LockedLonger, 16, 3, 5 * MIB, 5 * MIB, Again),
            (LockedLonger, 16, 3, 9 * MIB, 9 * MIB, GiveUp),
            (LockedLonger, 16, ROUNDS, 9 * MIB, 4 * MIB, KeepOut),
            (LockedLonger, 1000, 3, 16 * MIB, 16 * MIB, KeepOut),
            (LockedLonger, 1000, 3, 33 * MIB, 33 * MIB, GiveUp),
        ] {
            let round = Round { number, came, came_before, wal_bytes: wal_mib * MIB };
            assert_eq!(after_round(decision, round), expected, "{decision:?} {round:?}");
        }
    }
}

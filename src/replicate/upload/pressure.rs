//! What the WAL needs between two steps of a session: its hold out of a checkpoint's way, a smaller WAL, more
//! room on the disk. Pure: what was seen of the WAL goes in, what is done at once comes out. `wal_limiter`
//! looks, `limits` does it.

use crate::replicate::ReplicateSettings;
use crate::sqlite::Room;
use std::time::Duration;

/// What `WalView` shows, and what was done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// A checkpoint of another process waits for readers.
    pub waits: bool,
    /// Bytes of the WAL up to its last commit; 0 if all of it is copied. None: not known, the WAL itself has
    /// to be read.
    pub wal_bytes: Option<u64>,
    pub room: Option<Room>,
    /// The hold has read mark 0.
    pub mark_is_zero: bool,
    /// What is being uploaded reads pages of the database file, which a checkpoint would replace.
    pub reads_pages: bool,
    /// Since something was last done about the size or the room, and the bytes of the WAL after it.
    pub since_try: Option<Duration>,
    pub tried_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    /// Move the hold, so that the checkpoint of another process can go on.
    StepAside,
    /// The WAL has passed its limit.
    Shrink,
    /// Move the hold off read mark 0. There the app's automatic checkpoints, one after each commit, sort all
    /// frames of the WAL and copy none (SQLite, `walCheckpoint`).
    RaiseMark,
    /// The disk is nearly full: copy the WAL into the database and start it over, as the app's own
    /// checkpoints would.
    MakeRoom,
}

/// Something that did not help is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// The size at which SQLite's own automatic checkpoint would begin, with pages of 4 KiB.
const AUTOMATIC: u64 = 4 << 20;
/// Well below it: from here on the hold is moved off mark 0. Once for each start of the WAL.
const GROWING: u64 = 256 << 10;
/// With less room than this beside what the WAL and the database take, the WAL is started over as often as
/// under automatic checkpoints. An app that writes 50 MB a second fills it in a second, which a start of a
/// large WAL may take on a busy machine.
const RESERVE: u64 = 48 << 20;
/// A transaction may be as large as the database; for one of this size room is kept, not for more.
const TRANSACTION: u64 = 256 << 20;
/// With hardly any room left a smaller WAL is worth the trouble.
const TIGHT: u64 = 4 << 20;
const TIGHT_WAL: u64 = 256 << 10;

pub fn decide(settings: &ReplicateSettings, seen: Seen) -> Need {
    if seen.waits {
        return Need::StepAside;
    }
    let tried = |step: u64| {
        let grown = seen.wal_bytes.is_none_or(|bytes| bytes >= seen.tried_bytes.saturating_add(step));
        seen.since_try.is_none_or(|since| since >= AGAIN || grown && seen.wal_bytes.is_some())
    };
    let bytes = seen.wal_bytes.unwrap_or(0);
    if let Some(floor) = seen.room.and_then(|room| scarce(room, bytes))
        && bytes >= floor
        && tried(floor)
    {
        return Need::MakeRoom;
    }
    let over = seen.wal_bytes.is_none_or(|bytes| bytes >= settings.wal_limit);
    if over && tried(settings.wal_limit.max(1)) {
        return Need::Shrink;
    }
    if seen.mark_is_zero && !seen.reads_pages && bytes >= GROWING { Need::RaiseMark } else { Need::Nothing }
}

/// When room is scarce: the size from which the WAL has to be started over. None: there is plenty.
pub fn scarce(room: Room, wal_bytes: u64) -> Option<u64> {
    let left = room.free.saturating_sub(room.growth);
    if left < TIGHT {
        return Some(TIGHT_WAL);
    }
    let wanted = RESERVE.max(room.database.min(TRANSACTION)).saturating_add(wal_bytes);
    (left < wanted).then_some(AUTOMATIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(free: u64, growth: u64, database: u64) -> Option<Room> {
        Some(Room { free: free * MIB, growth: growth * MIB, database: database * MIB })
    }

    #[test]
    fn the_table() {
        let settings = ReplicateSettings { wal_limit: 100 * MIB, ..ReplicateSettings::default() };
        let base = Seen {
            waits: false,
            wal_bytes: Some(MIB),
            room: None,
            mark_is_zero: false,
            reads_pages: false,
            since_try: None,
            tried_bytes: 0,
        };
        let wal = |mib: u64| Some(mib * MIB);
        let just = Some(Duration::from_millis(1));
        for (seen, need) in [
            (base, Need::Nothing),
            (Seen { waits: true, ..base }, Need::StepAside),
            (Seen { waits: true, wal_bytes: wal(200), room: room(0, 0, 1), ..base }, Need::StepAside),
            (Seen { wal_bytes: wal(99), ..base }, Need::Nothing),
            (Seen { wal_bytes: wal(100), ..base }, Need::Shrink),
            (Seen { wal_bytes: wal(100), since_try: just, tried_bytes: 100 * MIB, ..base }, Need::Nothing),
            (Seen { wal_bytes: wal(200), since_try: just, tried_bytes: 100 * MIB, ..base }, Need::Shrink),
            (
                Seen { wal_bytes: wal(100), since_try: Some(AGAIN), tried_bytes: 100 * MIB, ..base },
                Need::Shrink,
            ),
            (Seen { mark_is_zero: true, ..base }, Need::RaiseMark),
            (Seen { mark_is_zero: true, wal_bytes: Some(GROWING - 1), ..base }, Need::Nothing),
            (Seen { mark_is_zero: true, reads_pages: true, ..base }, Need::Nothing),
            (Seen { mark_is_zero: true, wal_bytes: wal(100), ..base }, Need::Shrink),
            (Seen { mark_is_zero: true, waits: true, ..base }, Need::StepAside),
            (Seen { wal_bytes: None, ..base }, Need::Shrink),
            (Seen { wal_bytes: None, since_try: just, ..base }, Need::Nothing),
            // 64 MiB with a database of 25: as under an automatic checkpoint.
            (Seen { wal_bytes: wal(4), room: room(35, 0, 25), ..base }, Need::MakeRoom),
            (Seen { wal_bytes: wal(4), room: room(53, 0, 25), ..base }, Need::Nothing),
            (Seen { wal_bytes: wal(8), room: room(31, 0, 25), ..base }, Need::MakeRoom),
            (Seen { wal_bytes: wal(8), room: room(40, 8, 25), ..base }, Need::MakeRoom),
            (Seen { wal_bytes: wal(3), room: room(20, 0, 25), ..base }, Need::Nothing),
            (Seen { wal_bytes: wal(1), room: room(5, 2, 25), ..base }, Need::MakeRoom),
            (
                Seen {
                    wal_bytes: wal(8),
                    room: room(0, 8, 25),
                    since_try: just,
                    tried_bytes: 8 * MIB,
                    ..base
                },
                Need::Nothing,
            ),
            (
                Seen {
                    wal_bytes: wal(9),
                    room: room(0, 8, 25),
                    since_try: just,
                    tried_bytes: 8 * MIB,
                    ..base
                },
                Need::MakeRoom,
            ),
            (Seen { wal_bytes: wal(50), room: room(100_000, 0, 500_000), ..base }, Need::Nothing),
            (Seen { wal_bytes: wal(50), room: room(200, 0, 500_000), ..base }, Need::MakeRoom),
        ] {
            assert_eq!(decide(&settings, seen), need, "{seen:?}");
        }
    }
}

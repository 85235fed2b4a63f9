//! What the configuration says about replicating one database; filled in by `config`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicateSettings {
    /// Distance between uploads while the app keeps writing. A commit after a quiet time is uploaded at once.
    pub sync_interval: Duration,
    /// The WAL is checkpointed once it holds this many bytes (and everything in it is uploaded).
    pub checkpoint_bytes: u64,
    /// … or when this much time has passed since the last checkpoint and the WAL holds anything.
    pub checkpoint_interval: Duration,
    /// With the store away the WAL may grow to this many bytes before segments are spilled to the disk beside
    /// it.
    pub wal_limit: u64,
    /// Spilled segments may take this many bytes; when they do, the WAL grows instead. 0: nothing is spilled.
    pub spill_limit: u64,
    /// How often files of level n-1 are merged into one of level n, for levels 1, 2, … (at most 8). Empty:
    /// never.
    pub levels: Vec<Duration>,
    /// A new snapshot is uploaded this often, if anything was written since the last one.
    pub snapshot_interval: Duration,
    /// None: nothing in the replica is ever deleted, and no permission to is needed.
    pub retention: Option<Retention>,
    pub on_conflict: OnConflict,
    pub locking_mode: LockingMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Every state of this long ago can be restored: what is older than the snapshot that this takes is
    /// deleted.
    pub snapshots: Duration,
    /// Raw files (level 0) are kept this long after they were merged.
    pub raw: Duration,
    /// Snapshots that stay beyond that.
    pub tiers: Tiers,
}

/// Of each of the last so many hours, days, weeks and months that have a snapshot, the newest one stays. 0:
/// none for its sake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiers {
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
}

/// What happens when another writer has the replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// The app is stopped; exit code 75.
    #[default]
    Exit,
    /// The app goes on without replication; what it writes from then on stays on this disk. Exit code 75 at
    /// its end.
    Continue,
}

/// How the app locks the database (`PRAGMA locking_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockingMode {
    /// litevisor finds out.
    #[default]
    Auto,
    /// It locks the whole database: litevisor opens it only when the app has ended.
    Exclusive,
}

impl Default for ReplicateSettings {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        ReplicateSettings {
            sync_interval: Duration::from_secs(1),
            checkpoint_bytes: 4 << 20,
            checkpoint_interval: minutes(1),
            wal_limit: 256 << 20,
            spill_limit: 1 << 30,
            // Litestream 0.5's, as are the next two.
            levels: vec![Duration::from_secs(30), minutes(5), minutes(60)],
            snapshot_interval: minutes(24 * 60),
            retention: Some(Retention::default()),
            on_conflict: OnConflict::default(),
            locking_mode: LockingMode::default(),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            snapshots: Duration::from_secs(24 * 3600),
            raw: Duration::from_secs(300),
            tiers: Tiers::default(),
        }
    }
}

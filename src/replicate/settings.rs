//! What the configuration says about replicating one database; filled in by `config`.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicateSettings {
    /// Distance between uploads while the app keeps writing. A commit after a quiet time is uploaded at once.
    pub sync_interval: Duration,
    /// The WAL is checkpointed once it holds this many bytes (and everything in it is uploaded).
    pub checkpoint_bytes: u64,
    /// … or when this much time has passed since the last checkpoint and the WAL holds anything.
    pub checkpoint_interval: Duration,
}

impl Default for ReplicateSettings {
    fn default() -> Self {
        ReplicateSettings {
            sync_interval: Duration::from_secs(1),
            checkpoint_bytes: 4 << 20,
            checkpoint_interval: Duration::from_secs(60),
        }
    }
}

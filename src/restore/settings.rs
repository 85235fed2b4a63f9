//! What the configuration says about restoring; filled in by `config`.

use crate::lineage::FileAccess;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreSettings {
    /// How long an unreachable replica is retried before the start is given up. A download that makes
    /// progress is not cut off.
    pub timeout: Duration,
    /// Parallel requests of one database's restore; large pieces are fewer, memory is bounded.
    pub parallelism: usize,
    /// Set by the command, not by the configuration.
    pub access: FileAccess,
    /// Whether a database without a local file is restored or started empty; if not, it is left out. Set by
    /// the command.
    pub create_missing: bool,
}

impl Default for RestoreSettings {
    fn default() -> Self {
        RestoreSettings {
            timeout: Duration::from_secs(30),
            parallelism: 32,
            access: FileAccess::Exclusive,
            create_missing: true,
        }
    }
}

/// What to do when a database cannot be restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRestoreFailure {
    /// Start nothing.
    #[default]
    Abort,
    /// Start the app on what is there, say so loudly, and replicate nothing of this database.
    Start,
}

/// Owner and mode of a restored file. A field that is None follows the set-aside file, else the app's user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Permission bits, e.g. 0o640.
    pub mode: Option<u32>,
}

impl Owner {
    pub(super) fn is_named(&self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }
}

/// Whose the restored file shall be: as configured for the database, else like the file that was there, else
/// the app's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    pub configured: Owner,
    pub app: Owner,
}

impl Owners {
    /// Whether it is known who uses the database.
    pub fn is_named(&self) -> bool {
        self.configured.is_named() || self.app.is_named()
    }
}

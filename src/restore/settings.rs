//! What the configuration says about restoring; filled in by `config`.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreSettings {
    /// How long an unreachable replica is retried before the start is given up. A download that makes progress is not
    /// cut off.
    pub timeout: Duration,
    /// Parallel requests of one database's restore; large pieces are fewer, memory is bounded.
    pub parallelism: usize,
    /// Not from the configuration: the command's nature.
    pub others: Others,
}

/// Who else may have a database's files open while we prepare them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// Nobody: the app is started afterwards.
    #[default]
    None,
    /// An app that somebody else starts. No file of that name, be it empty, is replaced, moved or removed.
    MayUse,
    /// The same, and what is not there stays so.
    MayUseOnce,
}

impl Default for RestoreSettings {
    fn default() -> Self {
        RestoreSettings { timeout: Duration::from_secs(30), parallelism: 32, others: Others::None }
    }
}

/// What to do when a database cannot be restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    pub(super) fn names_somebody(&self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }
}

/// Whose the restored file shall be: as configured for the database, else like the file that was there, else the app's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    pub configured: Owner,
    pub app: Owner,
}

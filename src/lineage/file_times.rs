//! Creation and modification times of the database file, by `stat` alone.

use crate::model::DbPath;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

/// What tells a database file that went on from one that stayed behind or was replaced: no commit reaches the
/// file without changing the one time, and nothing that SQLite does changes the other. Nanoseconds since the
/// Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTimes {
    /// Last modification; 0: the file was complete without its WAL.
    pub modified_ns: u64,
    /// Creation; 0: the file system does not know.
    pub born_ns: u64,
}

/// Of the database file as it is now; None: there is no regular file.
pub fn file_times(db: &DbPath) -> Option<FileTimes> {
    let meta = fs::symlink_metadata(db.as_path()).ok().filter(fs::Metadata::is_file)?;
    let ns = |time: io::Result<SystemTime>| {
        let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or_default()
    };
    Some(FileTimes { modified_ns: ns(meta.modified()), born_ns: ns(meta.created()) })
}

//! Creation and modification times of the database file, by `stat` alone.

use super::record::FileTimes;
use crate::model::DbPath;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

/// Of the database file as it is now; None: there is no regular file.
pub fn file_times(db: &DbPath) -> Option<FileTimes> {
    let meta = fs::symlink_metadata(db.as_path()).ok().filter(fs::Metadata::is_file)?;
    let ns = |time: io::Result<SystemTime>| {
        let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or_default()
    };
    Some(FileTimes { modified_ns: ns(meta.modified()), born_ns: ns(meta.created()) })
}

//! The `stat` values of a database file at one moment. In WAL mode only a checkpoint writes to the file: any
//! other change was not made by SQLite.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// File systems count time in ticks: a second write in the same tick leaves no trace in the stamp.
const TICK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    bytes: u64,
    /// Of the last write, and of the last change of the inode: seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    pub fn of(file: &File) -> io::Result<FileStamp> {
        let meta = file.metadata()?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        let changed = (meta.ctime(), meta.ctime_nsec());
        Ok(FileStamp { bytes: meta.len(), modified, changed })
    }

    /// Size and time of the last write: names that come and go leave no trace in these.
    pub fn written(&self) -> (u64, i64, i64) {
        (self.bytes, self.modified.0, self.modified.1)
    }

    /// Whether the last change is so recent that another one may have the same stamp.
    pub fn is_young(&self, now: SystemTime) -> bool {
        let (seconds, nanos) = self.changed;
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else { return false };
        let changed = UNIX_EPOCH + Duration::new(seconds, nanos);
        now.duration_since(changed).map_or(true, |age| age < TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_write_changes_the_stamp() {
        let file = tempfile::tempfile().unwrap();
        let empty = FileStamp::of(&file).unwrap();
        assert_eq!(FileStamp::of(&file).unwrap(), empty);
        file.write_all_at(b"1", 0).unwrap();
        let written = FileStamp::of(&file).unwrap();
        assert_ne!(written, empty);
        assert!(written.is_young(SystemTime::now()));
        assert!(!written.is_young(SystemTime::now() + Duration::from_secs(1)));
    }
}

//! The origin of a database that was restored from a Litestream 0.3 replica and has no LTX position yet.
//! Pure. Without it such a file would be restored again at each restart, and what the app wrote meanwhile
//! would be lost.

use super::file_times::FileTimes;
use crate::v3::V3File;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct V3Marker {
    /// The last file of the replica that was applied.
    pub key: String,
    /// When the database file was created; 0: the file system does not know.
    pub born_ns: u64,
}

impl V3Marker {
    /// Of the file that was restored just now.
    pub fn new(last: &V3File, file: Option<FileTimes>) -> V3Marker {
        V3Marker { key: last.key.clone(), born_ns: born_ns(file) }
    }

    /// Whether the local file is the one that was restored from what is still the newest of the replica.
    pub fn proves(&self, files: &[V3File], file: Option<FileTimes>) -> bool {
        let newest = files.iter().map(|file| file.modified_ms).max();
        // Files of one moment: any of them may have been the last.
        let mut last = files.iter().filter(|file| Some(file.modified_ms) == newest);
        self.born_ns == born_ns(file) && last.any(|file| file.key == self.key)
    }
}

fn born_ns(file: Option<FileTimes>) -> u64 {
    file.map_or(0, |file| file.born_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v3::parse;

    #[test]
    fn only_the_restored_file_at_the_newest_state_is_proven() {
        let files = |parts: &[(&str, i64)]| -> Vec<V3File> {
            let file = |(part, modified_ms): &(&str, i64)| {
                let key = format!("generations/00000000000000aa/{part}.lz4");
                V3File { name: parse(&key).unwrap(), key, size: 9, modified_ms: *modified_ms }
            };
            parts.iter().map(file).collect()
        };
        let born = |born_ns| Some(FileTimes { modified_ns: 3, born_ns });
        let now = files(&[("snapshots/00000000.snapshot", 1), ("wal/00000000_00000000.wal", 2)]);
        let marker = V3Marker::new(&now[1], born(5));
        assert!(marker.proves(&now, born(5)));
        assert!(!marker.proves(&now, born(6)), "another file");
        assert!(!marker.proves(&now, None));
        let later = files(&[("wal/00000000_00000000.wal", 2), ("wal/00000000_00001000.wal", 3)]);
        assert!(!marker.proves(&later, born(5)), "the replica has grown");
        let same_moment = files(&[("wal/00000000_00000000.wal", 3), ("wal/00000000_00001000.wal", 3)]);
        assert!(marker.proves(&same_moment, born(5)));
    }
}

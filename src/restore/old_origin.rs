//! The mark beside a database that was restored from a Litestream 0.3 replica and has not been replicated in the new format
//! yet: `.NAME-litevisor/restored-from-0.3.json`. Owns writing and judging it. Without it such a file would have to be
//! restored again after each restart, and what the app wrote meanwhile would be lost.

use crate::local_state::{self, LocalStateError, file_look};
use crate::model::DbPath;
use crate::replica::{Listing, OldFile};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::{fs, io};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    replica: String,
    /// The last file that was applied.
    key: String,
    /// When the database file was made; 0: the file system does not know.
    born_ns: u64,
}

const MARK: &str = "restored-from-0.3.json";

fn path_of(db: &DbPath) -> PathBuf {
    db.state_dir().join(MARK)
}

/// To be called once the database is in place.
pub fn record(db: &DbPath, replica: &str, last: &OldFile) -> Result<(), LocalStateError> {
    let text = serde_json::to_string(&mark(db, replica, last)).map_err(io::Error::other);
    let text = text.map_err(|source| LocalStateError::Io { operation: "write", path: path_of(db), source })?;
    local_state::note(db, MARK, &text)
}

fn mark(db: &DbPath, replica: &str, last: &OldFile) -> Mark {
    let born_ns = file_look(db).map_or(0, |look| look.born_ns);
    Mark { replica: replica.to_owned(), key: last.key.clone(), born_ns }
}

/// Whether the file at `db` is the one that was restored from what is still the newest of the replica.
pub fn proves(db: &DbPath, replica: &str, listing: &Listing) -> bool {
    let read = fs::read(path_of(db)).ok();
    let Some(found) = read.and_then(|text| serde_json::from_slice::<Mark>(&text).ok()) else { return false };
    let newest = listing.old.iter().max_by_key(|file| file.modified_ms).map(|file| file.modified_ms);
    // Files of one moment: any of them may have been the last.
    let mut last = listing.old.iter().filter(|file| Some(file.modified_ms) == newest);
    last.any(|file| found == mark(db, replica, file))
}

/// Forgets it, for a database file that is about to be another one.
pub fn remove(db: &DbPath) -> io::Result<()> {
    match fs::remove_file(path_of(db)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Object;
    use crate::store::layout::Layout;

    #[test]
    fn only_the_restored_file_at_the_newest_state_is_proven() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        fs::write(db.as_path(), "x").unwrap();
        let listing = |keys: &[(&str, i64)]| {
            let object = |(part, modified_ms): &(&str, i64)| Object {
                key: format!("generations/00000000000000aa/{part}.lz4"),
                size: 9,
                modified_ms: *modified_ms,
            };
            Listing::of(Layout::S3, &keys.iter().map(object).collect::<Vec<_>>())
        };
        let now = listing(&[("snapshots/00000000.snapshot", 1), ("wal/00000000_00000000.wal", 2)]);
        assert!(!proves(&db, "s3://r", &now));
        record(&db, "s3://r", &now.old[1]).unwrap();
        assert!(proves(&db, "s3://r", &now));
        assert!(!proves(&db, "s3://other", &now));
        let later = listing(&[("wal/00000000_00000000.wal", 2), ("wal/00000000_00001000.wal", 3)]);
        assert!(!proves(&db, "s3://r", &later), "somebody has written since");
        let text = fs::read_to_string(path_of(&db)).unwrap();
        fs::write(path_of(&db), text.replace("\"born_ns\":", "\"born_ns\":7")).unwrap();
        assert!(!proves(&db, "s3://r", &now), "another file");
        remove(&db).unwrap();
        remove(&db).unwrap();
        assert!(!proves(&db, "s3://r", &now));
    }
}

//! The origin of a database that was restored to an older state on purpose, in its place. The next run goes
//! on from that state, on top of the replica's newest position, instead of restoring the newest one. Pure.
//! The marker says what the newest position was, and which file was restored: once the replica has grown, or
//! another file is there, it proves nothing.

use super::file_times::FileTimes;
use crate::model::{Moment, Txid};
use crate::replica::{Listing, Tip};
use serde::{Deserialize, Serialize};

/// The newest that the replica holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// A position may be the end of several files: any of them says which one it is.
    Ltx { txid: u64, checksums: Vec<u64> },
    /// In the file it has the name `Old`, as earlier versions wrote it.
    #[serde(rename = "Old")]
    V3 { key: String },
}

impl Head {
    pub fn of(tip: &Tip) -> Head {
        Head::Ltx { txid: tip.txid.0, checksums: tip.files().map(|file| file.checksum.0).collect() }
    }

    /// Of a replica whose newest data are Litestream 0.3's.
    pub fn of_v3(listing: &Listing) -> Option<Head> {
        let newest = listing.v3.iter().max_by(|a, b| (a.modified_ms, &a.key).cmp(&(b.modified_ms, &b.key)));
        newest.map(|file| Head::V3 { key: file.key.clone() })
    }

    fn is(&self, other: &Head) -> bool {
        match (self, other) {
            (Head::Ltx { txid, checksums }, Head::Ltx { txid: at, checksums: found }) => {
                txid == at && checksums.iter().any(|checksum| found.contains(checksum))
            }
            (Head::V3 { key }, Head::V3 { key: found }) => key == found,
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackMarker {
    /// The newest that the replica held when the older state was restored.
    pub head: Head,
    /// The restored position; 0 for a state of Litestream 0.3.
    pub txid: u64,
    /// When it was committed.
    pub time_ms: i64,
    /// Of the restored database file; 0: the file system does not know.
    pub born_ns: u64,
    pub modified_ns: u64,
}

/// What a marker says about the local file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// The file is the restored one, and the replica has nothing newer.
    Valid,
    /// Another file is in its place, and the replica has nothing newer.
    OtherFile,
    /// The replica has newer positions.
    Outdated,
}

impl RollbackMarker {
    /// Of the file that was restored just now.
    pub fn new(head: Head, txid: Txid, time: Moment, file: Option<FileTimes>) -> RollbackMarker {
        let (modified_ns, born_ns) = file.map_or((0, 0), |file| (file.modified_ns, file.born_ns));
        RollbackMarker { head, txid: txid.0, time_ms: time.0, born_ns, modified_ns }
    }

    /// `head`: the newest that the replica holds now; `file`: the local file now.
    pub fn judge(&self, head: &Head, file: Option<FileTimes>) -> Rollback {
        if !self.head.is(head) {
            return Rollback::Outdated;
        }
        let same = file.is_some_and(|file| {
            file.born_ns == self.born_ns && (self.born_ns != 0 || file.modified_ns == self.modified_ns)
        });
        if same { Rollback::Valid } else { Rollback::OtherFile }
    }

    /// Which state was restored, for the log.
    pub fn describe(&self) -> String {
        match self.txid {
            0 => format!("the state of {}", Moment(self.time_ms)),
            txid => format!("TXID {}, committed at {}", Txid(txid), Moment(self.time_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::file_times;
    use crate::model::DbPath;
    use std::fs;

    #[test]
    fn only_that_file_on_top_of_that_position() {
        let head = |txid, checksum| Head::Ltx { txid, checksums: vec![1, checksum] };
        let file = |born_ns, modified_ns| Some(FileTimes { modified_ns, born_ns });
        let marker = RollbackMarker { head: head(9, 7), txid: 4, time_ms: 0, born_ns: 100, modified_ns: 200 };
        let nameless = RollbackMarker { born_ns: 0, ..marker.clone() };
        let v3 = RollbackMarker { head: Head::V3 { key: "k".into() }, txid: 0, ..marker.clone() };
        for (marker, head, file, verdict) in [
            (&marker, head(9, 7), file(100, 200), Rollback::Valid),
            // The app has written to it since.
            (&marker, head(9, 7), file(100, 999), Rollback::Valid),
            (&marker, head(9, 7), file(101, 200), Rollback::OtherFile),
            (&marker, head(9, 7), file(0, 200), Rollback::OtherFile),
            (&marker, head(9, 7), None, Rollback::OtherFile),
            (&marker, head(10, 7), file(100, 200), Rollback::Outdated),
            (&marker, Head::Ltx { txid: 9, checksums: vec![8] }, file(100, 200), Rollback::Outdated),
            (&marker, Head::Ltx { txid: 9, checksums: vec![8, 7] }, file(100, 200), Rollback::Valid),
            (&marker, Head::V3 { key: "k".into() }, file(100, 200), Rollback::Outdated),
            // Where no birth is known the file must be as it was left.
            (&nameless, head(9, 7), file(0, 200), Rollback::Valid),
            (&nameless, head(9, 7), file(0, 201), Rollback::OtherFile),
            (&v3, Head::V3 { key: "k".into() }, file(100, 200), Rollback::Valid),
            (&v3, Head::V3 { key: "l".into() }, file(100, 200), Rollback::Outdated),
        ] {
            assert_eq!(marker.judge(&head, file), verdict, "{marker:?} {head:?} {file:?}");
        }
    }

    #[test]
    fn another_file_in_its_place_is_told_by_its_birth() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        fs::write(db.as_path(), "x").unwrap();
        let head = Head::Ltx { txid: 9, checksums: vec![u64::MAX] };
        let marker = RollbackMarker::new(head.clone(), Txid(4), Moment(0), file_times(&db));
        assert_eq!(marker.judge(&head, file_times(&db)), Rollback::Valid);
        assert!(marker.describe().contains("TXID 0000000000000004"), "{}", marker.describe());
        // Another file, as soon as the file system's clock tells its birth from the first one's.
        let copy = DbPath::new(dir.path().join("copy"));
        let born = |db: &DbPath| {
            file_times(db).map(|look| (look.born_ns, if look.born_ns == 0 { look.modified_ns } else { 0 }))
        };
        for _ in 0..5000 {
            let _ = fs::remove_file(copy.as_path());
            fs::write(copy.as_path(), "x").unwrap();
            if born(&copy) != born(&db) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        fs::rename(copy.as_path(), db.as_path()).unwrap();
        assert_eq!(marker.judge(&head, file_times(&db)), Rollback::OtherFile);
    }
}

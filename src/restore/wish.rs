//! The mark of a database that was brought back to an older state on purpose, in its place:
//! `.NAME-litevisor/restored-on-purpose.json`. With it the next run goes on from that state, on top of the replica's newest
//! position, instead of bringing that one back. Owns writing and judging it. It says what the newest position was, and which
//! file was put there: once the replica has grown, or another file stands there, it proves nothing.

use crate::local_state::{self, LocalStateError, file_look};
use crate::model::lineage::FileLook;
use crate::model::{DbPath, Moment, Txid};
use crate::replica::{Listing, Tip};
use serde::{Deserialize, Serialize};
use std::fs;

const NAME: &str = "restored-on-purpose.json";

/// The newest that the replica holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// A position may be the end of several files: any of them says which one it is.
    Ltx {
        txid: u64,
        checksums: Vec<u64>,
    },
    Old {
        key: String,
    },
}

impl Head {
    pub fn of(tip: &Tip) -> Head {
        Head::Ltx { txid: tip.txid.0, checksums: tip.files().map(|file| file.checksum.0).collect() }
    }

    /// Of a replica whose newest data are Litestream 0.3's.
    pub fn of_old(listing: &Listing) -> Option<Head> {
        let newest = listing.old.iter().max_by(|a, b| (a.modified_ms, &a.key).cmp(&(b.modified_ms, &b.key)));
        newest.map(|file| Head::Old { key: file.key.clone() })
    }

    fn is(&self, other: &Head) -> bool {
        match (self, other) {
            (Head::Ltx { txid, checksums }, Head::Ltx { txid: at, checksums: found }) => {
                txid == at && checksums.iter().any(|checksum| found.contains(checksum))
            }
            (Head::Old { key }, Head::Old { key: found }) => key == found,
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    replica: String,
    head: Head,
    /// What was restored: 0 for Litestream 0.3's, and when it was committed.
    txid: u64,
    time_ms: i64,
    /// Of the database file; 0: the file system does not know.
    born_ns: u64,
    modified_ns: u64,
}

/// What a mark says about the file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the wished state, or what came of it, and nothing is newer in the replica.
    Holds,
    /// It is another file, and the replica is as it was.
    OtherFile,
    /// The replica has got newer positions, or it is another one.
    Passed,
}

impl Wish {
    fn judge(&self, replica: &str, head: &Head, file: Option<FileLook>) -> Verdict {
        if self.replica != replica || !self.head.is(head) {
            return Verdict::Passed;
        }
        let same = file.is_some_and(|file| {
            file.born_ns == self.born_ns && (self.born_ns != 0 || file.modified_ns == self.modified_ns)
        });
        if same { Verdict::Holds } else { Verdict::OtherFile }
    }

    /// What it is the state of.
    pub fn told(&self) -> String {
        match self.txid {
            0 => format!("the state of {}", Moment(self.time_ms)),
            txid => format!("TXID {}, committed at {}", Txid(txid), Moment(self.time_ms)),
        }
    }
}

/// To be called once the database is in place.
pub fn record(db: &DbPath, replica: &str, head: Head, txid: Txid, time: Moment) -> Result<(), LocalStateError> {
    let look = file_look(db).unwrap_or(FileLook { modified_ns: 0, born_ns: 0 });
    let FileLook { modified_ns, born_ns } = look;
    let wish = Wish { replica: replica.to_owned(), head, txid: txid.0, time_ms: time.0, born_ns, modified_ns };
    let text = serde_json::to_string(&wish).unwrap_or_default();
    local_state::note(db, NAME, &text)
}

/// The mark beside the database and what it says, the replica's newest being `head`. None: there is none.
pub fn look(db: &DbPath, replica: &str, head: &Head) -> Option<(Wish, Verdict)> {
    let text = fs::read(db.state_dir().join(NAME)).ok()?;
    let wish: Wish = serde_json::from_slice(&text).ok()?;
    let verdict = wish.judge(replica, head, file_look(db));
    Some((wish, verdict))
}

/// Forgets it, for a database file that is about to be another one.
pub fn remove(db: &DbPath) -> Result<(), LocalStateError> {
    local_state::forget_note(db, NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_that_file_on_top_of_that_position() {
        let head = |txid, checksum| Head::Ltx { txid, checksums: vec![1, checksum] };
        let file = |born_ns, modified_ns| Some(FileLook { modified_ns, born_ns });
        let wish =
            Wish { replica: "s3://r".into(), head: head(9, 7), txid: 4, time_ms: 0, born_ns: 100, modified_ns: 200 };
        let nameless = Wish { born_ns: 0, ..wish.clone() };
        let old = Wish { head: Head::Old { key: "k".into() }, txid: 0, ..wish.clone() };
        for (wish, replica, head, file, verdict) in [
            (&wish, "s3://r", head(9, 7), file(100, 200), Verdict::Holds),
            // The app has written to it since.
            (&wish, "s3://r", head(9, 7), file(100, 999), Verdict::Holds),
            (&wish, "s3://r", head(9, 7), file(101, 200), Verdict::OtherFile),
            (&wish, "s3://r", head(9, 7), file(0, 200), Verdict::OtherFile),
            (&wish, "s3://r", head(9, 7), None, Verdict::OtherFile),
            (&wish, "s3://r", head(10, 7), file(100, 200), Verdict::Passed),
            (&wish, "s3://r", Head::Ltx { txid: 9, checksums: vec![8] }, file(100, 200), Verdict::Passed),
            (&wish, "s3://r", Head::Ltx { txid: 9, checksums: vec![8, 7] }, file(100, 200), Verdict::Holds),
            (&wish, "s3://other", head(9, 7), file(100, 200), Verdict::Passed),
            (&wish, "s3://r", Head::Old { key: "k".into() }, file(100, 200), Verdict::Passed),
            // Where no birth is known the file must be as it was left.
            (&nameless, "s3://r", head(9, 7), file(0, 200), Verdict::Holds),
            (&nameless, "s3://r", head(9, 7), file(0, 201), Verdict::OtherFile),
            (&old, "s3://r", Head::Old { key: "k".into() }, file(100, 200), Verdict::Holds),
            (&old, "s3://r", Head::Old { key: "l".into() }, file(100, 200), Verdict::Passed),
        ] {
            assert_eq!(wish.judge(replica, &head, file), verdict, "{wish:?} {replica} {head:?} {file:?}");
        }
    }

    #[test]
    fn it_is_kept_beside_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        fs::write(db.as_path(), "x").unwrap();
        let head = Head::Ltx { txid: 9, checksums: vec![u64::MAX] };
        assert!(look(&db, "r", &head).is_none());
        record(&db, "r", head.clone(), Txid(4), Moment(0)).unwrap();
        let (wish, verdict) = look(&db, "r", &head).unwrap();
        assert_eq!(verdict, Verdict::Holds);
        assert!(wish.told().contains("TXID 0000000000000004"), "{}", wish.told());
        // Another file, as soon as the file system's clock tells its birth from the first one's.
        let copy = DbPath::new(dir.path().join("copy"));
        let born = |db: &DbPath| {
            file_look(db).map(|look| (look.born_ns, if look.born_ns == 0 { look.modified_ns } else { 0 }))
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
        assert_eq!(look(&db, "r", &head).unwrap().1, Verdict::OtherFile);
        remove(&db).unwrap();
        remove(&db).unwrap();
        assert!(look(&db, "r", &head).is_none());
    }
}

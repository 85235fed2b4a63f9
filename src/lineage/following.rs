//! The mark of a file that follows its replica (`restore/follow`): what is being written over the recorded
//! position, and what SQLite has changed in page 1. Pure.

use crate::model::{DbChecksum, Txid};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowMark {
    /// None: the file stands at the recorded position.
    #[serde(default)]
    pub step: Option<FollowStep>,
    /// What the replica's page 1 has where SQLite has written its own. None: the file has the replica's page
    /// 1.
    #[serde(default)]
    pub commit_fields: Option<CommitFields>,
}

/// A file of the replica that is being applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowStep {
    /// The TXID that it leads to.
    pub txid: u64,
    /// True: page by page, so that the database is of no position until the step is done. False: in one
    /// transaction.
    pub in_place: bool,
    /// What `commit_fields` will be.
    #[serde(default)]
    pub commit_fields: Option<CommitFields>,
    /// Of the whole database after it.
    pub db_checksum: u64,
    /// Of the file, from its trailer.
    pub file_checksum: u64,
}

/// The fields of page 1 that SQLite writes with every commit in WAL mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitFields {
    /// Bytes 24 to 27.
    pub change_counter: [u8; 4],
    /// Bytes 92 to 99: the change counter for which the next field is valid, and the version of SQLite.
    pub version: [u8; 8],
}

impl CommitFields {
    const COUNTER: std::ops::Range<usize> = 24..28;
    const VERSION: std::ops::Range<usize> = 92..100;

    /// Of a page 1; None: it is too short.
    pub fn of(page: &[u8]) -> Option<CommitFields> {
        let change_counter = page.get(Self::COUNTER)?.first_chunk().copied()?;
        let version = page.get(Self::VERSION)?.first_chunk().copied()?;
        Some(CommitFields { change_counter, version })
    }

    /// Makes page 1 what it is in the replica.
    pub fn put(&self, page: &mut [u8]) {
        if let Some(field) = page.get_mut(Self::COUNTER) {
            field.copy_from_slice(&self.change_counter);
        }
        if let Some(field) = page.get_mut(Self::VERSION) {
            field.copy_from_slice(&self.version);
        }
    }
}

impl FollowMark {
    /// The position whose pages may be in the file in part; None: the file is whole.
    pub fn torn(&self) -> Option<Txid> {
        self.step.filter(|step| step.in_place).map(|step| Txid(step.txid))
    }
}

impl FollowStep {
    pub fn checksum(&self) -> Option<DbChecksum> {
        DbChecksum::from_header(self.db_checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_fields_are_where_sqlite_has_them() {
        let page: Vec<u8> = (0..=255).collect();
        let fields = CommitFields::of(&page).unwrap();
        assert_eq!(fields.change_counter, [24, 25, 26, 27]);
        assert_eq!(fields.version, [92, 93, 94, 95, 96, 97, 98, 99]);
        let mut other = vec![0; 256];
        fields.put(&mut other);
        assert_eq!(CommitFields::of(&other), Some(fields));
        assert_eq!(other.iter().filter(|byte| **byte != 0).count(), 12);
        assert_eq!(CommitFields::of(&page[..99]), None);
    }

    #[test]
    fn only_a_step_in_place_tears_the_file() {
        let step = |in_place| FollowStep {
            txid: 7,
            in_place,
            commit_fields: None,
            db_checksum: 1 << 63,
            file_checksum: 1 << 63,
        };
        for (step, torn) in [(None, None), (Some(step(false)), None), (Some(step(true)), Some(Txid(7)))] {
            assert_eq!(FollowMark { step, commit_fields: None }.torn(), torn);
        }
    }
}

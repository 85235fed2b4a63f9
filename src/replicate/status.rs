//! What one database's task has reached; shared with whoever wants to know.

use crate::model::{Captured, Txid, Uploaded};
use std::sync::{Mutex, PoisonError};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub captured: Captured,
    pub uploaded: Uploaded,
    /// Bytes sent to the replica in this run.
    pub bytes: u64,
    /// The app has not made its database.
    pub absent: bool,
    /// Why replication does not get on right now.
    pub problem: Option<String>,
    /// Captured, not uploaded, and on this disk outside of the WAL.
    pub spilled_bytes: u64,
    /// Why the WAL grows past its limit, if it does.
    pub wal_grows: Option<String>,
    /// Another writer holds the replica: replication has stopped for good.
    pub fenced: Option<String>,
    /// It is not another writer, but a history that this late database does not continue.
    pub refused: bool,
}

#[derive(Default)]
pub struct StatusCell(Mutex<Status>);

impl StatusCell {
    pub fn read(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn uploaded(&self, txid: Txid) {
        self.update(|status| {
            status.uploaded = Uploaded(txid);
            status.problem = None;
        });
    }
}

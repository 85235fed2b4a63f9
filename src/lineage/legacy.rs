//! The files in which earlier versions kept the origin of a database, beside `state.json`:
//! `restored-on-purpose.json` and `restored-from-0.3.json`. They are read, and removed once the state file
//! says the origin.

use super::record::{LocalState, Origin};
use super::rollback::{Head, RollbackMarker};
use super::v3_marker::V3Marker;
use crate::local_state::{self, LocalStateError};
use crate::model::DbPath;
use serde::Deserialize;
use serde::de::DeserializeOwned;

const ROLLED_BACK: &str = "restored-on-purpose.json";
const FROM_V3: &str = "restored-from-0.3.json";

#[derive(Deserialize)]
struct File<Marker> {
    replica: String,
    #[serde(flatten)]
    marker: Marker,
}

/// What such a file says: the replica and the origin.
pub struct Legacy {
    pub replica: String,
    pub origin: Origin,
}

impl Legacy {
    /// The origin of the file that `state`, of an earlier version, is about.
    pub fn applies_to(&self, state: &LocalState) -> bool {
        let passed = match &self.origin {
            Origin::RolledBack(RollbackMarker { head: Head::Ltx { txid, .. }, .. }) => state.acked.0 > *txid,
            _ => false,
        };
        self.replica == state.replica && !passed
    }
}

pub fn read(db: &DbPath) -> Option<Legacy> {
    let rolled_back = note(db, ROLLED_BACK)
        .map(|File { replica, marker }| Legacy { replica, origin: Origin::RolledBack(marker) });
    rolled_back.or_else(|| {
        note::<V3Marker>(db, FROM_V3)
            .map(|File { replica, marker }| Legacy { replica, origin: Origin::V3(marker) })
    })
}

fn note<Marker: DeserializeOwned>(db: &DbPath, name: &str) -> Option<File<Marker>> {
    let read = local_state::read_note(db, name).inspect_err(|error| tracing::warn!(%db, "{error}"));
    serde_json::from_slice(&read.ok().flatten()?).ok()
}

pub fn remove(db: &DbPath) -> Result<(), LocalStateError> {
    let removed = local_state::remove_note(db, ROLLED_BACK);
    local_state::remove_note(db, FROM_V3)?;
    removed
}

#[cfg(test)]
mod tests;

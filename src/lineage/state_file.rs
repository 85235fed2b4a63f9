//! The state file of a database (`.NAME-litevisor/state.json`, or below `meta_dir`): read, replaced, removed.
//! What this run has recorded is valid until the process ends, also when the file cannot be written (full
//! disk) or the app removes the directory.

use super::legacy;
use super::record::{LocalState, StateTextError};
use crate::local_state::{self, LocalStateError, RECORD, place};
use crate::model::DbPath;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What this run has recorded.
static RECORDED: Mutex<BTreeMap<DbPath, LocalState>> = Mutex::new(BTreeMap::new());

fn recorded() -> MutexGuard<'static, BTreeMap<DbPath, LocalState>> {
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    #[error(transparent)]
    File(#[from] LocalStateError),
    #[error("cannot use {}: {source}", .path.display())]
    Text { path: PathBuf, source: StateTextError },
}

fn path_of(db: &DbPath) -> PathBuf {
    place::of(db).join(RECORD)
}

/// The recorded state of the database; None when nothing is recorded.
pub fn load(db: &DbPath) -> Result<Option<LocalState>, StateFileError> {
    if let Some(state) = recorded().get(db) {
        return Ok(Some(state.clone()));
    }
    let parsed = local_state::read_note(db, RECORD)?.map(|text| LocalState::parse_any(&text)).transpose();
    match parsed {
        Ok(Some((state, true))) => Ok(Some(state)),
        Ok(Some((state, false))) => {
            let legacy = legacy::read(db).filter(|legacy| legacy.applies_to(&state));
            Ok(Some(legacy.map_or(state.clone(), |legacy| LocalState { origin: legacy.origin, ..state })))
        }
        Ok(None) => Ok(legacy_alone(db)),
        Err(source) => {
            let error = StateFileError::Text { path: path_of(db), source };
            let Some(state) = legacy_alone(db) else { return Err(error) };
            tracing::warn!(%db, "{error}");
            Ok(Some(state))
        }
    }
}

fn legacy_alone(db: &DbPath) -> Option<LocalState> {
    let legacy = legacy::read(db)?;
    Some(LocalState::without_position(&legacy.replica, new_node_id(), legacy.origin))
}

/// Replaces the record in one step; creates the directory. If the file cannot be written, this run uses the
/// new record all the same. The origin stays until a position of the file is confirmed.
pub fn store(db: &DbPath, state: &LocalState) -> Result<(), StateFileError> {
    replace(db, state, local_state::write_note)
}

/// The same, and the record is there after a power failure.
pub fn store_durably(db: &DbPath, state: &LocalState) -> Result<(), StateFileError> {
    replace(db, state, local_state::write_note_durably)
}

type WriteNote = fn(&DbPath, &str, &str) -> Result<(), LocalStateError>;

fn replace(db: &DbPath, state: &LocalState, write_note: WriteNote) -> Result<(), StateFileError> {
    let before = recorded().get(db).cloned();
    let first = before.is_none();
    let before = before.or_else(|| load(db).unwrap_or_default());
    let state = before.map_or_else(|| state.clone(), |before| state.clone().with_origin_of(&before));
    recorded().insert(db.clone(), state.clone());
    write(db, &state, write_note)?;
    if first && let Err(error) = legacy::remove(db) {
        tracing::debug!(%db, "{error}");
    }
    Ok(())
}

fn write(db: &DbPath, state: &LocalState, write_note: WriteNote) -> Result<(), StateFileError> {
    let text = state.to_text().map_err(|source| StateFileError::Text { path: path_of(db), source })?;
    Ok(write_note(db, RECORD, &text)?)
}

/// Removes the record, for a database file that is about to be replaced.
pub fn remove(db: &DbPath) -> Result<(), StateFileError> {
    recorded().remove(db);
    let removed = local_state::remove_note(db, RECORD);
    legacy::remove(db)?;
    Ok(removed?)
}

/// Forgets what this run has recorded, as the end of the process does: only the file is left. Another process
/// may write it next.
pub fn forget(db: &DbPath) {
    recorded().remove(db);
}

/// A run's node id: random, never 0 (which is Litestream's).
pub fn new_node_id() -> u64 {
    // Every `RandomState` carries keys from the operating system's randomness.
    RandomState::new().hash_one(std::process::id()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::record::Origin;
    use crate::model::{PageSize, Txid};
    use std::fs;

    fn at(txid: u64) -> LocalState {
        LocalState {
            replica: "file:///r".into(),
            node_id: new_node_id(),
            acked: Txid(txid),
            sent: Txid(txid),
            tip_checksum: None,
            page_size: PageSize::new(512).unwrap(),
            wal: Default::default(),
            wal_sent: Default::default(),
            db_checksum: None,
            file: None,
            spilled: None,
            origin: Origin::Continued,
            app_locks_exclusively: false,
        }
    }

    #[test]
    fn stored_replaced_loaded_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        assert!(load(&db).unwrap().is_none());
        remove(&db).unwrap();
        let mut state = at(1);
        store(&db, &state).unwrap();
        state.sent = Txid(2);
        store(&db, &state).unwrap();
        assert_eq!(load(&db).unwrap(), Some(state.clone()));
        forget(&db);
        assert_eq!(load(&db).unwrap(), Some(state));
        fs::write(path_of(&db), "{").unwrap();
        forget(&db);
        assert!(matches!(load(&db), Err(StateFileError::Text { .. })));
        remove(&db).unwrap();
        assert!(load(&db).unwrap().is_none());
    }

    #[test]
    fn the_record_of_this_run_is_valid_whatever_happens_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        let (first, second) = (at(1), at(2));
        store(&db, &first).unwrap();
        // Nothing can be created where a directory stands.
        let temporary = db.state_dir().join("state.json.tmp");
        fs::create_dir(&temporary).unwrap();
        assert!(store(&db, &second).is_err());
        assert_eq!(
            load(&db).unwrap(),
            Some(second.clone()),
            "the older record must not pass for the present one"
        );
        fs::remove_dir_all(db.state_dir()).unwrap();
        assert_eq!(load(&db).unwrap(), Some(second));
        store(&db, &first).unwrap();
        forget(&db);
        assert_eq!(load(&db).unwrap(), Some(first));
        remove(&db).unwrap();
        assert!(load(&db).unwrap().is_none());
    }

    #[test]
    fn node_ids_differ() {
        assert_ne!(new_node_id(), new_node_id());
    }
}

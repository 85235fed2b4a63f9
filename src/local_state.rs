//! The state file beside a database (`.NAME-litevisor/state.json`). Owns: reading and replacing it. Never: decides what
//! it means. Not synced to disk: after a power cut it may be old or missing, which costs a restore and nothing else.

pub mod spill;

use crate::model::DbPath;
use crate::model::lineage::{FileLook, LocalState, StateTextError};
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

#[derive(Debug, thiserror::Error)]
pub enum LocalStateError {
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot use {}: {source}", .path.display())]
    Text { path: PathBuf, source: StateTextError },
}

fn path_of(db: &DbPath) -> PathBuf {
    db.state_dir().join("state.json")
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LocalStateError + 'a {
    move |source| LocalStateError::Io { operation, path: path.to_owned(), source }
}

/// The state of the file at `db`; None when there is none.
pub fn load(db: &DbPath) -> Result<Option<LocalState>, LocalStateError> {
    let path = path_of(db);
    match fs::read(&path) {
        Ok(text) => LocalState::parse(&text).map(Some).map_err(|source| LocalStateError::Text { path, source }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// Replaces the state in one step; creates the directory.
pub fn store(db: &DbPath, state: &LocalState) -> Result<(), LocalStateError> {
    let path = path_of(db);
    let text = state.to_text().map_err(|source| LocalStateError::Text { path: path.clone(), source })?;
    let directory = db.state_dir();
    fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
    let new = directory.join("state.json.tmp");
    fs::write(&new, text).map_err(failed("write", &new))?;
    fs::rename(&new, &path).map_err(failed("replace", &path))
}

/// Forgets the state, for a database file that is about to be another one.
pub fn remove(db: &DbPath) -> Result<(), LocalStateError> {
    let path = path_of(db);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// The database file as it looks now; None: there is none. `stat` alone.
pub fn file_look(db: &DbPath) -> Option<FileLook> {
    let meta = fs::metadata(db.as_path()).ok()?;
    let ns = |time: io::Result<SystemTime>| {
        let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or_default()
    };
    Some(FileLook { modified_ns: ns(meta.modified()), born_ns: ns(meta.created()) })
}

/// A run's node id: random, never 0 (which is Litestream's).
pub fn new_node_id() -> u64 {
    // Every `RandomState` carries keys from the operating system's randomness.
    RandomState::new().hash_one(std::process::id()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PageSize, Txid};

    #[test]
    fn stored_replaced_loaded_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        assert!(load(&db).unwrap().is_none());
        remove(&db).unwrap();
        let mut state = LocalState {
            replica: "file:///r".into(),
            node_id: new_node_id(),
            acked: Txid(1),
            sent: Txid(1),
            tip_checksum: None,
            page_size: PageSize::new(512).unwrap(),
            wal: Default::default(),
            wal_sent: Default::default(),
            db_checksum: None,
            file: None,
            spilled: None,
        };
        store(&db, &state).unwrap();
        state.sent = Txid(2);
        store(&db, &state).unwrap();
        assert_eq!(load(&db).unwrap(), Some(state));
        fs::write(path_of(&db), "{").unwrap();
        assert!(matches!(load(&db), Err(LocalStateError::Text { .. })));
        remove(&db).unwrap();
        assert!(load(&db).unwrap().is_none());
    }

    #[test]
    fn node_ids_differ() {
        assert_ne!(new_node_id(), new_node_id());
    }
}

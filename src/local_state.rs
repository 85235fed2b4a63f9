//! The state file beside a database (`.NAME-litevisor/state.json`). Owns: reading and replacing it. Never: decides what
//! it means. Not synced to disk: after a power cut it may be old or missing, which costs a restore and nothing else.
//! What this run has recorded counts until its end, whatever becomes of the file: a full disk refuses it, the app may
//! throw its whole directory away.

pub mod spill;

use crate::model::DbPath;
use crate::model::lineage::{FileLook, LocalState, StateTextError};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

const STATE: &str = "state.json";

/// What this run has recorded.
static RECORDED: Mutex<BTreeMap<DbPath, LocalState>> = Mutex::new(BTreeMap::new());

fn recorded() -> MutexGuard<'static, BTreeMap<DbPath, LocalState>> {
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, thiserror::Error)]
pub enum LocalStateError {
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot use {}: {source}", .path.display())]
    Text { path: PathBuf, source: StateTextError },
}

fn path_of(db: &DbPath) -> PathBuf {
    db.state_dir().join(STATE)
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LocalStateError + 'a {
    move |source| LocalStateError::Io { operation, path: path.to_owned(), source }
}

/// The state of the file at `db`; None when there is none.
pub fn load(db: &DbPath) -> Result<Option<LocalState>, LocalStateError> {
    if let Some(state) = recorded().get(db) {
        return Ok(Some(state.clone()));
    }
    let path = path_of(db);
    match fs::read(&path) {
        Ok(text) => LocalState::parse(&text).map(Some).map_err(|source| LocalStateError::Text { path, source }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// Replaces the state in one step; creates the directory. On failure this run goes on with it all the same.
pub fn store(db: &DbPath, state: &LocalState) -> Result<(), LocalStateError> {
    recorded().insert(db.clone(), state.clone());
    write(db, state)
}

fn write(db: &DbPath, state: &LocalState) -> Result<(), LocalStateError> {
    let text = state.to_text().map_err(|source| LocalStateError::Text { path: path_of(db), source })?;
    note(db, STATE, &text)
}

/// Replaces another file of that directory in the same way.
pub fn note(db: &DbPath, name: &str, text: &str) -> Result<(), LocalStateError> {
    let path = db.state_dir().join(name);
    create_directory(db)?;
    let new = db.state_dir().join(format!("{name}.tmp"));
    // The directory may belong to the app's user, and we may be root: nothing that it left there is followed.
    absent_ok(fs::remove_file(&new)).map_err(failed("replace", &new))?;
    let mut file = fs::File::create_new(&new).map_err(failed("create", &new))?;
    file.write_all(text.as_bytes()).map_err(failed("write", &new))?;
    fs::rename(&new, &path).map_err(failed("replace", &path))
}

/// With the owner of the database, so that a later run as that user can write there.
fn create_directory(db: &DbPath) -> Result<(), LocalStateError> {
    let directory = db.state_dir();
    match fs::create_dir(&directory) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(&directory).map_err(failed("look at", &directory))?;
            let link = || failed("use", &directory)(io::Error::other("it is no directory"));
            return if meta.is_dir() { Ok(()) } else { Err(link()) };
        }
        Err(error) => return Err(failed("create", &directory)(error)),
    }
    let owner = fs::metadata(db.as_path()).or_else(|_| fs::metadata(db.directory()));
    // Only root may give files away, and only root needs to.
    if let Ok(owner) = owner {
        let _ = lchown(&directory, Some(owner.uid()), Some(owner.gid()));
    }
    Ok(())
}

/// Forgets the state, for a database file that is about to be another one.
pub fn remove(db: &DbPath) -> Result<(), LocalStateError> {
    recorded().remove(db);
    forget_note(db, STATE)
}

/// Removes a file of that directory, if it is there.
pub fn forget_note(db: &DbPath, name: &str) -> Result<(), LocalStateError> {
    let path = db.state_dir().join(name);
    absent_ok(fs::remove_file(&path)).map_err(failed("remove", &path))
}

/// As the end of this process would: only the file is left.
#[cfg(test)]
pub fn end_of_process(db: &DbPath) {
    recorded().remove(db);
}

fn absent_ok(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
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
        next_run(&db);
        assert_eq!(load(&db).unwrap(), Some(state));
        fs::write(path_of(&db), "{").unwrap();
        assert!(matches!(load(&db), Err(LocalStateError::Text { .. })));
        remove(&db).unwrap();
        assert!(load(&db).unwrap().is_none());
    }

    fn next_run(db: &DbPath) {
        recorded().remove(db);
    }

    #[test]
    fn what_this_run_recorded_counts_whatever_becomes_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        let (first, second) = (at(1), at(2));
        store(&db, &first).unwrap();
        // Nothing can be created where a directory stands.
        let temporary = db.state_dir().join("state.json.tmp");
        fs::create_dir(&temporary).unwrap();
        assert!(store(&db, &second).is_err());
        assert_eq!(load(&db).unwrap(), Some(second.clone()), "the older record must not pass for the present one");
        fs::remove_dir_all(db.state_dir()).unwrap();
        assert_eq!(load(&db).unwrap(), Some(second));
        store(&db, &first).unwrap();
        next_run(&db);
        assert_eq!(load(&db).unwrap(), Some(first));
        remove(&db).unwrap();
        assert!(load(&db).unwrap().is_none());
    }

    /// The app's user may write beside the database; we may be root.
    #[test]
    fn links_in_the_way_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (db, victim) = (DbPath::new(dir.path().join("app.db")), dir.path().join("victim"));
        fs::write(&victim, "mine").unwrap();
        fs::create_dir(db.state_dir()).unwrap();
        std::os::unix::fs::symlink(&victim, db.state_dir().join("state.json.tmp")).unwrap();
        store(&db, &at(1)).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        fs::remove_dir_all(db.state_dir()).unwrap();
        std::os::unix::fs::symlink(dir.path(), db.state_dir()).unwrap();
        assert!(store(&db, &at(1)).is_err());
        assert!(!dir.path().join("state.json").exists());
        remove(&db).unwrap();
    }

    #[test]
    fn node_ids_differ() {
        assert_ne!(new_node_id(), new_node_id());
    }
}

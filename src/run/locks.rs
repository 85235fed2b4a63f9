//! Locks the databases of this process before anything is done with them, so that a second litevisor on the
//! same file neither changes it nor fences the first one. The locks last as long as the process.

use super::messages::StartFailure;
use crate::local_state::lock::{self, Taken};
use crate::model::DbPath;
use crate::restore::restored_by_another;
use crate::sqlite::{files, users};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The holder may be ending (a container that is replaced, a service that is restarted): it has this long.
const WAIT: Duration = Duration::from_secs(2);
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Another litevisor has the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherOwner {
    /// It has the lock.
    Locked(Taken),
    /// Its lock file was deleted, or is in another `meta_dir`; it has the database open.
    Open { db: DbPath, by: String },
}

impl fmt::Display for OtherOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OtherOwner::Locked(taken) => taken.fmt(f),
            OtherOwner::Open { db, by } => write!(f, "{db} belongs to a litevisor that is running ({by})"),
        }
    }
}

/// Takes the lock of one database, if it is free.
pub fn lock(db: &DbPath, socket: &str) -> Result<(), OtherOwner> {
    lock::hold(db, socket).map_err(OtherOwner::Locked)?;
    match owner_of_open(db) {
        None => Ok(()),
        Some(owned) => {
            lock::release(db);
            Err(owned)
        }
    }
}

/// The other litevisor that has the database, if there is one. Takes no lock, creates no file.
pub fn owner(db: &DbPath) -> Option<OtherOwner> {
    lock::holder(db).map(OtherOwner::Locked).or_else(|| owner_of_open(db))
}

fn owner_of_open(db: &DbPath) -> Option<OtherOwner> {
    let open = || users::users(db.as_path()).map(|users| users.to_string()).unwrap_or_default();
    let by = match files::replicated_by_another(db.as_path()) {
        true => open(),
        false if restored_by_another(db) => "it restores the database now".to_owned(),
        false => return None,
    };
    Some(OtherOwner::Open { db: db.clone(), by })
}

/// Takes the locks of all databases, or of none. Waits up to `WAIT` for a holder that is ending.
pub async fn lock_all(databases: Vec<DbPath>, socket: Arc<str>) -> Result<(), StartFailure> {
    let begun = Instant::now();
    loop {
        let wanted = databases.clone();
        let socket = Arc::clone(&socket);
        let tried =
            tokio::task::spawn_blocking(move || wanted.iter().try_for_each(|db| lock(db, &socket))).await;
        let owned = match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(owned)) => owned,
            Err(error) => return Err(StartFailure::Local(format!("internal error: {error}"))),
        };
        if begun.elapsed() >= WAIT {
            databases.iter().for_each(lock::release);
            return Err(StartFailure::Busy(refusal(&owned)));
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// The error message, with what to do.
pub fn refusal(owned: &OtherOwner) -> String {
    format!(
        "{owned}: two of them would take the replica from each other. Stop that one first, or give this one \
         other databases. `litevisor status` and `litevisor sync` work with the running one"
    )
}

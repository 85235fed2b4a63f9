//! Whether an app uses a database with `PRAGMA locking_mode = EXCLUSIVE`: it then locks the whole database
//! from its first statement to its end, and cannot open it while another process has a connection. Takes no
//! lock; has the rights of the directory's owner.

use super::files::{self, User};
use crate::model::DbPath;
use crate::rights;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A lock on the whole database that lasts this long is not a commit in rollback mode.
pub const LASTS: Duration = Duration::from_secs(2);

/// What another process locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeLock {
    None,
    /// The whole database; perhaps for the moment of one commit.
    Some,
    /// In WAL mode, without a wal-index: only exclusive locking does without it.
    Exclusive,
}

pub fn whole_lock(db: &DbPath) -> WholeLock {
    if !files::locked_whole_by_another(db.as_path()) {
        return WholeLock::None;
    }
    let there = |path: &Path| rights::within(db, || path.symlink_metadata().is_ok());
    if there(&db.wal()) && !there(&db.shm()) { WholeLock::Exclusive } else { WholeLock::Some }
}

/// The other process that wants to lock the whole database and cannot, because a session of ours has it open.
/// For a moment that is also what a process looks like that opens or closes its last connection. None as
/// well: no session has the database open.
pub fn claimant(db: &DbPath) -> Option<User> {
    files::claimant(&*files::kept(db.as_path())?, &*files::kept(&db.shm())?)
}

/// Whether another process uses the wal-index, while a session of ours has the database open.
pub fn index_used_by_another(db: &DbPath) -> bool {
    files::kept(&db.shm()).is_some_and(|index| files::index_used_by_another(&index))
}

/// Lets other processes lock the whole database, once no connection of ours is open.
pub fn make_way(db: &DbPath) {
    if let Some(file) = files::kept(db.as_path()) {
        files::unguard(&file);
    }
}

/// Whether another process shares the database: it uses the wal-index, has written to the WAL after `since`,
/// and has not locked the whole database for that. (An app that sets the pragma after its first statement has
/// the wal-index, and locks before it writes.) litevisor must have no connection open: its locks on the
/// wal-index would be lost.
pub fn is_shared(db: &DbPath, since: SystemTime) -> bool {
    let written =
        |path: &Path| path.metadata().and_then(|meta| Ok(meta.len() > 0 && meta.modified()? >= since));
    rights::within(db, || {
        written(&db.wal()).unwrap_or(false)
            && rights::read(&db.shm()).is_ok_and(|index| files::index_used_by_another(&index))
            && !files::locked_whole_by_another(db.as_path())
    })
}

//! Whether a session of litevisor keeps an app out of its database: an app that wants to lock the whole of it
//! (`PRAGMA locking_mode = EXCLUSIVE`) and meets a connection of ours. The app comes first: the session then
//! ends.
//!
//! Two signs, of which each must last. An app that waits, or keeps its connection after the error, shows in
//! SQLite's locks. An app that closes its connection at once has closed the database file and never the
//! `-shm`, which each app that shares a database opens with its first statement. A wrong answer costs a pause
//! of replication until the app uses the `-shm`, and no commit.

use super::signs::Signs;
use super::status::StatusCell;
use crate::model::DbPath;
use crate::sqlite::exclusive;
use std::time::Duration;

/// So many looks at the locks, all of which must show the same process.
const LOOKS: u32 = 16;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// Until the app is kept out of its database.
pub async fn locked_out(db: &DbPath, status: &StatusCell) {
    loop {
        status.lockout_suspected().await;
        if is_shown_by_locks(db, status).await || is_shown_by_closings(db, status).await {
            return;
        }
    }
}

async fn is_shown_by_locks(db: &DbPath, status: &StatusCell) -> bool {
    let Some(first) = exclusive::claimant(db) else { return false };
    for _ in 0..LOOKS {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        if exclusive::claimant(db) != Some(first) {
            return false;
        }
    }
    !status.signs(|signs| signs.ended)
}

async fn is_shown_by_closings(db: &DbPath, status: &StatusCell) -> bool {
    if !status.signs(|signs| signs.is_refused_again()) {
        return false;
    }
    if exclusive::index_used_by_another(db) {
        status.signs(Signs::shared);
        return false;
    }
    // A process that has closed the `-shm` since was reported by now.
    tokio::time::sleep(BETWEEN_LOOKS * LOOKS).await;
    status.signs(|signs| signs.is_refused_again()) && !exclusive::index_used_by_another(db)
}

//! While another instance had the replica, it has grown: applies what came to the databases that were restored before. What cannot be
//! brought up to date so is restored anew by the preparation that follows.

use super::ownership::Replicated;
use crate::model::{DbPath, Deadline, threads};
use crate::restore::RestoreSettings;
use crate::restore::follow::{FollowError, Followed, Follower, Way};
use crate::store::Store;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Databases at once. Each reads its whole file.
const AT_ONCE: usize = 8;

pub async fn catch_up(databases: Vec<Replicated>, settings: RestoreSettings) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut following = JoinSet::new();
    for (db, store) in databases {
        let settings = settings.clone();
        let turns = Arc::clone(&turns);
        following.spawn(async move {
            let _turn = turns.acquire().await;
            match follow(&db, store, settings).await {
                Ok(Followed { files: 0, .. }) => {}
                Ok(followed) => {
                    let files = followed.files;
                    let bytes = followed.bytes;
                    tracing::info!(%db, files, bytes, txid = %followed.position, "caught up with the replica");
                }
                Err(why) => tracing::info!(%db, "not caught up, but restored: {why}"),
            }
        });
    }
    while let Some(done) = following.join_next().await {
        if let Err(error) = done {
            tracing::warn!("catching up ended early: {}", threads::describe_task_failure(&error));
        }
    }
}

async fn follow(db: &DbPath, store: Arc<dyn Store>, settings: RestoreSettings) -> Result<Followed, FollowError> {
    let by = Deadline::after(settings.timeout);
    Follower::open(db, store, settings, Way::InPlace).await?.poll(None, by).await
}

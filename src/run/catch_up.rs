//! While another instance has the replica, it grows: applies what came to the databases that were restored
//! before, also while this instance waits, so that little is left when the replica is released. A database
//! that cannot be brought up to date so is restored anew by the preparation that follows.

use crate::model::log_throttle::LogThrottle;
use crate::model::{DbPath, Deadline, threads};
use crate::observe::StatusRegistry;
use crate::restore::follow::{FollowError, Followed, Follower, Way};
use crate::restore::{RestoreError, RestoreSettings};
use crate::sqlite::alone;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// Databases at once. Each reads its whole file the first time.
const AT_ONCE: usize = 8;

/// A database and its replica.
pub type Replicated = (DbPath, Arc<dyn Store>);

/// The databases, as far as they are caught up.
pub struct CatchUp {
    copies: Vec<Copy>,
    settings: RestoreSettings,
    /// Is told where the copies are.
    registry: Option<Arc<StatusRegistry>>,
}

struct Copy {
    db: DbPath,
    store: Arc<dyn Store>,
    follower: Option<Follower>,
    /// To be restored anew.
    is_left: bool,
    /// Files and bytes that were applied.
    files: usize,
    bytes: u64,
    throttle: LogThrottle,
}

impl CatchUp {
    pub fn new(
        databases: Vec<Replicated>,
        settings: RestoreSettings,
        registry: Option<Arc<StatusRegistry>>,
    ) -> CatchUp {
        let copy = |(db, store)| Copy {
            db,
            store,
            follower: None,
            is_left: false,
            files: 0,
            bytes: 0,
            throttle: LogThrottle::default(),
        };
        CatchUp { copies: databases.into_iter().map(copy).collect(), settings, registry }
    }

    /// Follows the replica every `every`, until it is asked for, and not before `before` has ended. No file
    /// may be open, and none is changed by another process.
    pub fn while_waiting(self, every: Duration, before: Option<Waiting>) -> Waiting {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                before.end().await;
            }
            let mut catch_up = self.leave_unfinished().await;
            loop {
                catch_up = catch_up.poll(false).await;
                tokio::select! {
                    _ = &mut stopped => return catch_up,
                    () = tokio::time::sleep(every) => {}
                }
            }
        });
        Waiting { stop: Some(stop), task }
    }

    /// Applies what is there now. After it, no file is open.
    pub async fn finish(self) {
        let _ = self.poll(true).await;
    }

    /// A database with a WAL may have commits that no replica has: it is not touched before it is known who
    /// had the replica.
    async fn leave_unfinished(mut self) -> CatchUp {
        let databases: Vec<DbPath> = self.copies.iter().map(|copy| copy.db.clone()).collect();
        let look =
            move || databases.iter().map(|db| alone::is_complete(db).unwrap_or(false)).collect::<Vec<_>>();
        let complete = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let complete = complete.into_iter().chain(std::iter::repeat(false));
        self.copies.iter_mut().zip(complete).for_each(|(copy, complete)| copy.is_left = !complete);
        self
    }

    async fn poll(self, last: bool) -> CatchUp {
        let CatchUp { copies, settings, registry } = self;
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut polls = JoinSet::new();
        for mut copy in copies {
            let settings = settings.clone();
            let (turns, registry) = (Arc::clone(&turns), registry.clone());
            polls.spawn(async move {
                let _turn = turns.acquire().await;
                copy.poll(settings, last, registry.as_deref()).await;
                copy
            });
        }
        let mut copies = Vec::new();
        while let Some(done) = polls.join_next().await {
            match done {
                Ok(copy) => copies.push(copy),
                Err(error) => {
                    tracing::warn!("catching up ended early: {}", threads::describe_task_failure(&error))
                }
            }
        }
        CatchUp { copies, settings, registry }
    }
}

impl Copy {
    async fn poll(&mut self, settings: RestoreSettings, last: bool, registry: Option<&StatusRegistry>) {
        if self.is_left {
            return;
        }
        let db = self.db.clone();
        match self.follow(settings).await {
            Ok(followed) => {
                registry.into_iter().for_each(|registry| registry.set_caught_up(&db, followed.position));
                self.tell(&followed, last);
            }
            Err(FollowError::RestoreAnew(why)) => {
                tracing::info!(%db, "not caught up, but restored: {why}");
                self.is_left = true;
            }
            Err(FollowError::Failed(error)) if last => {
                tracing::info!(%db, "not caught up, but restored: {error}")
            }
            Err(FollowError::Failed(error)) => self.missed(&error),
        }
    }

    async fn follow(&mut self, settings: RestoreSettings) -> Result<Followed, FollowError> {
        let by = Deadline::after(settings.timeout);
        let follower = match &mut self.follower {
            Some(follower) => follower,
            none => {
                none.insert(Follower::open(&self.db, Arc::clone(&self.store), settings, Way::InPlace).await?)
            }
        };
        follower.poll(None, by).await
    }

    fn tell(&mut self, followed: &Followed, last: bool) {
        let db = &self.db;
        (self.files, self.bytes) = (self.files + followed.files, self.bytes + followed.bytes);
        let (files, bytes, txid) = (self.files, self.bytes, followed.position);
        if last && files > 0 {
            let at_the_end = followed.files;
            tracing::info!(%db, files, bytes, at_the_end, %txid, "caught up with the replica");
        } else if followed.files > 0 {
            tracing::debug!(%db, files, bytes, %txid, "applied what the replica has grown by");
        }
    }

    fn missed(&mut self, error: &RestoreError) {
        let text = error.to_string();
        if self.throttle.due(&text) {
            tracing::warn!(db = %self.db, error = text, "cannot follow the replica while waiting; trying \
                again");
        }
    }
}

/// Databases that follow the replica.
pub struct Waiting {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<CatchUp>,
}

impl Waiting {
    pub fn is_following(&self) -> bool {
        self.stop.is_some()
    }

    /// After the poll that is under way.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for the poll that is under way: afterwards no thread writes to the files.
    pub async fn end(mut self) {
        self.stop();
        let _ = (&mut self.task).await;
    }

    /// Applies the rest, after the poll that is under way.
    pub async fn finish(mut self) {
        self.stop();
        match (&mut self.task).await {
            Ok(catch_up) => catch_up.finish().await,
            Err(error) => {
                tracing::warn!("catching up ended early: {}", threads::describe_task_failure(&error))
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

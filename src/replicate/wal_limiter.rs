//! Keeps the WAL within its limit and the app's checkpoints moving while a session waits for the replica's
//! answer, for the next upload or for the app. It looks often while the app is active, and not at all once
//! everything is uploaded and copied. `pressure` ◦ decides what is done.

use super::disk::Disk;
use super::end::End;
use super::lockout::locked_out;
use super::maintenance::SnapshotRequest;
use super::status::StatusCell;
use super::upload::attempts::Outcome;
use super::upload::pressure::{self, Need, Seen};
use super::{ReplicateSettings, Target};
use crate::model::DbPath;
use crate::model::log_throttle::LogThrottle;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks: this much while the app is active, up to the other when it has been quiet for long.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(40);
/// The quiet time is so many times as long as the pause that follows from it.
const QUIET: u32 = 32;
/// The same where the wal-index cannot be read.
const BLIND: Duration = Duration::from_millis(250);

pub struct WalLimiter {
    disk: Disk,
    settings: Arc<ReplicateSettings>,
    status: Arc<StatusCell>,
    snapshots: Arc<SnapshotRequest>,
    db: DbPath,
    /// That the WAL has passed its limit, and that it grows.
    over: LogThrottle,
    throttle: LogThrottle,
}

impl WalLimiter {
    pub fn new(
        disk: &Disk,
        target: &Target,
        status: &Arc<StatusCell>,
        snapshots: &Arc<SnapshotRequest>,
    ) -> WalLimiter {
        WalLimiter {
            disk: disk.clone(),
            settings: Arc::new(target.settings.clone()),
            status: Arc::clone(status),
            snapshots: Arc::clone(snapshots),
            db: target.db.clone(),
            over: LogThrottle::default(),
            throttle: LogThrottle::default(),
        }
    }

    /// Runs a request; meanwhile the WAL is kept within its limit. Ends when the session keeps the app out of
    /// its database.
    pub async fn beside<T>(&mut self, request: impl Future<Output = T>) -> Result<T, End> {
        let db = self.db.clone();
        let status = Arc::clone(&self.status);
        tokio::select! {
            answer = request => Ok(answer),
            () = locked_out(&db, &status) => Err(End::LockedOut),
            end = self.watch() => match end? {},
        }
    }

    /// Looks again and again. Ends only when the session must.
    async fn watch(&mut self) -> Result<Infallible, End> {
        let mut active = Instant::now();
        let mut state = self.disk.wal_state()?;
        loop {
            let blind = state
                .as_ref()
                .is_some_and(|state| state.seen.wal_bytes.is_none() && state.seen.room.is_none());
            if state.is_some_and(|state| state.calm) {
                self.status.stirred().await;
                active = Instant::now();
            }
            let pause = if blind { BLIND } else { (active.elapsed() / QUIET).clamp(SHORTEST, LONGEST) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.status.stirred() => {
                    active = Instant::now();
                    tokio::time::sleep(if blind { BLIND } else { SHORTEST }).await;
                }
            }
            state = self.disk.wal_state()?;
            if let Some(state) = &state {
                let reads_pages = state.seen.reads_pages || self.snapshots.is_under_way();
                self.relieve(Seen { reads_pages, ..state.seen }).await?;
            }
        }
    }

    async fn relieve(&mut self, seen: Seen) -> Result<(), End> {
        let need = pressure::decide(&self.settings, seen);
        if need == Need::Nothing {
            return Ok(());
        }
        if need == Need::Shrink && self.over.due("over") {
            let wal_bytes = seen.wal_bytes.unwrap_or_else(|| self.status.read().wal_bytes);
            let wal_limit = self.settings.wal_limit;
            tracing::warn!(db = %self.db, wal_bytes, wal_limit, "the WAL has passed wal_limit: it is made \
                smaller");
        }
        match self.disk.limit(need, Arc::clone(&self.settings)).await? {
            Outcome::Nothing | Outcome::Anew(_) => {}
            Outcome::Done { restarted } => self.status.update(|status| {
                status.wal_grows = (!restarted).then(|| {
                    "a reader, or an app that writes without a pause, keeps the WAL from starting over"
                        .to_owned()
                });
            }),
            Outcome::Grows(why) => {
                if self.throttle.due("wal_limit") {
                    let wal_bytes = self.status.read().wal_bytes;
                    let wal_limit = self.settings.wal_limit;
                    tracing::error!(
                        db = %self.db,
                        wal_bytes,
                        wal_limit,
                        "the WAL grows past wal_limit until the replica is back: {why}"
                    );
                }
                self.status.update(|status| status.wal_grows = Some(why));
            }
        }
        Ok(())
    }
}

//! One read-only copy: restored once, then kept up with its replica. Where nothing leads on, it is restored
//! anew, beside the file that readers have open, and exchanged between two of their transactions.

use super::decide::{self, Looked};
use crate::config::FollowSettings;
use crate::model::{DbPath, Deadline, NotStarted, Txid, threads};
use crate::observe::follow::FollowStatus;
use crate::restore::follow::{
    Anew, Exchanged, FollowError, Followed, Follower, Provenance, Way, exchange, provenance,
};
use crate::restore::{
    FileAccess, Owner, Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings, recover,
    restore_copy,
};
use crate::rights;
use crate::sqlite::users::{file_id, users_of_file};
use crate::store::Store;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two log lines of a copy that grows.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Of the file that a copy is restored to when nothing leads on.
const BESIDE: &str = "anew.db";

/// Why a copy is not there, or not up to date.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(
        "{db} is there already and is no copy that follows {replica}: move it away, or choose another file"
    )]
    InTheWay { db: DbPath, replica: String },
    #[error(
        "{replica} is in Litestream 0.3's format: only `litevisor run` and `litevisor restore` read that"
    )]
    OlderFormat { replica: String },
    #[error("{0}; what was restored anew does not follow either")]
    Again(Anew),
    #[error("{0}")]
    Internal(String),
}

impl CopyError {
    pub fn kind(&self) -> RestoreErrorKind {
        match self {
            CopyError::Restore(error) => error.kind(),
            CopyError::InTheWay { .. } | CopyError::Internal(_) => RestoreErrorKind::Local,
            CopyError::OlderFormat { .. } | CopyError::Again(_) => RestoreErrorKind::Damaged,
        }
    }

    pub fn not_started(&self) -> NotStarted {
        match self.kind() {
            RestoreErrorKind::Damaged => NotStarted::Damaged,
            RestoreErrorKind::Unavailable => NotStarted::Unavailable,
            RestoreErrorKind::NothingThere => NotStarted::Nothing,
            RestoreErrorKind::Local => NotStarted::Local,
        }
    }
}

#[derive(Clone)]
pub struct Copy {
    pub db: DbPath,
    pub store: Arc<dyn Store>,
    pub restore: RestoreSettings,
    pub owners: Owners,
    pub follow: FollowSettings,
    pub status: FollowStatus,
}

impl Copy {
    /// Restores the copy, or keeps the one that is there, and applies what came since. With `stale_is_fine` a
    /// copy that is there is enough when the replica does not answer.
    pub async fn prepare(&self, progress: &Progress, stale_is_fine: bool) -> Result<Follower, CopyError> {
        let mut follower = self.open(progress).await?;
        let began = Instant::now();
        match follower.poll(None, Deadline::after(self.restore.timeout)).await {
            Ok(followed) => self.took(&followed, began),
            Err(FollowError::RestoreAnew(why)) => {
                let mut open = Some(follower);
                self.anew(&mut open, why, progress).await?;
                follower = self.found(open)?;
            }
            Err(FollowError::Failed(error))
                if stale_is_fine && error.kind() == RestoreErrorKind::Unavailable =>
            {
                tracing::error!(db = %self.db, "the copy that is there is used, as configured: {error}");
                self.status.change(|view| view.problem = Some(error.to_string()));
            }
            Err(FollowError::Failed(error)) => return Err(error.into()),
        }
        Ok(follower)
    }

    async fn open(&self, progress: &Progress) -> Result<Follower, CopyError> {
        let (db, owner) = (self.db.clone(), self.owners.configured);
        let there = blocking(move || {
            recover(&db, FileAccess::Exclusive)?;
            let there =
                rights::within(&db, || std::fs::metadata(db.as_path())).is_ok_and(|file| file.len() > 0);
            if there {
                take_over(&db, owner);
            }
            Ok(there)
        });
        if !there.await? {
            let restored = self.restored(&self.db, &self.owners, false, progress).await?;
            tracing::info!(db = %self.db, replica = self.store.url(), txid = %restored, "restored a copy");
            return self.opened().await;
        }
        match self.follower().await {
            Ok(follower) => {
                tracing::info!(db = %self.db, replica = self.store.url(), "the copy that is there follows \
                    on");
                Ok(follower)
            }
            Err(FollowError::RestoreAnew(why)) => {
                let mut open = None;
                self.anew(&mut open, why, progress).await?;
                self.found(open)
            }
            Err(FollowError::Failed(error)) => Err(error.into()),
        }
    }

    fn found(&self, follower: Option<Follower>) -> Result<Follower, CopyError> {
        follower.ok_or_else(|| CopyError::Internal(format!("{} is not open", self.db)))
    }

    async fn follower(&self) -> Result<Follower, FollowError> {
        Follower::open(&self.db, Arc::clone(&self.store), self.restore.clone(), Way::ThroughSqlite).await
    }

    /// After a restore.
    async fn opened(&self) -> Result<Follower, CopyError> {
        self.follower().await.map_err(|error| match error {
            FollowError::RestoreAnew(why) => CopyError::Again(why),
            FollowError::Failed(error) => error.into(),
        })
    }

    async fn restored(
        &self,
        db: &DbPath,
        owners: &Owners,
        keep: bool,
        progress: &Progress,
    ) -> Result<Txid, CopyError> {
        let began = Instant::now();
        let restored = restore_copy(db, &*self.store, &self.restore, owners, keep, progress).await?;
        if restored.generation.is_some() {
            return Err(CopyError::OlderFormat { replica: self.store.url().to_owned() });
        }
        self.status.change(|view| {
            (view.position, view.newest, view.complete_at) = (restored.txid, restored.txid, Some(began));
        });
        Ok(restored.txid)
    }

    /// Nothing leads on. Readers keep the old state until the new one is there, and their connections, where
    /// that is possible. After an error `follower` is what it was.
    async fn anew(
        &self,
        follower: &mut Option<Follower>,
        why: Anew,
        progress: &Progress,
    ) -> Result<(), CopyError> {
        let (db, replica) = (self.db.clone(), self.store.url().to_owned());
        if why == Anew::OlderFormat {
            return Err(CopyError::OlderFormat { replica });
        }
        let look = move || provenance(&db, &replica).map_err(|error| CopyError::Internal(error.to_string()));
        let keep = match blocking(look).await? {
            Provenance::Unknown => {
                return Err(CopyError::InTheWay {
                    db: self.db.clone(),
                    replica: self.store.url().to_owned(),
                });
            }
            Provenance::Written => true,
            Provenance::Copy => false,
        };
        let exchanged = if keep { None } else { self.exchanged(progress).await? };
        match exchanged {
            Some(Exchanged { pages, bytes, .. }) => {
                *follower = Some(self.opened().await?);
                tracing::warn!(
                    db = %self.db, pages, bytes,
                    "the copy was restored anew, because {why}. Readers go on with it from their next \
                     transaction"
                );
            }
            None => {
                let previous = file_id(self.db.as_path());
                drop(follower.take());
                let txid = self.restored(&self.db, &self.owners, keep, progress).await?;
                self.status
                    .change(|view| view.previous = previous.map(|id| (id, "other processes may".to_owned())));
                *follower = Some(self.opened().await?);
                tracing::warn!(
                    db = %self.db, %txid,
                    "the copy was restored anew and is a new file, because {why}. Programs must open it again"
                );
            }
        }
        self.status.change(|view| view.restores += 1);
        Ok(())
    }

    /// None: the new state cannot be written in one transaction.
    async fn exchanged(&self, progress: &Progress) -> Result<Option<Exchanged>, CopyError> {
        let beside = DbPath::new(self.db.state_dir().join(BESIDE));
        self.restored(&beside, &Owners::default(), false, progress).await?;
        let (db, replica, from) = (self.db.clone(), self.store.url().to_owned(), beside.clone());
        let done = blocking(move || Ok(exchange(&db, &replica, &from))).await?;
        blocking(move || {
            rights::within(&beside, || {
                let _ = std::fs::remove_file(beside.as_path());
                let _ = std::fs::remove_dir_all(beside.state_dir());
            });
            Ok(())
        })
        .await?;
        match done {
            Ok(exchanged) => Ok(Some(exchanged)),
            Err(error) => {
                tracing::warn!(db = %self.db, "the copy cannot be exchanged between its readers: {error}");
                Ok(None)
            }
        }
    }

    /// Follows until it is dropped.
    pub async fn follow(&self, follower: Follower) {
        let mut follower = Some(follower);
        let mut log = Log::new();
        let mut failures = 0_u32;
        loop {
            let began = Instant::now();
            let looked = match self.look(&mut follower).await {
                Ok(followed) => {
                    self.took(&followed, began);
                    failures = 0;
                    self.look_for_left_behind().await;
                    log.good(self, &followed);
                    if followed.behind() == 0 { Looked::Complete } else { Looked::Partly }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    log.bad(self, &error);
                    Looked::Failed
                }
            };
            tokio::time::sleep(decide::pause(looked, self.follow.poll, began.elapsed(), failures)).await;
        }
    }

    async fn look(&self, follower: &mut Option<Follower>) -> Result<Followed, CopyError> {
        let progress = Progress::default();
        let mut open = match follower.take() {
            Some(open) => open,
            None => self.open(&progress).await?,
        };
        let error = match open.poll(None, Deadline::after(self.restore.timeout)).await {
            Ok(followed) => {
                *follower = Some(open);
                return Ok(followed);
            }
            Err(FollowError::RestoreAnew(why)) => {
                *follower = Some(open);
                self.anew(follower, why, &progress).await?;
                let Some(open) = follower else {
                    return Err(CopyError::Internal(format!("{} is not open", self.db)));
                };
                let followed = open.poll(None, Deadline::after(self.restore.timeout)).await;
                return followed.map_err(|error| match error {
                    FollowError::RestoreAnew(why) => CopyError::Again(why),
                    FollowError::Failed(error) => error.into(),
                });
            }
            Err(FollowError::Failed(error)) => error,
        };
        if !decide::opens_again(error.kind()) {
            *follower = Some(open);
        }
        Err(error.into())
    }

    /// Processes that still read the copy's previous file.
    async fn look_for_left_behind(&self) {
        let Some((id, _)) = self.status.view().previous else { return };
        let users = blocking(move || Ok(users_of_file(id))).await;
        if let Ok(users) = users {
            self.status.change(|view| view.previous = users.map(|users| (id, users.to_string())));
        }
    }

    fn took(&self, followed: &Followed, began: Instant) {
        self.status.change(|view| {
            (view.position, view.newest, view.problem) = (followed.position, followed.newest, None);
            (view.files, view.bytes) = (view.files + followed.files as u64, view.bytes + followed.bytes);
            if followed.behind() == 0 {
                view.complete_at = Some(began);
            }
        });
    }
}

/// A file that is there already gets the owner and the mode of a copy, and so do its side files.
fn take_over(db: &DbPath, Owner { uid, gid, mode }: Owner) {
    // Only in a directory that root alone may write to.
    if uid != Some(0) || rights::of(db).is_some() {
        return;
    }
    for path in std::iter::once(db.as_path().to_owned()).chain(db.sides()) {
        let done = std::os::unix::fs::lchown(&path, uid, gid).and_then(|()| match mode {
            // Who may read it already goes on.
            Some(mode) => {
                let before = std::fs::metadata(&path)?.permissions().mode();
                std::fs::set_permissions(&path, Permissions::from_mode((before & 0o755 | mode) & 0o777))
            }
            None => Ok(()),
        });
        if let Err(error) =
            done.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
        {
            tracing::warn!(%db, "the owner of {} stays, and may write to it: {error}", path.display());
        }
    }
}

/// What the log says of one copy.
struct Log {
    said: Instant,
    files: usize,
    bytes: u64,
    failing: Option<Instant>,
    stale: bool,
}

impl Log {
    fn new() -> Log {
        Log { said: Instant::now(), files: 0, bytes: 0, failing: None, stale: false }
    }

    fn good(&mut self, copy: &Copy, followed: &Followed) {
        (self.files, self.bytes) = (self.files + followed.files, self.bytes + followed.bytes);
        if let Some(since) = self.failing.take() {
            let after = since.elapsed().as_secs();
            tracing::info!(db = %copy.db, txid = %followed.position, "follows its replica again after \
                {after} s");
        }
        if self.files > 0 && self.said.elapsed() >= LOG_EVERY {
            let behind = copy.status.view().behind(Instant::now()).as_secs_f64();
            let (files, bytes) = (self.files, self.bytes);
            let txid = followed.position;
            tracing::info!(db = %copy.db, files, bytes, %txid, seconds_behind = behind, "follows its \
                replica");
            (self.said, self.files, self.bytes) = (Instant::now(), 0, 0);
        }
        self.staleness(copy);
    }

    fn bad(&mut self, copy: &Copy, error: &CopyError) {
        copy.status.change(|view| view.problem = Some(error.to_string()));
        if self.failing.is_none() {
            self.failing = Some(Instant::now());
            tracing::warn!(db = %copy.db, "the copy does not follow its replica; litevisor tries again: \
                {error}");
        }
        self.staleness(copy);
    }

    fn staleness(&mut self, copy: &Copy) {
        let stale = copy.status.view().stale(Instant::now());
        match (&stale, self.stale) {
            (Some(why), false) => tracing::error!(db = %copy.db, "STALE: {why} (follow.max_lag)"),
            (None, true) => tracing::info!(db = %copy.db, "the copy is not stale any more"),
            _ => {}
        }
        self.stale = stale.is_some();
    }
}

/// Work on the disk, on another thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CopyError> + Send + 'static,
) -> Result<T, CopyError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(CopyError::Internal(threads::describe_task_failure(&error))))
}

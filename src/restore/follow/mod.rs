//! Keeps a database that was restored from a replica up with it: what the replica has grown by is applied to
//! the local file, in place or through SQLite. The file of a copy is at a position of the replica at any
//! moment, or its record says that it is torn. Decides nothing about when: the caller polls. Never silently
//! stale: where nothing leads on, the caller is told to restore anew.

mod copy;
mod error;
mod exchange;
mod fault;
mod in_place;
mod next;
mod spool;
mod stand;
mod step;
#[cfg(test)]
mod tests;
mod through_sqlite;

pub use error::{Anew, FollowError};
pub use exchange::{Exchanged, exchange};
pub use stand::{Provenance, provenance};

use super::error::RestoreError;
use super::inspect::tip;
use super::progress::Progress;
use super::settings::RestoreSettings;
use super::source::{ATTEMPTS, BETWEEN_ATTEMPTS, Source, SourceError};
use crate::model::{DbChecksum, DbPath, Deadline, Moment, Txid};
use crate::replica::{Listing, RemoteFile, Replica, Tip};
use crate::store::{Store, StoreError, StoreErrorKind};
use copy::Copy;
use next::{Known, Next, Sighting};
use spool::{Spool, Spooled};
use stand::Stand;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use step::Step;

/// All levels are listed this often, should the newest raw files have been removed.
const ALL_LEVELS_EVERY: Duration = Duration::from_secs(60);

/// How the copy is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// No process has it open, this one included: each page straight to its place. The copy is the replica's
    /// state, byte by byte.
    InPlace,
    /// Processes read it: what a poll finds is one transaction of SQLite, or several. Twelve bytes of the
    /// first page are SQLite's own.
    ThroughSqlite,
}

/// What a poll has done, and where the copy stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Files and bytes of the replica that were applied.
    pub files: usize,
    pub bytes: u64,
    pub position: Txid,
    /// Of the whole database there, as the replica has it.
    pub checksum: DbChecksum,
    /// When it was committed; None: nothing was applied since the copy was opened.
    pub time: Option<Moment>,
    /// The replica's newest position when it was last listed.
    pub newest: Txid,
}

impl Followed {
    /// By how many positions the copy is behind the replica.
    pub fn behind(&self) -> u64 {
        self.newest.0.saturating_sub(self.position.0)
    }
}

pub struct Follower {
    db: DbPath,
    store: Arc<dyn Store>,
    settings: RestoreSettings,
    copy: Arc<Mutex<Copy>>,
    /// The replica's file of the copy's position.
    known: Option<Known>,
    all_listed: Option<Instant>,
    newest: Txid,
}

impl Follower {
    /// The file at `db` was restored from the replica, or continues it, and its record says at which
    /// position. Reads all of it.
    pub async fn open(
        db: &DbPath,
        store: Arc<dyn Store>,
        settings: RestoreSettings,
        way: Way,
    ) -> Result<Follower, FollowError> {
        let (path, replica) = (db.clone(), store.url().to_owned());
        let copy = blocking(move || Copy::open(&path, &replica, way)).await?;
        let newest = copy.stand.txid;
        let copy = Arc::new(Mutex::new(copy));
        Ok(Follower { db: db.clone(), store, settings, copy, known: None, all_listed: None, newest })
    }

    /// Applies what the replica has grown by, up to `until` where that is given; `until` must be the end of a
    /// file. At the deadline it returns with what it has applied, or with an error if the replica does not
    /// answer. May be dropped at any moment.
    pub async fn poll(&mut self, until: Option<Txid>, deadline: Deadline) -> Result<Followed, FollowError> {
        let mut done = Done::default();
        let mut all = self.all_listed.is_none_or(|at| at.elapsed() >= ALL_LEVELS_EVERY);
        for _ in 0..ATTEMPTS {
            match self.attempt(until, all, &mut done, deadline).await {
                Ok(()) => return self.followed(done).await,
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Vanished) => {
                    let replica = self.store.url();
                    tracing::info!(db = %self.db, replica, "files changed while they were read: planning \
                        again");
                    all = true;
                    tokio::time::sleep(BETWEEN_ATTEMPTS.min(deadline.left())).await;
                }
            }
        }
        Err(RestoreError::Vanishing { replica: self.store.url().to_owned() }.into())
    }

    async fn attempt(
        &mut self,
        until: Option<Txid>,
        all: bool,
        done: &mut Done,
        deadline: Deadline,
    ) -> Result<(), Stop> {
        let stand = self.stand().await?;
        let until = until.map(|until| stand.torn.map_or(until, |torn| torn.max(until)));
        let mut sighting = self.list(&stand, all, deadline).await?;
        let mut next = next::next(&sighting.listing.files, &stand, until, all).map_err(FollowError::from)?;
        let mut all = all;
        if next == Next::ListAll {
            all = true;
            sighting = self.list(&stand, true, deadline).await?;
            next = next::next(&sighting.listing.files, &stand, until, true).map_err(FollowError::from)?;
        }
        let mut proven = self.prove(&stand, sighting.own, deadline).await?;
        if !proven && !all && matches!(next, Next::Apply(_)) {
            // The copy may come from a merged file that ends there, too.
            let own = self.list(&stand, true, deadline).await?.own;
            proven = self.prove(&stand, own, deadline).await?;
        }
        match next {
            Next::Apply(files) => self.advance(&files, proven, done, deadline).await,
            Next::Done | Next::ListAll => Ok(()),
        }
    }

    async fn stand(&self) -> Result<Stand, FollowError> {
        self.with_copy(|copy| Ok(copy.stand.clone())).await
    }

    async fn followed(&mut self, Done { files, bytes }: Done) -> Result<Followed, FollowError> {
        let stand = self.stand().await?;
        self.newest = self.newest.max(stand.txid);
        let (position, checksum, time, newest) = (stand.txid, stand.db_checksum, stand.time, self.newest);
        Ok(Followed { files, bytes, position, checksum, time, newest })
    }

    async fn with_copy<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Copy) -> Result<T, FollowError> + Send + 'static,
    ) -> Result<T, FollowError> {
        let copy = Arc::clone(&self.copy);
        blocking(move || work(&mut copy.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    /// The replica's files from the copy's position on; all of them where the raw ones are not enough.
    async fn list(&mut self, stand: &Stand, all: bool, deadline: Deadline) -> Result<Sighting, Stop> {
        let progress = Progress::default();
        let settings = self.settings_until(deadline);
        let source = Source::new(&*self.store, &settings, &progress);
        let listed = async { if all { source.listing().await } else { source.raw_from(stand.txid).await } };
        let listing = self.in_time(deadline, "list", listed).await?;
        let end = listing.files.iter().map(|file| file.range.max).max().unwrap_or_default();
        if all {
            if listing.replica() == Replica::V3 {
                return Err(FollowError::from(Anew::OlderFormat).into());
            }
            self.all_listed = Some(Instant::now());
            self.newest = end;
        }
        self.newest = self.newest.max(end);
        Ok(Sighting::of(listing, stand.txid))
    }

    /// Whether the replica's file of the copy's position is the one that the copy has. An error, if it is
    /// another one.
    async fn prove(&mut self, stand: &Stand, own: Vec<RemoteFile>, deadline: Deadline) -> Result<bool, Stop> {
        if own.iter().any(|file| self.known.as_ref().is_some_and(|known| known.is(file))) {
            return Ok(true);
        }
        if own.is_empty() {
            return Ok(false);
        }
        let progress = Progress::default();
        let settings = self.settings_until(deadline);
        let source = Source::new(&*self.store, &settings, &progress);
        let listing = Listing { files: own.clone(), ..Listing::default() };
        let read = async { tip(&source, &listing).await };
        let tip: Option<Tip> = self.in_time(deadline, "read", read).await?;
        let proof = next::prove(stand, tip.as_ref()).map_err(FollowError::from)?;
        self.known = proof.and_then(|key| own.iter().find(|file| file.key == key)).map(Known::of);
        Ok(self.known.is_some())
    }

    /// Fetches and applies the files. What has arrived is applied also when the rest does not.
    async fn advance(
        &mut self,
        files: &[RemoteFile],
        proven: bool,
        done: &mut Done,
        deadline: Deadline,
    ) -> Result<(), Stop> {
        let mut arrived = Arrived { step: None, proven };
        let fetched = self.fetch(files, &mut arrived, done, deadline).await;
        self.apply(&mut arrived, done).await?;
        fetched?;
        Ok(self.with_copy(Copy::check).await?)
    }

    /// At the deadline it stops between two files.
    async fn fetch(
        &mut self,
        files: &[RemoteFile],
        arrived: &mut Arrived,
        done: &mut Done,
        deadline: Deadline,
    ) -> Result<(), Stop> {
        let progress = Progress::default();
        let settings = self.settings_until(deadline);
        let store = Arc::clone(&self.store);
        let source = Source::new(&*store, &settings, &progress);
        let mut reading = source.read(files);
        let mut spool = None;
        while let Some(fetched) = self.in_time(deadline, "get", reading.next()).await? {
            let Some(file) = files.get(fetched.file) else { continue };
            let mut arriving = spool.take().unwrap_or_else(|| Spool::new(&self.db, self.store.url(), file));
            let last = fetched.last;
            let fed =
                move || fetched.parts.iter().try_for_each(|part| arriving.feed(part)).map(|()| arriving);
            if !last {
                spool = Some(blocking(fed).await?);
                continue;
            }
            arrived.add(blocking(move || fed()?.finish()).await?);
            if arrived.is_full() {
                self.apply(arrived, done).await?;
            }
            if deadline.passed() {
                break;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, arrived: &mut Arrived, done: &mut Done) -> Result<(), Stop> {
        let Some(step) = arrived.step.take() else { return Ok(()) };
        let proven = std::mem::replace(&mut arrived.proven, true);
        let (files, bytes, last) = (step.len(), step.bytes(), step.last().clone());
        self.with_copy(move |copy| copy.apply(&step, proven)).await?;
        self.known = Some(Known::of(&last));
        (done.files, done.bytes) = (done.files + files, done.bytes + bytes);
        Ok(())
    }

    fn settings_until(&self, deadline: Deadline) -> RestoreSettings {
        RestoreSettings { timeout: self.settings.timeout.min(deadline.left()), ..self.settings.clone() }
    }

    async fn in_time<T, E: Into<Stop>>(
        &self,
        deadline: Deadline,
        operation: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Stop> {
        match tokio::time::timeout_at(deadline.instant().into(), work).await {
            Ok(done) => done.map_err(Into::into),
            Err(_) => {
                let detail = "it did not answer in the time that was left";
                let source = StoreError::new(StoreErrorKind::TimedOut, operation, self.store.url(), detail);
                Err(RestoreError::Unavailable { source }.into())
            }
        }
    }
}

/// What a poll has applied.
#[derive(Default)]
struct Done {
    files: usize,
    bytes: u64,
}

/// Files that were fetched, and are not applied yet.
struct Arrived {
    step: Option<Step>,
    /// The replica's file of the position where the copy stands is the one that the copy has.
    proven: bool,
}

impl Arrived {
    fn add(&mut self, file: Spooled) {
        match &mut self.step {
            Some(step) => step.add(file),
            None => self.step = Some(Step::new(file)),
        }
    }

    fn is_full(&self) -> bool {
        self.step.as_ref().is_some_and(Step::is_full)
    }
}

/// Why files were not applied.
enum Stop {
    /// One of them is gone.
    Vanished,
    Failed(FollowError),
}

impl From<FollowError> for Stop {
    fn from(error: FollowError) -> Self {
        Stop::Failed(error)
    }
}

impl From<RestoreError> for Stop {
    fn from(error: RestoreError) -> Self {
        Stop::Failed(error.into())
    }
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Vanished => Stop::Vanished,
            SourceError::Failed(error) => error.into(),
        }
    }
}

/// Work on the disk, on another thread. It goes on to its end if the caller is dropped.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, FollowError>
where
    T: Send + 'static,
    E: Into<FollowError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) => {
            let source = std::io::Error::other(error.to_string());
            Err(RestoreError::io("bring further", std::path::Path::new("the local file"))(source).into())
        }
    }
}

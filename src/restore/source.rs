//! Requests to the replica with patience: each is tried again until nothing at all has arrived for as long as the
//! settings say. Owns that clock, and the lines in the log about it. Knows keys and bytes, not LTX.

use super::error::{Damage, RestoreError};
use super::ordered::Ordered;
use super::pieces::{Cutter, Piece};
use super::progress::Progress;
use super::settings::RestoreSettings;
use crate::ltx::{HEADER_BYTES, Header};
use crate::model::Deadline;
use crate::replica::{Listing, RemoteFile};
use crate::store::{Store, StoreError, StoreErrorKind, retry};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lines about one restore come at most this often.
const LOG_EVERY: Duration = Duration::from_secs(3);

/// Why something could not be read.
#[derive(Debug)]
pub enum SourceError {
    /// The object has gone: merged or expired meanwhile. A new look will tell.
    Vanished,
    Failed(RestoreError),
}

impl From<RestoreError> for SourceError {
    fn from(error: RestoreError) -> Self {
        SourceError::Failed(error)
    }
}

pub struct Source<'a> {
    store: &'a dyn Store,
    settings: &'a RestoreSettings,
    progress: &'a Progress,
    /// When something last arrived.
    alive: Mutex<Instant>,
    logged: Mutex<Instant>,
}

/// What has arrived of a file, in order.
pub struct Arrived<'a> {
    pub file: &'a RemoteFile,
    pub bytes: Bytes,
    pub last: bool,
}

impl<'a> Source<'a> {
    pub fn new(store: &'a dyn Store, settings: &'a RestoreSettings, progress: &'a Progress) -> Source<'a> {
        let now = Instant::now();
        Source { store, settings, progress, alive: Mutex::new(now), logged: Mutex::new(now) }
    }

    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// Everything under the replica's root, in one look.
    pub async fn listing(&self) -> Result<Listing, RestoreError> {
        match self.patiently(|by| self.store.list("", by)).await {
            Ok(objects) => Ok(Listing::of(self.store.layout(), &objects)),
            Err(source) => Err(RestoreError::Unavailable { source }),
        }
    }

    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, SourceError> {
        match self.patiently(|by| self.store.get(key, range.clone(), by)).await {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind == StoreErrorKind::NotFound => Err(SourceError::Vanished),
            Err(source) => Err(SourceError::Failed(RestoreError::Unavailable { source })),
        }
    }

    /// Reads `files` one after the other, with several requests on the way, and hands over what arrives in order.
    pub async fn stream<'f>(
        &self,
        files: &'f [RemoteFile],
        mut sink: impl FnMut(Arrived<'f>) -> Result<(), RestoreError>,
    ) -> Result<(), SourceError> {
        let mut cutter = Cutter::new(files);
        let mut requests = Ordered::default();
        loop {
            while requests.len() < self.settings.parallelism.max(1)
                && let Some(piece) = cutter.next()
                && let Some(file) = files.get(piece.file)
            {
                requests.push(self.piece(file, piece));
            }
            let Some(done) = requests.next().await else { return Ok(()) };
            let (arrived, time) = done?;
            cutter.learn(arrived.bytes.len() as u64, time);
            self.progress.add(arrived.bytes.len() as u64);
            sink(arrived)?;
            // The sink computes: others on this thread get their turn.
            tokio::task::yield_now().await;
        }
    }

    async fn piece<'f>(&self, file: &'f RemoteFile, piece: Piece) -> Result<(Arrived<'f>, Duration), SourceError> {
        let begun = Instant::now();
        let bytes = self.get(&file.key, piece.range).await?;
        Ok((Arrived { file, bytes, last: piece.last }, begun.elapsed()))
    }

    /// The headers of `files`, in their order, with several requests at once.
    pub async fn heads(&self, files: &[RemoteFile]) -> Result<Vec<Header>, SourceError> {
        self.heads_each(files).await.into_iter().collect()
    }

    /// The same, and what is wrong with each.
    pub async fn heads_each(&self, files: &[RemoteFile]) -> Vec<Result<Header, SourceError>> {
        let (mut left, mut requests) = (files.iter(), Ordered::default());
        let mut headers = Vec::with_capacity(files.len());
        loop {
            while requests.len() < self.settings.parallelism.max(1)
                && let Some(file) = left.next()
            {
                requests.push(self.head(file));
            }
            let Some(header) = requests.next().await else { return headers };
            headers.push(header);
        }
    }

    async fn head(&self, file: &RemoteFile) -> Result<Header, SourceError> {
        let bytes = self.get(&file.key, Some(0..HEADER_BYTES as u64)).await?;
        let damage = match Header::from_start(&bytes) {
            Ok(header) if header.range == file.range => return Ok(header),
            Ok(header) => Damage::Name(header.range),
            Err(error) => Damage::Format(error),
        };
        Err(RestoreError::Damaged { replica: self.url().to_owned(), file: file.key.clone(), damage }.into())
    }

    /// Tries again as long as anything arrives, by this request or another one.
    async fn patiently<T, Op, Work>(&self, mut op: Op) -> Result<T, StoreError>
    where
        Op: FnMut(Deadline) -> Work,
        Work: Future<Output = Result<T, StoreError>>,
    {
        // Half of the patience for one try, so that a request that got lost is repeated.
        let per_try = self.settings.timeout / 2;
        loop {
            let by = self.patience_ends();
            match retry::run(by, per_try, |error, _| self.log_retry(error), &mut op).await {
                Ok(value) => {
                    *lock(&self.alive) = Instant::now();
                    return Ok(value);
                }
                Err(error) if error.may_heal() && self.patience_ends() > by => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn patience_ends(&self) -> Deadline {
        let alive = *lock(&self.alive);
        alive.checked_add(self.settings.timeout).map_or_else(|| Deadline::after(self.settings.timeout), Deadline::at)
    }

    fn log_retry(&self, error: &StoreError) {
        if self.may_log() {
            let left = self.patience_ends().left().as_secs();
            tracing::warn!(replica = self.url(), "{error}; trying again, for {left} s more");
        }
    }

    fn may_log(&self) -> bool {
        let mut logged = lock(&self.logged);
        let due = logged.elapsed() >= LOG_EVERY;
        if due {
            *logged = Instant::now();
        }
        due
    }
}

/// A poisoned clock still tells the time.
fn lock(clock: &Mutex<Instant>) -> std::sync::MutexGuard<'_, Instant> {
    clock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

//! Requests to the replica with retries: a request is repeated until nothing has arrived for the configured
//! timeout. Has that clock and its log lines. Knows keys and bytes, not LTX.

use super::arrivals::Arrivals;
use super::error::{Damage, RestoreError};
use super::memory::{Memory, Parts};
use super::pieces::{Cutter, Piece};
use super::progress::Progress;
use super::settings::RestoreSettings;
use super::waiting_report::State;
use crate::lineage::FileAccess;
use crate::ltx::{HEADER_BYTES, Header};
use crate::model::{Deadline, Txid, TxidRange};
use crate::replica::tip::ReadError;
use crate::replica::{Listing, RemoteFile, Target, plan};
use crate::store::layout::Level;
use crate::store::{Object, Store, StoreError, StoreErrorKind, retry};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Files may be merged or expire while they are read; the restore then inspects the replica again, at most
/// this often.
pub(super) const ATTEMPTS: u32 = 5;
pub(super) const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);

/// Pieces from here on go through buffers that are used again.
const LONG: u64 = 256 << 10;
/// Of a piece that is still coming so much is handed over at a time.
const AT_LEAST: usize = 1 << 20;
/// Where a Litestream 0.3 replica is.
const V3_PREFIX: &str = "generations/";
/// Of a request that keeps bringing bytes.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);

/// Why something could not be read.
#[derive(Debug)]
pub enum SourceError {
    /// The object has gone: merged or expired meanwhile. A new look will tell.
    Vanished,
    Failed(RestoreError),
}

impl ReadError for SourceError {
    fn damage(self) -> Result<String, SourceError> {
        match self {
            SourceError::Failed(RestoreError::Damaged { damage: Damage::Sealed(what), .. }) => Ok(what),
            other => Err(other),
        }
    }
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
    /// A listing had a gap.
    had_gap: AtomicBool,
}

/// The next bytes of a file.
pub struct NextBytes {
    /// Which of the files.
    pub file: usize,
    pub parts: Parts,
    /// The file ends here.
    pub last: bool,
}

/// Files on their way.
pub struct Reading<'r, 'a> {
    source: &'r Source<'a>,
    files: &'r [RemoteFile],
    cutter: Cutter,
    memory: Arc<Memory>,
    requests: FuturesOrdered<BoxFuture<'r, Result<Duration, SourceError>>>,
    /// What each of the requests brings, in their order.
    coming: VecDeque<(Piece, Arc<Arrivals>)>,
}

impl Reading<'_, '_> {
    /// The next bytes in order, also while their piece is still coming; None: everything has been handed
    /// over.
    pub async fn next(&mut self) -> Result<Option<NextBytes>, SourceError> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<NextBytes>, SourceError>> {
        self.start_requests();
        if self.coming.is_empty() && !self.cutter.is_done() {
            // There is no room. What frees it may do so before it knows of us.
            self.memory.when_freed(cx.waker());
            self.start_requests();
        }
        let done = self.requests.poll_next_unpin(cx);
        let Some((piece, arrivals)) = self.coming.front() else {
            return if self.cutter.is_done() { Poll::Ready(Ok(None)) } else { Poll::Pending };
        };
        let file = piece.file;
        match done {
            Poll::Ready(Some(Ok(time))) => {
                let parts = arrivals.rest();
                let last = piece.last;
                // An object may be longer or shorter than it was when it was listed.
                self.memory.ask(arrivals.bytes().cast_signed() - piece.bytes.cast_signed());
                self.cutter.learn(piece.bytes, time);
                self.coming.pop_front();
                Poll::Ready(Ok(Some(NextBytes { file, parts, last })))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
            Poll::Ready(None) | Poll::Pending => match arrivals.ready(AT_LEAST) {
                Some(parts) => Poll::Ready(Ok(Some(NextBytes { file, parts, last: false }))),
                None => Poll::Pending,
            },
        }
    }

    /// As many requests as are allowed.
    fn start_requests(&mut self) {
        let source = self.source;
        let files = self.files;
        while self.requests.len() < source.settings.parallelism.max(1)
            && let Some(piece) = self.cutter.next(self.memory.out())
            && let Some(file) = files.get(piece.file)
        {
            self.memory.ask(piece.bytes.cast_signed());
            let arrivals = Arc::new(Arrivals::new(&self.memory, piece.bytes >= LONG));
            self.requests.push_back(source.piece(file, piece.clone(), Arc::clone(&arrivals)).boxed());
            self.coming.push_back((piece, arrivals));
        }
    }
}

impl<'a> Source<'a> {
    pub fn new(store: &'a dyn Store, settings: &'a RestoreSettings, progress: &'a Progress) -> Source<'a> {
        let now = Instant::now();
        Source { store, settings, progress, alive: Mutex::new(now), had_gap: AtomicBool::new(false) }
    }

    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// Which processes may have the database open meanwhile.
    pub(super) fn access(&self) -> FileAccess {
        self.settings.access
    }

    pub(super) fn progress(&self) -> &'a Progress {
        self.progress
    }

    /// True once: the files may have been added or merged while they were listed, so that only a gap which
    /// the next listing has, too, is damage.
    pub(super) fn doubts_the_gap(&self) -> bool {
        !self.had_gap.swap(true, Ordering::Relaxed)
    }

    /// Everything under the replica's root.
    pub async fn listing(&self) -> Result<Listing, RestoreError> {
        self.list(false).await
    }

    /// What is under the replica's root. One request for a small replica, the levels side by side for a large
    /// one; for its newest state only what that needs.
    pub async fn listing_for(&self, target: Target) -> Result<Listing, RestoreError> {
        self.list(target == Target::Latest).await
    }

    async fn list(&self, newest: bool) -> Result<Listing, RestoreError> {
        match self.objects(newest).await {
            Ok(objects) => Ok(Listing::of(self.store.layout(), &objects)),
            Err(source) => Err(RestoreError::Unavailable { source }),
        }
    }

    /// The raw files that end at `from` or later. One request, if there are not many.
    pub(super) async fn raw_from(&self, from: Txid) -> Result<Listing, RestoreError> {
        match self.raw_objects(from).await {
            Ok(objects) => Ok(Listing::of(self.store.layout(), &objects)),
            Err(source) => Err(RestoreError::Unavailable { source }),
        }
    }

    async fn raw_objects(&self, from: Txid) -> Result<Vec<Object>, StoreError> {
        let layout = self.store.layout();
        let before = Txid(from.0.saturating_sub(1));
        let after =
            TxidRange::new(before, before).map_or_else(String::new, |range| layout.key(Level::RAW, range));
        self.all_behind(&layout.level(Level::RAW), after).await
    }

    async fn objects(&self, newest: bool) -> Result<Vec<Object>, StoreError> {
        let first = self.patiently(|by| self.store.list_page("", "", by)).await?;
        if !first.more {
            return Ok(first.objects);
        }
        let layout = self.store.layout();
        let levels = (1..=Level::SNAPSHOT.0).map(|level| layout.level(Level(level)));
        let mut prefixes: Vec<String> = levels.chain([V3_PREFIX.to_owned()]).collect();
        if !newest {
            prefixes.push(layout.level(Level::RAW));
        }
        let mut objects = self.all_below(&prefixes).await?;
        if newest {
            // The raw files behind the higher levels' end, and the one that ends there: whose the newest
            // position is may stand only in it. Without an end all are needed, be it to name the gap.
            let files = Listing::of(layout, &objects).files;
            let end = plan(&files, Target::Latest).map_or(0, |plan| plan.end.0);
            objects.extend(self.raw_objects(Txid(end)).await?);
        }
        Ok(objects)
    }

    async fn all_below(&self, prefixes: &[String]) -> Result<Vec<Object>, StoreError> {
        let mut requests = FuturesOrdered::new();
        for prefix in prefixes {
            requests.push_back(self.all_behind(prefix, String::new()));
        }
        let mut objects = Vec::new();
        while let Some(found) = requests.next().await {
            objects.extend(found?);
        }
        Ok(objects)
    }

    async fn all_behind(&self, prefix: &str, mut after: String) -> Result<Vec<Object>, StoreError> {
        let mut objects = Vec::new();
        loop {
            let page = self.patiently(|by| self.store.list_page(prefix, &after, by)).await?;
            let last = page.objects.last().map(|object| object.key.clone());
            objects.extend(page.objects);
            match last {
                Some(last) if page.more => after = last,
                _ => return Ok(objects),
            }
        }
    }

    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, SourceError> {
        match self.patiently(|by| self.store.get(key, range.clone(), by)).await {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Reads `files` one after the other, with several requests on the way.
    pub fn read<'r>(&'r self, files: &'r [RemoteFile]) -> Reading<'r, 'a> {
        let memory = Arc::default();
        let requests = FuturesOrdered::new();
        Reading { source: self, files, cutter: Cutter::new(files), memory, requests, coming: VecDeque::new() }
    }

    /// What came before a failure is kept: only the rest is asked for again.
    async fn piece(
        &self,
        file: &RemoteFile,
        piece: Piece,
        arrivals: Arc<Arrivals>,
    ) -> Result<Duration, SourceError> {
        let begun = Instant::now();
        match self.patiently(|_| self.rest_of(file, &piece, &arrivals)).await {
            Ok(()) => Ok(begun.elapsed()),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// One request. It is given up not after a time but after a silence: a slow line is not cut off.
    async fn rest_of(&self, file: &RemoteFile, piece: &Piece, arrivals: &Arrivals) -> Result<(), StoreError> {
        let have = arrivals.bytes();
        let range = match &piece.range {
            None if have == 0 => None,
            None => Some(have..file.size),
            Some(range) => Some(range.start + have..range.end),
        };
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(());
        }
        let take = |bytes: Bytes| {
            *lock(&self.alive) = Instant::now();
            self.progress.add(bytes.len() as u64);
            arrivals.take(bytes);
        };
        let silence = self.settings.timeout / 2;
        tokio::select! {
            done = self.store.get_into(&file.key, range, &take, Deadline::after(LONGEST_REQUEST)) => done,
            () = arrivals.silent_for(silence) => {
                let subject = format!("{}/{}", self.url(), file.key);
                Err(StoreError::new(StoreErrorKind::TimedOut, "get", subject, format!("nothing came for \
                    {silence:?}")))
            }
        }
    }

    fn explain(&self, error: StoreError) -> SourceError {
        if error.kind == StoreErrorKind::NotFound {
            return SourceError::Vanished;
        }
        if error.kind == StoreErrorKind::Damaged {
            let replica = self.url().to_owned();
            let file =
                error.subject.strip_prefix(&format!("{replica}/")).unwrap_or(&error.subject).to_owned();
            return RestoreError::Damaged { replica, file, damage: Damage::Sealed(error.detail) }.into();
        }
        SourceError::Failed(RestoreError::Unavailable { source: error })
    }

    /// Whether all of `files` can be opened, with several requests at once; none where nothing is encrypted.
    /// What else is wrong with them is found when they are read.
    pub async fn check_keys(&self, mut files: impl Iterator<Item = &str>) -> Result<(), RestoreError> {
        let mut requests = FuturesOrdered::new();
        loop {
            while requests.len() < self.settings.parallelism.max(1)
                && let Some(key) = files.next()
            {
                requests.push_back(self.patiently(move |by| self.store.check_key(key, by)));
            }
            match requests.next().await {
                None => return Ok(()),
                Some(Err(source)) if source.kind == StoreErrorKind::Key => {
                    return Err(RestoreError::Unavailable { source });
                }
                Some(_) => {}
            }
        }
    }

    /// The headers of `files`, in their order, with several requests at once.
    pub async fn heads(&self, files: &[RemoteFile]) -> Result<Vec<Header>, SourceError> {
        self.heads_each(files).await.into_iter().collect()
    }

    /// The same, and what is wrong with each.
    pub async fn heads_each(&self, files: &[RemoteFile]) -> Vec<Result<Header, SourceError>> {
        let mut left = files.iter();
        let mut requests = FuturesOrdered::new();
        let mut headers = Vec::with_capacity(files.len());
        loop {
            while requests.len() < self.settings.parallelism.max(1)
                && let Some(file) = left.next()
            {
                requests.push_back(self.head(file));
            }
            let Some(header) = requests.next().await else { return headers };
            headers.push(header);
        }
    }

    async fn head(&self, file: &RemoteFile) -> Result<Header, SourceError> {
        match self.head_once(file).await {
            // What came may not be what is there (a proxy, a cache): it is read once more before it is called
            // damaged.
            Err(SourceError::Failed(RestoreError::Damaged { .. })) => self.head_once(file).await,
            head => head,
        }
    }

    async fn head_once(&self, file: &RemoteFile) -> Result<Header, SourceError> {
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
        alive
            .checked_add(self.settings.timeout)
            .map_or_else(|| Deadline::after(self.settings.timeout), Deadline::at)
    }

    fn log_retry(&self, error: &StoreError) {
        if self.progress.throttle().due(State::Failing(error.kind)) {
            let left = self.patience_ends().left().as_secs();
            tracing::warn!(replica = self.url(), "{error}; trying again, for {left} s more");
        }
    }
}

/// A poisoned clock still tells the time.
fn lock(clock: &Mutex<Instant>) -> std::sync::MutexGuard<'_, Instant> {
    clock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

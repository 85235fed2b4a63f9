//! The task of one database: hold, anchor, then capture and upload until it is told to end. Whatever breaks is said,
//! waited for and begun again; only another writer ends replication for good. Never blocks the async thread: disk work
//! runs in `blocking`.

use super::anchor::{self, AnchorError};
use super::capture::{Capture, CaptureError};
use super::mailbox::{Mailbox, Woken};
use super::session::Work;
use super::status::StatusCell;
use super::upload::{self, Content, Stored, UploadError};
use super::{Conflict, Target};
use crate::model::{Captured, DbPath, Deadline};
use crate::replica::Tip;
use crate::sqlite::{ReadHold, SqliteError};
use crate::store::layout::Level;
use crate::store::retry;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// Looks at the files this often even when nothing reports a change: one `stat` each.
const TICK: Duration = Duration::from_secs(1);
/// A whole turn (capture, checkpoint) is made this often even if the files look the same.
const TURN: Duration = Duration::from_secs(15);
/// One look at the replica.
const LOOK: Duration = Duration::from_secs(20);
/// A request that takes longer is spoken of.
const SLOW: Duration = Duration::from_secs(5);
/// While the store is away, it is spoken of this often.
const REMIND: Duration = Duration::from_secs(30);
const BREAK_PAUSE: Duration = Duration::from_millis(500);
/// A lock that is in the way for longer is spoken of.
const LOCKED: Duration = Duration::from_secs(3);

pub struct Task {
    pub target: Target,
    /// Of this run: two copies of one disk must not take each other's files for their own.
    pub node_id: u64,
    pub status: Arc<StatusCell>,
    pub changed: Arc<Notify>,
    pub mailbox: Mailbox,
    /// Taken before the app was started, if there was a database.
    pub hold: Option<ReadHold>,
    pub conflict: Conflict,
}

/// Why a session ended.
enum End {
    /// The last flush is done, or nobody is left to ask.
    Closed,
    Fenced(String),
    /// Look again at everything, after a pause.
    Again(String),
}

impl From<CaptureError> for End {
    fn from(error: CaptureError) -> End {
        End::Again(error.to_string())
    }
}

impl Task {
    pub async fn run(&mut self) {
        let mut breaks = 0;
        loop {
            let begun = Instant::now();
            match self.life().await {
                End::Closed => return,
                End::Fenced(detail) => return self.fenced(detail).await,
                End::Again(reason) => {
                    // What keeps failing is tried, and spoken of, more and more rarely.
                    breaks = if begun.elapsed() > REMIND { 1 } else { breaks + 1 };
                    tracing::warn!(db = %self.target.db, "replication begins anew: {reason}");
                    self.status.update(|status| status.problem = Some(reason));
                    self.mailbox.pause(retry::pause(breaks)).await;
                }
            }
        }
    }

    async fn life(&mut self) -> End {
        let hold = match self.held().await {
            Ok(hold) => hold,
            Err(end) => return end,
        };
        match self.session(hold).await {
            Ok(end) | Err(end) => end,
        }
    }

    /// A hold on the database, as soon as there is one.
    async fn held(&mut self) -> Result<ReadHold, End> {
        if let Some(hold) = self.hold.take() {
            return Ok(hold);
        }
        let mut said = None;
        let begun = Instant::now();
        loop {
            let asked = self.mailbox.asked();
            let db = self.target.db.clone();
            match blocking(move || ReadHold::take(&db)).await? {
                Ok(hold) => {
                    self.status.update(|status| status.absent = false);
                    return Ok(hold);
                }
                Err(SqliteError::NotYet { .. }) => {
                    self.status.update(|status| (status.absent, status.problem) = (true, None));
                    if self.mailbox.answer(asked, &self.status.read()) || self.mailbox.closed() {
                        return Err(End::Closed);
                    }
                }
                Err(error @ SqliteError::Busy { .. }) if begun.elapsed() < LOCKED => {
                    self.status.update(|status| status.problem = Some(error.to_string()));
                }
                Err(error) => {
                    if said.replace(error.to_string()).as_ref() != said.as_ref() {
                        tracing::warn!(db = %self.target.db, "not replicated yet: {error}");
                    }
                    self.status.update(|status| status.problem = Some(error.to_string()));
                }
            }
            if self.mailbox.closed() {
                return Err(End::Closed);
            }
            let pause = if asked > 0 { BREAK_PAUSE } else { TICK };
            self.mailbox.wait(&self.changed, Instant::now() + pause).await;
        }
    }

    async fn session(&mut self, hold: ReadHold) -> Result<End, End> {
        let capture = blocking(move || Capture::survey(hold)).await??;
        let tip = self.tip().await?;
        let (db, replica, node_id) = (self.target.db.clone(), self.target.store.url().to_owned(), self.node_id);
        let begun = blocking(move || {
            let anchor = anchor::anchor(&db, &replica, node_id, capture, tip)?;
            let uploaded = anchor.uploaded;
            Ok(Work::new(db, replica, anchor).map(|work| (work, uploaded))?)
        });
        let (mut work, uploaded) = match begun.await? {
            Ok(begun) => begun,
            Err(AnchorError::Foreign(why)) => return Ok(End::Fenced(why)),
            Err(error) => return Err(End::Again(error.to_string())),
        };
        self.status.uploaded(uploaded);
        tracing::info!(db = %self.target.db, replica = self.target.store.url(), after = %uploaded, "replicating");
        let mut last_upload: Option<Instant> = None;
        loop {
            // Before the capture: what changes while it runs is looked at again.
            let seen = glance(&self.target.db);
            let asked = self.mailbox.asked();
            // Under steady writing uploads are spaced; after a quiet time the first one goes out at once.
            let free_at = last_upload.map_or_else(Instant::now, |at| at + self.target.settings.sync_interval);
            if asked == 0 && !work.behind && Instant::now() < free_at && !self.mailbox.closed() {
                self.mailbox.wait(&Notify::new(), free_at).await;
                continue;
            }
            let (returned, found) = blocking(move || capture_next(work)).await?;
            work = returned;
            let found = found?;
            if found {
                last_upload = Some(Instant::now());
            }
            work = self.upload_pending(work).await?;
            if asked == 0 {
                let settings = self.target.settings.clone();
                let (returned, done) = blocking(move || checkpointed(work, &settings, !found)).await?;
                done?;
                work = self.upload_pending(returned).await?;
            }
            // Whoever asked before the capture began has what he asked for, however much was committed since.
            if !work.behind {
                if asked > 0 {
                    work = blocking(move || settled(work)).await?;
                }
                if self.mailbox.answer(asked, &self.status.read()) || self.mailbox.closed() {
                    return Ok(End::Closed);
                }
            }
            if found {
                continue;
            }
            let turn = Instant::now() + TURN;
            loop {
                let woken = self.mailbox.wait(&self.changed, Instant::now() + TICK).await;
                let restless = woken != Woken::Time || !work.settled() || Instant::now() >= turn;
                if restless || glance(&self.target.db) != seen {
                    break;
                }
            }
        }
    }

    /// The replica's newest position, however long it takes.
    async fn tip(&mut self) -> Result<Option<Tip>, End> {
        let mut trouble = Trouble::default();
        loop {
            let store = Arc::clone(&self.target.store);
            let asked = watched(&self.target, false, anchor::tip(&*store, Deadline::after(LOOK)));
            match self.mailbox.during(true, asked).await {
                None if self.mailbox.closed() => return Err(End::Closed),
                None => {}
                Some(Ok(tip)) => return Ok(tip),
                Some(Err(error)) => self.stumble(&mut trouble, &error.to_string()).await?,
            }
        }
    }

    async fn upload_pending(&mut self, mut work: Work) -> Result<Work, End> {
        while work.pending().is_some() {
            work = self.upload(work).await?;
        }
        Ok(work)
    }

    /// Puts the first pending segment, however long it takes.
    async fn upload(&mut self, work: Work) -> Result<Work, End> {
        let work = blocking(move || {
            work.record_sending();
            work
        });
        let mut work = work.await?;
        let Some(segment) = work.pending() else { return Ok(work) };
        let streamed = matches!(segment.content, Content::Pages(_));
        let (txid, snapshot) = (segment.header.range.max, segment.level == Level::SNAPSHOT);
        self.status.update(|status| status.captured = Captured(txid));
        let mut trouble = Trouble::default();
        let sent = loop {
            let store = Arc::clone(&self.target.store);
            let put = watched(&self.target, streamed, upload::put(&*store, segment));
            match self.mailbox.during(!streamed, put).await {
                None if self.mailbox.closed() => return Err(End::Closed),
                None => {}
                Some(Ok(Stored::Yes(sent))) => break sent,
                Some(Ok(Stored::Earlier)) => {
                    return Err(End::Again(format!("an earlier upload of TXID {txid} arrived after all")));
                }
                Some(Ok(Stored::Foreign(detail))) => return Err(End::Fenced(detail)),
                Some(Err(UploadError::Segment(error))) => return Err(End::Again(error.to_string())),
                Some(Err(UploadError::Store(error))) => self.stumble(&mut trouble, &error.to_string()).await?,
            }
        };
        if trouble.tries > 0 {
            tracing::info!(db = %self.target.db, %txid, "the replica is back: uploaded after {} tries", trouble.tries + 1);
        }
        if let Some(txid) = work.arrived() {
            self.status.uploaded(txid);
        }
        self.status.update(|status| status.bytes += sent);
        if snapshot {
            tracing::info!(db = %self.target.db, %txid, bytes = sent, "the snapshot is in the replica");
        }
        tracing::debug!(db = %self.target.db, %txid, bytes = sent, "uploaded");
        Ok(work)
    }

    /// Says what went wrong, now and then, and waits before the next try.
    async fn stumble(&mut self, trouble: &mut Trouble, error: &str) -> Result<(), End> {
        if trouble.said.is_none_or(|at| at.elapsed() >= REMIND) {
            trouble.said = Some(Instant::now());
            tracing::warn!(db = %self.target.db, "replication waits for the replica: {error}");
        }
        self.status.update(|status| status.problem = Some(error.to_owned()));
        trouble.tries = trouble.tries.saturating_add(1);
        self.mailbox.pause(retry::pause(trouble.tries)).await;
        if self.mailbox.closed() { Err(End::Closed) } else { Ok(()) }
    }

    /// Another writer has the replica: answer whoever asks, touch nothing.
    async fn fenced(&mut self, detail: String) {
        tracing::error!(db = %self.target.db, "another instance writes to {}: {detail}", self.target.store.url());
        self.status.update(|status| status.fenced = Some(detail.clone()));
        let _ = self.conflict.send((self.target.db.clone(), detail));
        while !self.mailbox.closed() {
            let asked = self.mailbox.asked();
            if self.mailbox.answer(asked, &self.status.read()) {
                return;
            }
            self.mailbox.pause(Duration::from_secs(3600)).await;
        }
    }
}

/// What a change of the database shows in, at the cost of two `stat`s: size and time of the file and of its WAL.
fn glance(db: &DbPath) -> [Option<(u64, SystemTime)>; 2] {
    [db.as_path(), &db.wal()].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.len(), meta.modified().ok()?))
    })
}

#[derive(Default)]
struct Trouble {
    tries: u32,
    said: Option<Instant>,
}

fn capture_next(mut work: Work) -> (Work, Result<bool, CaptureError>) {
    let found = work.capture();
    (work, found)
}

fn settled(work: Work) -> Work {
    work.record_settled();
    work
}

fn checkpointed(mut work: Work, settings: &super::ReplicateSettings, quiet: bool) -> (Work, Result<(), CaptureError>) {
    let done = work.checkpoint(settings, quiet);
    (work, done)
}

/// A request that says so when it takes long: a store that is silent is noticed before its deadline.
/// A streamed upload is long by nature; its parts have limits of their own.
async fn watched<T>(target: &Target, streamed: bool, request: impl Future<Output = T>) -> T {
    let mut request = std::pin::pin!(request);
    tokio::select! {
        done = &mut request => return done,
        () = tokio::time::sleep(SLOW) => {
            let (url, seconds) = (target.store.url(), SLOW.as_secs());
            if streamed {
                tracing::info!(db = %target.db, "a large upload to {url} is on its way for {seconds} s; the app goes on");
            } else {
                tracing::warn!(db = %target.db, "{url} has not answered for {seconds} s; the app goes on");
            }
        }
    }
    request.await
}

/// Runs disk work off the async thread. A panic in it ends the session, not the program.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
    tokio::task::spawn_blocking(work).await.map_err(|error| End::Again(format!("internal error: {error}")))
}

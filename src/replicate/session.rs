//! One session of a database's task, between two breaks of the chain: find where to go on, then capture, upload and
//! checkpoint until the end. Never blocks the async thread: disk work runs in `blocking`.

use super::Target;
use super::alone;
use super::anchor::{self, AnchorError};
use super::capture::{Capture, CaptureError};
use super::outbox::Refusal;
use super::relief::{Keeper, Outbox, Spoken, Unnumbered};
use super::task::{End, TICK, TURN, Task, blocking};
use super::upkeep::Upkeep;
use super::upload::{self, Content, Segment, Stored, UploadError};
use super::work::Work;
use crate::local_state::spill;
use crate::model::{Captured, Deadline, Txid};
use crate::replica::{RemoteFile, Tip};
use crate::sqlite::ReadHold;
use crate::store::layout::Level;
use crate::store::{Store, StoreError, retry};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, Semaphore};

/// One look at the replica.
const LOOK: Duration = Duration::from_secs(20);
/// A request that takes longer is spoken of.
const SLOW: Duration = Duration::from_secs(5);
/// Databases that are read as a whole at once: many large ones must not keep all threads from the others' commits.
static SURVEYS: Semaphore = Semaphore::const_new(4);
/// The pause after an error that does not heal by itself is this many times as long.
const STUBBORN: u32 = 6;

impl Task {
    pub(super) async fn session(&mut self, hold: ReadHold) -> Result<End, End> {
        let turn = SURVEYS.acquire().await.ok();
        let capture = blocking(move || Capture::survey(hold)).await??;
        drop(turn);
        let (capture, (files, tip)) = self.look(capture).await?;
        let (db, replica, node_id) = (self.target.db.clone(), self.target.store.url().to_owned(), self.node_id);
        let begun = blocking(move || {
            let anchor = anchor::anchor(&db, &replica, node_id, capture, tip)?;
            let uploaded = anchor.uploaded;
            Ok(Work::new(db, replica, anchor).map(|work| (work, uploaded))?)
        });
        let (mut work, uploaded) = match begun.await? {
            Ok(begun) => begun,
            Err(AnchorError::Foreign(why)) if self.target.late => return Ok(End::Refused(why)),
            Err(AnchorError::Foreign(why)) => return Ok(End::Fenced(why)),
            Err(error) => return Err(End::Again(error.to_string())),
        };
        self.target.late = false;
        self.status.uploaded(uploaded);
        self.status.update(|status| {
            (status.captured, status.replicating) = (Captured(uploaded), true);
            status.spilled_bytes = work.spilled_bytes();
        });
        // Ends with the session.
        let upkeep = Upkeep::start(&self.target, &files, &self.changed, &self.status);
        drop(files);
        tracing::info!(db = %self.target.db, replica = self.target.store.url(), after = %uploaded, "replicating");
        let mut last_upload: Option<Instant> = None;
        loop {
            let asked = self.mailbox.asked();
            // Under steady writing uploads are spaced; after a quiet time the first one goes out at once.
            let free_at = last_upload.map_or_else(Instant::now, |at| at + self.target.settings.sync_interval);
            if asked == 0 && !work.behind && Instant::now() < free_at && !self.mailbox.closed() {
                self.mailbox.wait(&Notify::new(), free_at).await;
                continue;
            }
            self.status.look();
            let (returned, found) = blocking(move || capture_next(work, asked > 0)).await?;
            work = returned;
            let found = found?;
            self.status.looked(work.pending().is_some());
            if found {
                last_upload = Some(Instant::now());
            }
            work = self.upload_pending(work, &upkeep).await?;
            work = offer_snapshot(work, &upkeep).await?;
            if asked == 0 && may_move_hold(&work, &upkeep, &self.target) {
                let settings = self.target.settings.clone();
                let (returned, done) = blocking(move || checkpointed(work, &settings, !found)).await?;
                done?;
                work = self.upload_pending(returned, &upkeep).await?;
            }
            // Whoever asked before the capture began has what he asked for, however much was committed since.
            if !work.behind {
                self.status.caught_up();
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
            // What changed while the capture ran has rung.
            let pause = if work.settled() { TURN } else { TICK };
            self.mailbox.wait(&self.changed, Instant::now() + pause).await;
        }
    }

    /// What the replica holds, and its newest position, however long it takes.
    async fn look(&mut self, capture: Capture) -> Result<(Capture, (Vec<RemoteFile>, Option<Tip>)), End> {
        let mut trouble = Trouble::default();
        let outbox = Unnumbered { capture, refusal: Refusal::default() };
        let mut keeper = Keeper::new(outbox, &self.target, &self.status);
        let found = loop {
            let store = Arc::clone(&self.target.store);
            let asked = watched(&self.target, false, anchor::look(&*store, Deadline::after(LOOK)));
            let meanwhile = relieved(&mut keeper, &mut trouble.spoken, asked);
            match self.mailbox.during(true, meanwhile).await.transpose()? {
                None if self.mailbox.closed() => return Err(End::Closed),
                None => {}
                Some(Ok(found)) => break found,
                Some(Err(error)) => self.stumble(&mut keeper, &mut trouble, &error).await?,
            }
        };
        self.sure_since = Instant::now();
        Ok((keeper.give_back().await?.capture, found))
    }

    async fn upload_pending(&mut self, mut work: Work, upkeep: &Upkeep) -> Result<Work, End> {
        while work.pending().is_some() {
            work = self.upload(work, upkeep).await?;
        }
        Ok(work)
    }

    /// Puts the first pending segment, however long it takes.
    async fn upload(&mut self, mut work: Work, upkeep: &Upkeep) -> Result<Work, End> {
        let work = blocking(move || {
            work.record_sending();
            work
        });
        let work = work.await?;
        let Some(segment) = work.pending() else { return Ok(work) };
        let txid = segment.header.range.max;
        let waiting_bytes = work.waiting_bytes();
        self.status.update(|status| (status.captured, status.lag_bytes) = (Captured(txid), waiting_bytes));
        let mut trouble = Trouble::default();
        let end = work.raw_end();
        let mut keeper = Keeper::new(work, &self.target, &self.status);
        let sent = loop {
            let store = Arc::clone(&self.target.store);
            let segment = keeper.idle().and_then(Work::pending).unwrap_or_else(|| Arc::clone(&segment));
            // Its content is in the WAL: that may be let go of only between two tries.
            let streamed = self.streams(&segment);
            let unsure = end.filter(|_| self.sure_since.elapsed() > alone::sure(&self.target.settings));
            let put = watched(&self.target, streamed, put_after(&*store, &segment, unsure));
            let answer = if streamed {
                self.mailbox.during(false, put).await
            } else {
                let meanwhile = relieved(&mut keeper, &mut trouble.spoken, put);
                self.mailbox.during(true, meanwhile).await.transpose()?
            };
            match answer {
                None if self.mailbox.closed() => return Err(End::Closed),
                None => {}
                Some(Ok(Some(Stored::Yes(sent)))) => break sent,
                Some(Ok(None)) => {
                    return Err(End::Again("the replica's newest file has gone: another writer may be there".into()));
                }
                Some(Ok(Some(Stored::Earlier))) => {
                    return Err(End::Again(format!("an earlier upload of TXID {txid} arrived after all")));
                }
                Some(Ok(Some(Stored::Foreign(detail)))) => return Err(End::Fenced(detail)),
                Some(Err(UploadError::Segment(error))) => return Err(End::Again(error.to_string())),
                Some(Err(UploadError::Store(error))) => self.stumble(&mut keeper, &mut trouble, &error).await?,
            }
        };
        self.sure_since = Instant::now();
        let mut work = keeper.give_back().await?;
        if trouble.tries > 0 {
            tracing::info!(db = %self.target.db, %txid, "the replica is back: uploaded after {} tries", trouble.tries + 1);
        }
        upkeep.arrived(&segment);
        if let Some((txid, file)) = work.arrived() {
            self.status.uploaded(txid);
            if let Some(path) = file {
                // Should it stay, the next start knows that it is in the replica.
                let _ = blocking(move || spill::remove(&path)).await?;
            }
        }
        self.tell_upload(&work, &segment, sent);
        Ok(work)
    }

    /// For the status and the log.
    fn tell_upload(&self, work: &Work, segment: &Segment, sent: u64) {
        let (db, txid, snapshot) = (&self.target.db, segment.header.range.max, segment.level == Level::SNAPSHOT);
        let (spilled_bytes, waiting_bytes) = (work.spilled_bytes(), work.waiting_bytes());
        self.status.update(|status| {
            (status.bytes, status.uploads) = (status.bytes + sent, status.uploads + 1);
            status.uploaded_at = Some(SystemTime::now());
            (status.spilled_bytes, status.lag_bytes) = (spilled_bytes, waiting_bytes);
            status.wal_grows = None;
            if snapshot {
                status.upkeep.snapshot(0);
            }
        });
        if snapshot {
            tracing::info!(%db, %txid, bytes = sent, "the snapshot is in the replica");
        }
        tracing::debug!(%db, %txid, bytes = sent, "uploaded");
    }

    /// Whether its content is read while it is sent. That is long by nature: while it gets on nothing is in the way.
    fn streams(&self, segment: &Segment) -> bool {
        let streamed = matches!(segment.content, Content::Pages(_));
        if streamed {
            self.status.update(|status| status.problem = None);
        }
        streamed
    }

    /// Says what went wrong, now and then, and waits before the next try.
    async fn stumble<T: Outbox>(
        &mut self,
        keeper: &mut Keeper<T>,
        trouble: &mut Trouble,
        error: &StoreError,
    ) -> Result<(), End> {
        if trouble.said.now() {
            tracing::warn!(db = %self.target.db, "replication waits for the replica: {error}");
        }
        self.status.update(|status| {
            status.problem = Some(error.to_string());
            status.failures += 1;
        });
        trouble.tries = trouble.tries.saturating_add(1);
        let pause = retry::pause(trouble.tries);
        // Credentials may be renewed and buckets made while we run; to ask all the time would not help.
        let pause = if error.may_heal() { pause } else { pause * STUBBORN };
        tokio::select! {
            () = self.mailbox.pause(pause) => {}
            end = keeper.watch(&mut trouble.spoken) => match end? {},
        }
        if self.mailbox.closed() { Err(End::Closed) } else { Ok(()) }
    }
}

/// Runs a request; meanwhile the WAL is kept within its limit.
async fn relieved<T, O: Outbox>(
    keeper: &mut Keeper<O>,
    spoken: &mut Spoken,
    request: impl Future<Output = T>,
) -> Result<T, End> {
    tokio::select! {
        answer = request => Ok(answer),
        end = keeper.watch(spoken) => match end? {},
    }
}

/// After a quiet time the name of the next file may be free again although another writer has been there: it went on, merged
/// and deleted what it wrote. But then the file before is gone, too: None.
async fn put_after(store: &dyn Store, segment: &Segment, unsure: Option<Txid>) -> Result<Option<Stored>, UploadError> {
    if let Some(end) = unsure
        && !alone::still_ends_at(store, end, Deadline::after(LOOK)).await?
    {
        return Ok(None);
    }
    upload::put(store, segment).await.map(Some)
}

#[derive(Default)]
struct Trouble {
    tries: u32,
    said: Spoken,
    /// That the WAL grows.
    spoken: Spoken,
}

/// `asked`: somebody waits for everything that is committed.
fn capture_next(mut work: Work, asked: bool) -> (Work, Result<bool, CaptureError>) {
    let found = work.capture(asked);
    (work, found)
}

/// A snapshot on its way reads pages that a checkpoint would replace. It takes its chances once the WAL is at its limit.
fn may_move_hold(work: &Work, upkeep: &Upkeep, target: &Target) -> bool {
    !upkeep.reads_pages() || work.wal_bytes() >= target.settings.wal_limit
}

/// Gives the snapshot that is asked for, if it can be had now.
async fn offer_snapshot(mut work: Work, upkeep: &Upkeep) -> Result<Work, End> {
    if work.behind || !upkeep.wants_snapshot() {
        return Ok(work);
    }
    let made = blocking(move || {
        let made = work.snapshot();
        (work, made)
    });
    let (work, snapshot) = made.await?;
    if let Some(snapshot) = snapshot? {
        upkeep.give(snapshot);
    }
    Ok(work)
}

fn settled(mut work: Work) -> Work {
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

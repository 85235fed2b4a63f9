//! One session of a database's task, between two breaks of the chain: find where to go on, then capture,
//! upload and checkpoint until the end. Never blocks the async thread: disk work goes through `disk`.

use super::capture::checkpoint::CheckpointDecision;
use super::capture::watch::TICK;
use super::capture::{Capture, CaptureError};
use super::database_writer::DatabaseWriter;
use super::disk::Disk;
use super::end::{End, blocking};
use super::mailbox::Occasion;
use super::maintenance::base::LastAsked;
use super::maintenance::{Maintenance, SnapshotRequest, ownership};
use super::resume_point::{self, ResumeError, ResumePoint};
use super::task::{TURN, Task};
use super::upload::{Content, Segment, Stored, UploadError};
use super::wal_limiter::WalLimiter;
use super::{ReplicateSettings, Target};
use crate::model::log_throttle::LogThrottle;
use crate::model::{Captured, Deadline, Moment, PageSize, Txid};
use crate::replica::{RemoteFile, Tip, clocks};
use crate::sqlite::ReadHold;
use crate::store::layout::Level;
use crate::store::{StoreError, retry};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// One look at the replica.
const LOOK: Duration = Duration::from_secs(20);
/// A request that takes longer is spoken of.
const SLOW: Duration = Duration::from_secs(5);
/// Tries to close the WAL at the last flush, each of which uploads what an app that still writes has
/// committed meanwhile.
const CLOSINGS: u32 = 3;
/// Databases that are read as a whole at once: many large ones must not keep all threads from the others'
/// commits.
static CHECKSUM_SCANS: Semaphore = Semaphore::const_new(4);

/// What a session works with.
struct Session {
    disk: Disk,
    limiter: WalLimiter,
    maintenance: Maintenance,
    /// Tries to close the WAL at the last flush.
    closings: u32,
}

impl Task {
    pub(super) async fn session(&mut self, hold: ReadHold) -> Result<End, End> {
        let mut session = self.open_session(hold).await?;
        let (mut last_upload, mut behind): (Option<Instant>, bool) = (None, false);
        loop {
            let asked = self.mailbox.asked();
            let at_once = self.mailbox.upload_now() || asked > 0;
            // Under steady writing uploads are spaced; after a quiet time the first one goes out at once.
            let free_at = last_upload.map_or_else(Instant::now, |at| at + self.target.settings.sync_interval);
            if !at_once && !behind && Instant::now() < free_at && !self.mailbox.closed() {
                session.limiter.beside(self.mailbox.wait(&Notify::new(), free_at)).await?;
                continue;
            }
            self.status.capture_begins();
            self.note_refused(&session).await?;
            let (found, waits) = session.disk.run(move |writer| capture_next(writer, at_once)).await??;
            self.status.capture_ended(waits);
            if found {
                last_upload = Some(Instant::now());
            }
            self.upload_pending(&mut session).await?;
            // Only SQLite has written to the file that the next steps read and write.
            session.disk.run(DatabaseWriter::prove_untouched).await??;
            self.renew(&mut session).await?;
            session.offer_snapshot().await?;
            if asked == 0 {
                session.checkpoint(&self.target.settings, !found).await?;
                self.upload_pending(&mut session).await?;
            }
            let state = session.disk.run(|writer| WriterState::of(writer)).await?;
            behind = state.behind;
            // A flush that was requested before the capture began is complete, however much was committed
            // since.
            if !behind {
                self.status.caught_up();
                self.repaired();
                if asked > 0 {
                    session.disk.run(DatabaseWriter::record_settled).await?;
                }
                self.check_base(&session.maintenance, self.mailbox.occasion()).await?;
                match self.answer(&mut session, asked).await? {
                    Answer::Ended => return Ok(End::Closed),
                    Answer::MoreToUpload => continue,
                    Answer::Given => {}
                }
            }
            if found || state.pending {
                continue;
            }
            // A change while the capture ran has been notified already, and ends this wait at once.
            let pause = if state.settled && !state.awaited { TURN } else { TICK };
            let changed = Arc::clone(&self.changed);
            session.limiter.beside(self.mailbox.wait(&changed, Instant::now() + pause)).await?;
        }
    }

    /// Scans the database, reads the replica, and decides where to continue.
    async fn open_session(&mut self, hold: ReadHold) -> Result<Session, End> {
        let turn = CHECKSUM_SCANS.acquire().await.ok();
        let capture = blocking(move || Capture::scan_checksums(hold)).await??;
        drop(turn);
        let disk = Disk::new(capture, &self.status);
        self.disk = Some(disk.clone());
        let request = Arc::new(SnapshotRequest::new(Arc::clone(&self.changed)));
        let mut limiter = WalLimiter::new(&disk, &self.target, &self.status, &request);
        let (files, tip) = self.read_replica(&mut limiter).await?;
        let Begun { uploaded, newest_ms, page_size } = match self.begin(&disk, tip).await? {
            Ok(begun) => begun,
            Err(ResumeError::Foreign(why)) if self.target.late => return Err(End::Refused(why)),
            Err(ResumeError::Foreign(why)) => return Err(End::Fenced(why)),
            Err(ResumeError::Capture(error)) => return Err(error.into()),
            Err(error) => return Err(End::Again(error.to_string())),
        };
        self.note_begun(uploaded, newest_ms);
        // Ends with the session.
        let maintenance =
            Maintenance::start(&self.target, &files, page_size, request, &self.status, self.ledger.clone());
        drop(files);
        self.base_asked = LastAsked::now(self.status.read().uploads);
        let replica = self.target.store.url();
        tracing::info!(db = %self.target.db, replica, after = %uploaded, "replicating");
        Ok(Session { disk, limiter, maintenance, closings: 0 })
    }

    /// Reads what the replica holds, and its newest position; retries until the replica answers.
    async fn read_replica(
        &mut self,
        limiter: &mut WalLimiter,
    ) -> Result<(Vec<RemoteFile>, Option<Tip>), End> {
        let mut trouble = Trouble::default();
        let found = loop {
            let store = Arc::clone(&self.target.store);
            let asked =
                watched(&self.target, false, resume_point::read_replica(&*store, Deadline::after(LOOK)));
            match self.mailbox.during(true, limiter.beside(asked)).await.transpose()? {
                None if self.mailbox.closed() => return Err(End::Closed),
                None => {}
                Some(Ok(found)) => break found,
                Some(Err(error)) => self.pause_after_failure(limiter, &mut trouble, &error).await?,
            }
        };
        self.sure_since = Instant::now();
        Ok(found)
    }

    /// Finds where the local file continues the replica, and makes the scanned database one that is
    /// replicated from there.
    async fn begin(&mut self, disk: &Disk, tip: Option<Tip>) -> Result<Result<Begun, ResumeError>, End> {
        let db = self.target.db.clone();
        let replica = self.target.store.url().to_owned();
        let node_id = self.node_id;
        let clock = self.target.store.clock();
        let replaced = self.replaced.is_some();
        // The app may have closed the database while the hold was being taken.
        self.watcher.catch_up().await;
        self.app_locks_exclusively |= self.status.wal_without_index();
        let app_locks_exclusively = self.app_locks_exclusively;
        let ledger = self.ledger.clone();
        let make = move |capture| {
            resume_point::refuse_exhausted(tip.as_ref())?;
            let found = resume_point::find(&db, &replica, node_id, capture, tip, replaced)?;
            let point = ResumePoint { clock, app_locks_exclusively, ..found };
            let page_size = point.capture.page_size();
            let begun = Begun { uploaded: point.uploaded, newest_ms: point.last_timestamp_ms, page_size };
            let mut writer = DatabaseWriter::new(db, replica, point)?;
            if let Some(ledger) = ledger {
                writer.prove_to(ledger);
            }
            Ok((writer, begun))
        };
        disk.begin(make).await
    }

    fn note_begun(&mut self, uploaded: Txid, newest_ms: i64) {
        self.target.late = false;
        self.check_clocks(newest_ms);
        self.status.uploaded(uploaded);
        self.status.update(|status| (status.captured, status.replicating) = (Captured(uploaded), true));
    }

    /// Says what is wrong with the clocks, as far as the store and its newest file tell.
    fn check_clocks(&self, newest_ms: i64) {
        let store_ms = self.target.store.clock().and_then(|clock| clock.now_ms());
        let trouble = clocks::trouble(Moment::now().0, store_ms, newest_ms);
        if let Some(trouble) = &trouble {
            tracing::warn!(db = %self.target.db, replica = self.target.store.url(), "{trouble}");
        }
        self.status.update(|status| status.clock = trouble);
    }

    /// At the last flush: if the app was kept out of its database, the state file and the replica say so to
    /// the next start.
    async fn note_refused(&mut self, session: &Session) -> Result<(), End> {
        if !self.mailbox.asked_last() || self.app_locks_exclusively {
            return Ok(());
        }
        self.watcher.catch_up().await;
        if !self.status.signs(|signs| signs.was_refused()) {
            return Ok(());
        }
        tracing::warn!(
            db = %self.target.db,
            "the app opened the database and ended without a statement: it may lock the whole database \
             (PRAGMA locking_mode = EXCLUSIVE). At the next start litevisor does not open the database \
             before the app has used it; locking_mode = \"exclusive\" in the database's section makes sure \
             of that"
        );
        self.app_locks_exclusively = true;
        session.disk.run(DatabaseWriter::note_exclusive).await??;
        Ok(())
    }

    async fn upload_pending(&mut self, session: &mut Session) -> Result<(), End> {
        while let Some((segment, end)) = session.disk.run(DatabaseWriter::send_next).await? {
            self.upload(session, segment, end).await?;
        }
        Ok(())
    }

    /// Puts the first pending segment behind `end`, the newest raw file; retries until it is in the replica.
    async fn upload(
        &mut self,
        session: &mut Session,
        mut segment: Arc<Segment>,
        end: Option<Txid>,
    ) -> Result<(), End> {
        let Session { disk, limiter, maintenance, .. } = session;
        let txid = segment.header.range.max;
        self.status.update(|status| status.captured = Captured(txid));
        let mut trouble = Trouble::default();
        let begun = Instant::now();
        let sent = loop {
            let store = Arc::clone(&self.target.store);
            let streamed = self.streams(&segment);
            let sure = ownership::sure(&self.target.settings);
            let unsure = end.filter(|_| self.sure_since.elapsed() > sure);
            let put = ownership::put_next(&*store, &segment, unsure, begun, sure);
            let put = limiter.beside(watched(&self.target, streamed, put));
            match self.mailbox.during(!streamed, put).await.transpose()? {
                None if self.mailbox.closed() => return Err(End::Closed),
                None => {}
                Some(Ok(Some(Stored::Yes(sent)))) => break sent,
                Some(Ok(None)) => {
                    return Err(End::Again("another writer may have continued the replica meanwhile".into()));
                }
                Some(Ok(Some(Stored::Earlier))) => {
                    return Err(End::Again(format!("an earlier upload of TXID {txid} arrived after all")));
                }
                Some(Ok(Some(Stored::Foreign(detail)))) => return Err(End::Fenced(detail)),
                Some(Err(UploadError::Segment(error))) => return Err(End::Again(error.to_string())),
                Some(Err(UploadError::Store(error))) => {
                    self.pause_after_failure(limiter, &mut trouble, &error).await?
                }
            }
            // It may have gone to the spill directory meanwhile.
            segment = disk.run(|writer| writer.pending()).await?.unwrap_or(segment);
        };
        self.sure_since = Instant::now();
        if trouble.tries > 0 {
            tracing::info!(db = %self.target.db, %txid, "the replica is back: uploaded after {} \
                tries", trouble.tries + 1);
            maintenance.back();
        }
        maintenance.arrived(&segment);
        if let Some(txid) = disk.run(DatabaseWriter::remove_sent).await? {
            self.status.uploaded(txid);
        }
        self.tell_upload(&segment, sent);
        Ok(())
    }

    /// Whether the segment's pages are read while it is sent. Such an upload takes long by nature, so a
    /// problem of an earlier try is no longer shown.
    fn streams(&self, segment: &Segment) -> bool {
        let streamed = matches!(segment.content, Content::Pages(..));
        if streamed {
            self.status.update(|status| status.problem = None);
        }
        streamed
    }

    /// Notes what went wrong, logs it now and then, and waits before the next try.
    async fn pause_after_failure(
        &mut self,
        limiter: &mut WalLimiter,
        trouble: &mut Trouble,
        error: &StoreError,
    ) -> Result<(), End> {
        if trouble.said.due("store") {
            tracing::warn!(db = %self.target.db, "replication waits for the replica: {error}");
        }
        self.status.update(|status| {
            status.problem = Some(error.to_string());
            status.failures += 1;
        });
        trouble.tries = trouble.tries.saturating_add(1);
        // Credentials may be renewed and buckets made while we run; to ask all the time would not help.
        let pause = retry::pause_after(error, trouble.tries, self.urgency());
        limiter.beside(self.mailbox.pause(pause)).await?;
        if self.mailbox.closed() { Err(End::Closed) } else { Ok(()) }
    }

    /// Tells the status and the log what was uploaded.
    fn tell_upload(&self, segment: &Segment, sent: u64) {
        let db = &self.target.db;
        let txid = segment.header.range.max;
        let snapshot = segment.level == Level::SNAPSHOT;
        self.status.sent(sent);
        if snapshot {
            self.status.update(|status| status.maintenance.snapshot(0));
            tracing::info!(%db, %txid, bytes = sent, "the snapshot is in the replica");
        }
        tracing::debug!(%db, %txid, bytes = sent, "uploaded");
    }

    /// Uploads a position without pages, if the replica is not proven. Its snapshot has a name that no
    /// damaged file can have.
    async fn renew(&mut self, session: &mut Session) -> Result<(), End> {
        let Some(damaged) = self.mailbox.renew() else { return Ok(()) };
        session.disk.run(DatabaseWriter::advance).await??;
        self.upload_pending(session).await?;
        session.maintenance.renew(damaged);
        Ok(())
    }

    /// Answers those who asked before the last capture, once the replica has everything and can be restored.
    async fn answer(&mut self, session: &mut Session, asked: usize) -> Result<Answer, End> {
        if !session.maintenance.base_status().is_restorable() {
            return Ok(if self.mailbox.closed() { Answer::Ended } else { Answer::Given });
        }
        let last = asked > 0 && self.mailbox.occasion() == Occasion::Last;
        // An app that writes all the time must not keep the last flush for ever (`replicate --once` beside
        // it).
        let close = last && session.closings < CLOSINGS;
        if close && !session.close().await? {
            return Ok(Answer::MoreToUpload);
        }
        let ends = self.mailbox.answer(asked, &self.status.read()) || self.mailbox.closed();
        Ok(if close || ends { Answer::Ended } else { Answer::Given })
    }
}

/// Where a session begins.
struct Begun {
    /// The replica's newest position, and the time in its newest file.
    uploaded: Txid,
    newest_ms: i64,
    page_size: PageSize,
}

/// Whether something was found, and whether something waits to be sent.
fn capture_next(writer: &mut DatabaseWriter, closely: bool) -> Result<(bool, bool), CaptureError> {
    let found = writer.capture(closely)?;
    Ok((found, writer.pending().is_some()))
}

/// Where the database's writer stands after a turn of the session.
struct WriterState {
    /// The last capture stopped before the end of what was committed.
    behind: bool,
    /// Segments wait to be sent.
    pending: bool,
    /// Everything is copied into the database file, and nothing came since.
    settled: bool,
    /// The gate waits for the proof that everything is uploaded.
    awaited: bool,
}

impl WriterState {
    fn of(writer: &DatabaseWriter) -> WriterState {
        WriterState {
            behind: writer.behind,
            pending: writer.pending().is_some(),
            settled: writer.settled(),
            awaited: writer.is_awaited(),
        }
    }
}

impl Session {
    /// Gives the snapshot that is asked for, if it can be had now.
    async fn offer_snapshot(&self) -> Result<(), End> {
        if self.maintenance.wants_snapshot()
            && let Some(snapshot) = self.disk.run(DatabaseWriter::snapshot).await??
        {
            self.maintenance.give(snapshot);
        }
        Ok(())
    }

    /// Copies the WAL into the database, if it is time to. A snapshot on its way reads pages that a
    /// checkpoint would replace: it takes its chances once the WAL is at its limit.
    async fn checkpoint(&self, settings: &ReplicateSettings, quiet: bool) -> Result<(), End> {
        let settings = settings.clone();
        let reads_pages = self.maintenance.reads_pages();
        let checkpoint = move |writer: &mut DatabaseWriter| {
            if reads_pages && writer.wal_bytes() < settings.wal_limit {
                return Ok(());
            }
            writer.checkpoint(&settings, quiet)
        };
        Ok(self.disk.run(checkpoint).await??)
    }

    /// The app has ended, and everything is in the replica: copies the WAL and removes it, as SQLite's last
    /// close does. A backup that is copied over the file later is then a whole database. False: there is more
    /// to upload.
    async fn close(&mut self) -> Result<bool, End> {
        self.closings += 1;
        let copied = self.disk.run(|writer| {
            writer.checkpoint_as(CheckpointDecision::Gentle)?;
            let copied = writer.pending().is_none();
            if copied {
                writer.record_settled();
            }
            Ok::<_, CaptureError>(copied)
        });
        let copied = copied.await??;
        if copied {
            self.disk.close().await?;
        }
        Ok(copied)
    }
}

/// What came of the requests for a flush.
enum Answer {
    /// One of them was the last, or no request can come any more.
    Ended,
    /// The app wrote while its WAL was closed.
    MoreToUpload,
    /// There were none, or they were answered.
    Given,
}

#[derive(Default)]
struct Trouble {
    tries: u32,
    said: LogThrottle,
}

/// Runs a request, and logs when it takes long: a store that is silent is noticed before its deadline.
/// A streamed upload is long by nature; its parts have limits of their own.
async fn watched<T>(target: &Target, streamed: bool, request: impl Future<Output = T>) -> T {
    let mut request = std::pin::pin!(request);
    tokio::select! {
        done = &mut request => return done,
        () = tokio::time::sleep(SLOW) => {
            let url = target.store.url();
            let seconds = SLOW.as_secs();
            if streamed {
                tracing::info!(db = %target.db, "a large upload to {url} has been running for {seconds} s; \
                    it continues");
            } else {
                tracing::warn!(db = %target.db, "{url} has not answered for {seconds} s; the request \
                    continues");
            }
        }
    }
    request.await
}

//! Keeps one replica small and quick to restore while a session lasts: merges, snapshots, deletions, in an
//! order in which the replica can be restored at every instant. Owns the inventory. The session tells it what
//! was uploaded (`session_side`); `schedule` and `retention` decide what to do. Asks the replica nothing
//! while there is nothing to do; never delays a capture or an upload; dropped, it stops at once.

pub mod base;
mod compaction;
mod deletion;
pub mod dry_run;
mod inventory;
pub mod ownership;
pub mod pace;
mod recent;
mod retention;
mod schedule;
mod session_side;
mod snapshot;
mod tiers;

pub use session_side::Maintenance;
pub use snapshot::SnapshotRequest;

use super::Target;
use super::status::{MaintenanceStatus, StatusCell};
use crate::ltx::{HEADER_BYTES, Header};
use crate::model::{Deadline, PageSize, Txid, TxidRange};
use crate::replica::RemoteFile;
use crate::store::layout::Level;
use base::{BaseStatus, Restorable};
use bytes::Bytes;
use compaction::{Failure, Merged};
use inventory::{File, Inventory};
use ownership::Ownership;
use pace::{Clock, Pause, Pauses, WEATHER};
use recent::Recent;
use retention::Deletion;
use schedule::{Due, Job};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

/// Merges under way at once, of all databases.
static MERGES: Semaphore = Semaphore::const_new(2);
const REQUEST: Duration = Duration::from_secs(20);
const TELL_EVERY: Duration = Duration::from_secs(15);

/// Ends a task with its owner.
pub struct Ends<T>(pub tokio::task::JoinHandle<T>);

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub enum Event {
    Arrived(File, Option<Bytes>),
    /// How the upload of a snapshot ended.
    Snapshot(Result<File, String>),
    /// The newest state is not proven; the keys of the files that are damaged.
    Unproven(Vec<String>),
    /// An upload went through after others had failed.
    Back,
}

enum Next {
    Snapshot,
    Merge(Job),
    Delete(Vec<Vec<Deletion>>),
    Wait(Option<i64>),
}

/// The page size of the snapshot that a restore begins with. After a new one in the database the whole of it
/// is a raw file: a restore of ours begins with that, one of Litestream's cannot.
enum BaseSize {
    Same,
    /// Not asked yet; what the database has.
    Unknown(PageSize),
    /// Snapshots up to here have another one.
    Other(Txid),
}

struct MaintenanceTask {
    target: Target,
    inventory: Inventory,
    recent: Recent,
    clock: Clock,
    inbox: mpsc::UnboundedReceiver<Event>,
    outbox: mpsc::UnboundedSender<Event>,
    request: Arc<SnapshotRequest>,
    /// When we knew last that the replica is ours alone.
    sure_since_ms: i64,
    /// It has another history now: hands off.
    another: bool,
    /// The snapshot on its way.
    snapshot: Option<Ends<()>>,
    /// Why the newest state cannot be restored.
    broken: Option<String>,
    base_size: BaseSize,
    /// A proof has failed: the snapshot that follows from it has at least this position, and is not in the
    /// replica yet.
    unproven: Option<Txid>,
    /// When it was last told what can be restored.
    told: Option<Instant>,
    pauses: Pauses,
    status: Arc<StatusCell>,
    base_status: Arc<BaseStatus>,
}

impl MaintenanceTask {
    fn new(
        target: &Target,
        listed: &[RemoteFile],
        clock: Clock,
        request: Arc<SnapshotRequest>,
        events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    ) -> MaintenanceTask {
        MaintenanceTask {
            target: target.clone(),
            inventory: Inventory::of(listed, clock.now_ms()),
            recent: Recent::default(),
            clock,
            outbox: events.0,
            inbox: events.1,
            request,
            sure_since_ms: clock.now_ms(),
            another: false,
            snapshot: None,
            broken: None,
            base_size: BaseSize::Same,
            unproven: None,
            told: None,
            pauses: Pauses::default(),
            status: Arc::default(),
            base_status: Arc::new(BaseStatus::new(Arc::default(), None)),
        }
    }

    async fn run(mut self) {
        self.check().await;
        loop {
            self.ask_base_size().await;
            self.tell_restorable().await;
            let until = self.work().await.map(|until| self.clock.until(until).into());
            let wake = until.unwrap_or_else(tokio::time::Instant::now);
            tokio::select! {
                event = self.inbox.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => return,
                },
                () = tokio::time::sleep_until(wake), if until.is_some() => {}
            }
        }
    }

    /// Does what is due. When there may be more (Unix milliseconds); None: not until something is written.
    async fn work(&mut self) -> Option<i64> {
        loop {
            while let Ok(event) = self.inbox.try_recv() {
                self.take(event).await;
            }
            self.base_status.set_base(self.inventory.base().copied());
            let next = self.next();
            if let Next::Wait(until) = next {
                return until;
            }
            if !self.is_alone().await {
                continue;
            }
            match next {
                Next::Snapshot => self.begin_snapshot(),
                Next::Merge(job) => self.merge(job).await,
                Next::Delete(groups) => self.delete(groups).await,
                Next::Wait(_) => {}
            }
        }
    }

    fn next(&self) -> Next {
        let settings = &self.target.settings;
        let now = self.clock.now_ms();
        if self.another || now < self.pauses.ownership.until_ms {
            return Next::Wait(Some(self.pauses.ownership.until_ms).filter(|_| !self.another));
        }
        let due = if self.snapshot.is_some() {
            Due::Never
        } else if self.broken.is_some() || self.unproven.is_some() {
            Due::Now(())
        } else {
            schedule::snapshot(&self.inventory, settings.snapshot_interval, now)
        };
        let snapshot = match self.pauses.snapshot.hold(due, now) {
            Due::Now(()) => return Next::Snapshot,
            due => due.at(),
        };
        let merge = match self.pauses.merge.hold(schedule::merge(&self.inventory, &settings.levels, now), now)
        {
            Due::Now(job) => return Next::Merge(job),
            due => due.at(),
        };
        let expired = settings
            .retention
            .map(|retention| retention::expired(&self.inventory, &retention, now))
            .unwrap_or_default();
        let delete = match expired.groups {
            groups if groups.is_empty() => expired.next_ms,
            groups => match self.pauses.delete.hold(Due::Now(groups), now) {
                Due::Now(groups) => return Next::Delete(groups),
                due => due.at(),
            },
        };
        Next::Wait(snapshot.into_iter().chain(merge).chain(delete).min())
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Arrived(file, bytes) => {
                // Create-only: no other writer had continued from the position before.
                (self.sure_since_ms, self.pauses.ownership) = (file.since_ms, Pause::default());
                self.inventory.add(file);
                if file.level == Level::SNAPSHOT {
                    self.base_size = BaseSize::Same;
                }
                if let Some(bytes) =
                    bytes.filter(|_| file.level == Level::RAW && !self.target.settings.levels.is_empty())
                {
                    self.recent.keep(file.level, file.range, &bytes);
                }
                if self.broken.is_some() {
                    self.check().await;
                }
            }
            Event::Unproven(damaged) => {
                let parsed = damaged.iter().filter_map(|key| self.target.store.layout().parse(key));
                parsed.for_each(|(level, range)| self.inventory.mark_damaged(level, range));
                (self.unproven, self.pauses.snapshot) = (Some(self.inventory.end()), Pause::default());
                self.check().await;
            }
            // What had failed, too, need not wait: a refusal would be tried again in an hour.
            Event::Back => self.pauses = Pauses::default(),
            Event::Snapshot(Ok(file)) => {
                (self.snapshot, self.pauses.snapshot) = (None, Pause::default());
                self.unproven = self.unproven.filter(|least| file.range.max < *least);
                self.note(|maintenance| maintenance.snapshot(file.size));
                self.inventory.add(file);
                self.check().await;
            }
            Event::Snapshot(Err(error)) => {
                self.snapshot = None;
                self.note(|maintenance| maintenance.failed(format!("no new snapshot: {error}")));
                if self.pauses.snapshot.fail(self.clock.now_ms(), true) {
                    tracing::warn!(db = %self.target.db, "no new snapshot yet, {WEATHER} tries: {error}");
                } else {
                    tracing::debug!(db = %self.target.db, "no new snapshot yet: {error}");
                }
            }
        }
    }

    /// Whether the replica is ours alone, as it was when we uploaded last.
    async fn is_alone(&mut self) -> bool {
        let now = self.clock.now_ms();
        if now.saturating_sub(self.sure_since_ms) < schedule::millis(ownership::sure(&self.target.settings)) {
            return true;
        }
        let ownership =
            ownership::check(&*self.target.store, &self.inventory, Deadline::after(REQUEST)).await;
        let db = &self.target.db;
        let url = self.target.store.url();
        match ownership {
            Ok(Ownership::Ours) => {}
            Ok(Ownership::Emptied) => {
                tracing::error!(
                    %db, "{url} is empty, everything in it was removed: a new snapshot is uploaded; find out \
                        what deletes there"
                );
                self.inventory = Inventory::default();
                (self.broken, self.sure_since_ms) = (Some("it is empty".to_owned()), now);
                // The next session gives it a raw file, too: Litestream would start over at TXID 1 without
                // one.
                self.base_status.set_emptied();
                return false;
            }
            Ok(Ownership::Replaced(end)) => {
                tracing::error!(
                    %db, "{url} no longer holds TXID {end}, our newest file, but others: is another instance \
                     writing there? Nothing is merged or deleted by this one any more"
                );
                self.another = true;
                self.note(|maintenance| {
                    maintenance.failed(format!("TXID {end} is gone: another instance may be writing there"))
                });
                return false;
            }
            // Should it be ours, it is about to be known.
            Ok(Ownership::Continued(txid)) => {
                let speak = self.pauses.ownership.fail(now, true);
                self.say(
                    "nothing is merged or deleted for now: another instance may be writing there",
                    &txid,
                    speak,
                );
                return false;
            }
            Err(error) => {
                let speak = self.pauses.ownership.fail(now, error.may_heal());
                self.say("nothing is merged or deleted for now", &error, speak);
                return false;
            }
        }
        (self.sure_since_ms, self.pauses.ownership) = (now, Pause::default());
        true
    }

    /// Something is not there although we know of it: the next look takes nothing for granted.
    async fn lost(&mut self, level: Level, range: TxidRange) {
        let db = &self.target.db;
        let url = self.target.store.url();
        tracing::warn!(
            %db, "{url} has lost a file of level {}: {range}; does anything but litevisor delete \
                there?", level.0
        );
        self.inventory.remove(level, range);
        self.sure_since_ms = i64::MIN;
        self.check().await;
    }

    /// Whether the newest state can be restored, as far as we know; a snapshot makes it so again.
    async fn check(&mut self) {
        let inventory = self.inventory.clone();
        let broken = tokio::task::spawn_blocking(move || inventory.broken()).await.ok().flatten();
        let broken = broken.map(|why| why.to_string()).or_else(|| self.resized());
        if let Some(why) = broken.as_ref().filter(|_| self.broken.is_none()) {
            tracing::warn!(db = %self.target.db, replica = self.target.store.url(), "a new snapshot is \
                uploaded: {why}");
        }
        self.broken = broken;
        self.status.update(|status| status.unrestorable.clone_from(&self.broken));
        let restorable = self.broken.clone().map_or(Restorable::Yes, Restorable::No);
        self.base_status.set(self.inventory.base().copied(), restorable);
    }

    /// For people, so not with every file.
    async fn tell_restorable(&mut self) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let inventory = self.inventory.clone();
        let Ok(ranges) = tokio::task::spawn_blocking(move || inventory.restorable()).await else { return };
        self.status.update(|status| status.restorable = ranges.into());
    }

    fn resized(&self) -> Option<String> {
        let BaseSize::Other(until) = self.base_size else { return None };
        let base = self.inventory.base().filter(|base| base.range.max <= until)?;
        Some(format!("the snapshot {} has another page size than the database", base.range))
    }

    /// Asks until there is an answer, each time that something may be done.
    async fn ask_base_size(&mut self) {
        let BaseSize::Unknown(ours) = self.base_size else { return };
        let Some(base) = self.inventory.base().copied() else { return };
        let key = self.target.store.layout().key(base.level, base.range);
        let head = self.target.store.get(&key, Some(0..HEADER_BYTES as u64), Deadline::after(REQUEST)).await;
        match head.map(|head| Header::from_start(&head).map(|header| header.page_size)) {
            Ok(Ok(theirs)) if theirs != ours => {
                self.base_size = BaseSize::Other(base.range.max);
                self.check().await;
            }
            Ok(_) => self.base_size = BaseSize::Same,
            Err(error) => {
                tracing::debug!(db = %self.target.db, "the page size of {key} is not known: {error}")
            }
        }
    }

    fn begin_snapshot(&mut self) {
        let store = Arc::clone(&self.target.store);
        let db = self.target.db.clone();
        let request = Arc::clone(&self.request);
        let clock = self.clock;
        let outbox = self.outbox.clone();
        let upload = async move {
            let done = snapshot::upload(&*store, &db, &request).await.map(|(range, size)| File {
                level: Level::SNAPSHOT,
                range,
                size,
                since_ms: clock.now_ms(),
                damaged: false,
            });
            let _ = outbox.send(Event::Snapshot(done));
        };
        self.snapshot = Some(Ends(tokio::spawn(upload)));
    }

    async fn merge(&mut self, job: Job) {
        let Ok(_turn) = MERGES.acquire().await else { return };
        let begun = Instant::now();
        match compaction::merge(&*self.target.store, &job, &self.recent).await {
            Ok(merged) => {
                self.pauses.merge.over();
                self.note(|maintenance| {
                    maintenance.merges += 1;
                    maintenance.done(merged.size);
                });
                tracing::debug!(
                    db = %self.target.db, level = merged.level.0, txids = %merged.range, bytes = merged.size,
                    took = ?begun.elapsed(), "merged"
                );
                self.merged(&job, merged);
            }
            Err(failure) => self.not_merged(&job, &failure).await,
        }
    }

    fn merged(&mut self, job: &Job, merged: Merged) {
        let inside = |range: &TxidRange| range.max <= merged.range.max;
        let inputs: Vec<_> = job.inputs.iter().filter(|file| inside(&file.range)).collect();
        // As old as the newest of what it holds, so that its turn comes as if nothing had been late.
        let since_ms = inputs.iter().map(|file| file.since_ms).max().unwrap_or_else(|| self.clock.now_ms());
        let file =
            File { level: merged.level, range: merged.range, size: merged.size, since_ms, damaged: false };
        for input in inputs {
            self.recent.forget(input.level, input.range);
        }
        if let Some(bytes) =
            merged.bytes.filter(|_| self.target.settings.levels.len() > usize::from(merged.level.0))
        {
            self.recent.keep(file.level, file.range, &bytes);
        }
        self.inventory.add(file);
        if self.target.settings.retention.is_none() {
            self.inventory.forget_merged(&file);
        }
    }

    async fn not_merged(&mut self, job: &Job, failure: &Failure) {
        let db = &self.target.db;
        let url = self.target.store.url();
        let below = Level(job.level.0.saturating_sub(1));
        match failure {
            Failure::Gone(range) => self.lost(below, *range).await,
            Failure::Merge(_) | Failure::Unreadable(..) => {
                tracing::warn!(%db, "files of level {} in {url} cannot be merged: {failure}", below.0);
                self.note(|maintenance| {
                    maintenance.failed(format!("files of level {} cannot be merged: {failure}", below.0))
                });
                // What is wrong together, without one being damaged, is of no use either.
                let bad = job
                    .inputs
                    .iter()
                    .filter(|file| failure.damaged().is_none_or(|range| range == file.range));
                bad.for_each(|file| self.inventory.mark_damaged(below, file.range));
                return self.check().await;
            }
            Failure::Store(error) if error.may_heal() => {
                let speak = self.pauses.merge.fail(self.clock.now_ms(), true);
                self.say("files are not merged for now", failure, speak);
            }
            Failure::Store(_) | Failure::Taken(_) | Failure::Panicked(_) => {
                let speak = self.pauses.merge.fail(self.clock.now_ms(), false);
                self.say("files are not merged", failure, speak);
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut MaintenanceStatus)) {
        self.status.update(|status| change(&mut status.maintenance));
    }

    fn say(&self, what: &str, error: &dyn std::fmt::Display, aloud: bool) {
        self.note(|maintenance| maintenance.failed(format!("{what}: {error}")));
        if aloud {
            tracing::warn!(db = %self.target.db, "{what}: {error}");
        } else {
            tracing::debug!(db = %self.target.db, "{what}: {error}");
        }
    }
}

#[cfg(test)]
mod tests;

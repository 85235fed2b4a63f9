//! The session's side of the maintenance: tells it what was uploaded, and gives it the snapshots that it asks
//! for.

use super::base::BaseStatus;
use super::inventory::File;
use super::pace::Clock;
use super::snapshot::SnapshotRequest;
use super::{BaseSize, Ends, Event, MaintenanceTask};
use crate::model::PageSize;
use crate::replica::RemoteFile;
use crate::replicate::Target;
use crate::replicate::ledger::LedgerEntry;
use crate::replicate::status::StatusCell;
use crate::replicate::upload::{Content, Segment};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The session's side.
pub struct Maintenance {
    events: mpsc::UnboundedSender<Event>,
    clock: Clock,
    request: Arc<SnapshotRequest>,
    base_status: Arc<BaseStatus>,
    _task: Ends<()>,
}

impl Maintenance {
    /// `page_size`: of the database. `request` is where it asks the session for snapshots, and what wakes it.
    pub fn start(
        target: &Target,
        listed: &[RemoteFile],
        page_size: PageSize,
        request: Arc<SnapshotRequest>,
        status: &Arc<StatusCell>,
        ledger: Option<LedgerEntry>,
    ) -> Maintenance {
        let (events, inbox) = mpsc::unbounded_channel();
        let clock = Clock::start(target.store.clock().as_deref());
        let base_status = Arc::new(BaseStatus::new(request.waker(), ledger));
        let task = MaintenanceTask {
            status: Arc::clone(status),
            base_status: Arc::clone(&base_status),
            base_size: BaseSize::Unknown(page_size),
            ..MaintenanceTask::new(target, listed, clock, Arc::clone(&request), (events.clone(), inbox))
        };
        Maintenance { events, clock, request, base_status, _task: Ends(tokio::spawn(task.run())) }
    }

    /// A segment is in the replica.
    pub fn arrived(&self, segment: &Segment) {
        let level = segment.level;
        let range = segment.header.range;
        let since_ms = self.clock.now_ms();
        let (size, bytes) = match &segment.content {
            Content::Encoded(bytes) => (bytes.len() as u64, Some(bytes.clone())),
            Content::Spilled { bytes, .. } => (*bytes, None),
            Content::Pages(..) => (0, None),
        };
        let _ =
            self.events.send(Event::Arrived(File { level, range, size, since_ms, damaged: false }, bytes));
    }

    /// The replica takes uploads again.
    pub fn back(&self) {
        let _ = self.events.send(Event::Back);
    }

    /// The newest state is not proven, and has a position whose snapshot is not in the replica.
    pub fn renew(&self, damaged: Vec<String>) {
        let _ = self.events.send(Event::Unproven(damaged));
    }

    /// A snapshot of the uploaded position is wanted.
    pub fn wants_snapshot(&self) -> bool {
        self.request.is_waiting()
    }

    pub fn give(&self, snapshot: Segment) {
        self.request.give(snapshot);
    }

    /// What is known of the replica's base.
    pub fn base_status(&self) -> &BaseStatus {
        &self.base_status
    }

    /// The pages of a snapshot are being read: the WAL and the database file must keep them.
    pub fn reads_pages(&self) -> bool {
        self.request.is_under_way()
    }
}

//! A sync request to the engine, and its answer. Values only.

use crate::model::Deadline;
use tokio::sync::{mpsc, oneshot};

/// Upload what is committed now.
#[derive(Debug)]
pub struct SyncRequest {
    /// A database's path; None: all.
    pub db: Option<String>,
    pub by: Deadline,
    pub reply: oneshot::Sender<SyncAnswer>,
}

#[derive(Clone, Debug)]
pub enum SyncAnswer {
    /// Replication has not begun.
    NotYet,
    /// No database of that path is replicated here.
    Unknown,
    Done(Vec<Synced>),
}

/// The result of a sync for one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub database: String,
    /// Everything that was committed before the request is in the replica.
    pub complete: bool,
    pub fenced: bool,
    /// The database has not existed in this run.
    pub absent: bool,
    pub committed: String,
    pub uploaded: String,
    pub missing: Option<String>,
}

pub type SyncRequests = mpsc::UnboundedReceiver<SyncRequest>;

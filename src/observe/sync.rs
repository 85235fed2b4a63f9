//! What is asked of the engine by `sync`, and its answer. Values only.

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

#[derive(Debug)]
pub enum SyncAnswer {
    /// Replication has not begun.
    NotYet,
    /// No database of that path is replicated here.
    Unknown,
    Done(Vec<Synced>),
}

/// What of one database is in the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub database: String,
    /// Everything that was committed when the sync was asked for.
    pub complete: bool,
    pub fenced: bool,
    pub committed: String,
    pub uploaded: String,
    pub missing: Option<String>,
}

pub type SyncRequests = mpsc::UnboundedReceiver<SyncRequest>;

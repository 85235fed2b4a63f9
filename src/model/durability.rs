//! What the gate asks of replication: is everything that the app has committed in the replica?

use std::future::Future;
use std::pin::Pin;

/// The answer to one look at every replicated database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// Every commit is in the replica.
    Durable,
    /// There may be commits that are not in the replica. The ticket stands for everything that was committed
    /// when the look was made.
    Pending(Ticket),
}

/// A moment of the ledger: increases with every look that found something open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Another writer has the replica: nothing that is held can become durable here any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fenced;

/// The record of what is uploaded. Replication implements it; the gate uses it.
pub trait DurabilityLedger: Send + Sync + 'static {
    /// Looks at every replicated database, after the bytes in question were read from the app. Cheap; takes
    /// no lock that the app could meet, and never waits.
    fn look(&self) -> Durability;

    /// Starts the upload of what is committed at once instead of at the next `sync_interval`. Shared by all
    /// callers.
    fn request_upload(&self);

    /// Resolves when everything that the ticket stands for is in the replica. Time limits are the caller's.
    fn uploaded(&self, ticket: Ticket) -> Pin<Box<dyn Future<Output = Result<(), Fenced>> + Send + '_>>;

    /// Why nothing can be proven now (rollback journal, exclusive locking, not replicated yet), by database;
    /// for the log and the status.
    fn unprovable(&self) -> Vec<(String, String)>;
}

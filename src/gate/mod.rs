//! The gate: litevisor listens in front of the app and lets no byte out before what it might acknowledge is
//! in the replica.
//!
//! `connection` copies, `held` ◦ keeps the order, `decide` ◦ says what happens to bytes that are held.
//! `serve` is the life of one gate. All gates share a thread with a runtime of its own, so that replication,
//! supervision and the stop never wait for a client. The gate knows neither the app's protocol nor the store:
//! replication's ledger tells it what is durable.

mod connection;
mod decide;
mod held;
mod listener;
mod proxy_header;
mod serve;
mod settings;
mod shared;
mod statistics;
mod stream;

#[cfg(test)]
mod tests;

use crate::model::{Deadline, DurabilityLedger};
use shared::Shared;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use settings::{Accept, AppAddress, GateSettings, ListenAddress, OnFailure};
pub use statistics::{BOUNDS_MS, GateView, Statistics};

/// What the gates know of the app and of litevisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// The app was not started yet.
    Preparing,
    /// The app runs, or is started again.
    Running,
    /// The app is gone; the last flush runs.
    Flushing,
    /// The last flush has ended.
    Over(Over),
    /// Another writer has the replica.
    Fenced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Over {
    /// Everything that was committed is in the replica.
    complete: bool,
    by: Deadline,
}

impl Life {
    fn is_ending(self) -> bool {
        matches!(self, Life::Flushing | Life::Over(_) | Life::Fenced)
    }
}

/// All gates of a run. When this is dropped, their connections are reset.
pub struct Gates {
    life: watch::Sender<Life>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
    statistics: Vec<Arc<Statistics>>,
}

/// After `by`, the connections that are left are reset within this time.
const LAST: Duration = Duration::from_millis(100);

impl Gates {
    pub fn none() -> Gates {
        Gates { life: watch::Sender::new(Life::Preparing), ended: channel().1, statistics: Vec::new() }
    }

    /// Starts the thread.
    pub fn start(settings: Vec<GateSettings>, ledger: &Arc<dyn DurabilityLedger>) -> std::io::Result<Gates> {
        let (life, seen) = watch::channel(Life::Preparing);
        let (alive, ended) = channel();
        let gates: Vec<_> = settings.into_iter().map(|gate| Shared::new(gate, Arc::clone(ledger))).collect();
        let statistics = gates.iter().map(|gate| Arc::clone(&gate.statistics)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("gate".into()).spawn(move || {
            runtime.block_on(serve_all(gates, &seen));
            // Resets the connections that are left, before the main thread may end the process.
            drop(runtime);
            drop::<Sender<()>>(alive);
        })?;
        Ok(Gates { life, ended, statistics })
    }

    pub fn statistics(&self) -> &[Arc<Statistics>] {
        &self.statistics
    }

    /// The app was started, for the first time or again.
    pub fn app_started(&self) {
        self.change(Life::Running);
    }

    /// The app is gone for good: no connection is accepted any more; what is held waits for the last flush.
    pub fn flushing(&self) {
        self.change(Life::Flushing);
    }

    /// Another writer has the replica: everything is closed, always.
    pub fn fenced(&self) {
        self.change(Life::Fenced);
    }

    /// The last flush has ended: waits until the clients have what is proven, at most until `by`.
    pub fn finish(&self, complete: bool, by: Deadline) {
        self.change(Life::Over(Over { complete, by }));
        if self.ended.recv_timeout(by.left() + LAST) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the gate has not ended in time: clients do not take their answers");
        }
    }

    /// A gate that is fenced stays so.
    fn change(&self, life: Life) {
        self.life.send_if_modified(|now| *now != Life::Fenced && std::mem::replace(now, life) != life);
    }
}

async fn serve_all(gates: Vec<Arc<Shared>>, life: &watch::Receiver<Life>) {
    let mut serving = JoinSet::new();
    let start = |gate: &Arc<Shared>| serving.spawn(serve::serve(Arc::clone(gate), life.clone())).id();
    let tasks: Vec<_> = gates.iter().map(start).collect();
    while let Some(ended) = serving.join_next().await {
        // The panic itself is in the log.
        let Err(error) = ended else { continue };
        for (gate, _) in gates.iter().zip(&tasks).filter(|(_, task)| **task == error.id()) {
            gate.statistics.set_shut(Some("internal error".into()));
            tracing::error!(gate = %gate.settings.listen, "the gate has ended unexpectedly. Restart \
                litevisor");
        }
    }
}

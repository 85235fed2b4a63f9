//! What the connections of one gate share: the ledger, the requests for uploads, and what was logged.

use super::decide::{Prospect, Reason};
use super::settings::{Accept, GateSettings, OnFailure};
use super::statistics::Statistics;
use crate::model::log_throttle::LogThrottle;
use crate::model::{Durability, DurabilityLedger, Fenced, Ticket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A database of which nothing can be proven for this long is mentioned in the log. Each is one at the start.
const UNPROVABLE_AFTER: Duration = Duration::from_secs(1);

pub type Uploaded = Pin<Box<dyn Future<Output = Result<(), Fenced>> + Send>>;

pub struct Shared {
    pub settings: GateSettings,
    pub statistics: Arc<Statistics>,
    ledger: Arc<dyn DurabilityLedger>,
    /// Bytes were sent without a proof (`on_failure = "pass"`), and nothing was proven since.
    lapsed: AtomicBool,
    last_look: Mutex<Look>,
    state: Mutex<State>,
}

/// The newest look.
#[derive(Clone, Copy, Default)]
struct Look {
    /// How many there were.
    number: u64,
    found: Option<Ticket>,
}

/// When bytes were read: after so many looks.
#[derive(Clone, Copy)]
pub struct ReadAfter(u64);

#[derive(Default)]
struct State {
    /// When the gate last requested an upload.
    requested: Option<Instant>,
    /// The next request waits for `min_interval`.
    scheduled: bool,
    closings: LogThrottle,
    unprovable: LogThrottle,
    /// In a moment it is known whether it lasts.
    unprovable_awaited: bool,
}

impl Shared {
    pub fn new(settings: GateSettings, ledger: Arc<dyn DurabilityLedger>) -> Arc<Shared> {
        let listen = settings.listen.to_string();
        let app = settings.app.to_string();
        let statistics =
            Arc::new(Statistics::new(listen, app, settings.accept == Accept::Early, Arc::clone(&ledger)));
        let lapsed = AtomicBool::new(false);
        Arc::new(Shared {
            settings,
            statistics,
            ledger,
            lapsed,
            last_look: Mutex::default(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called after a read.
    pub fn has_read(&self) -> ReadAfter {
        ReadAfter(self.last_look().number)
    }

    /// What a look that began after this read has found: an earlier caller's, if there is one. A ticket: the
    /// bytes must be held, and the upload is requested.
    pub fn look(self: &Arc<Self>, read: ReadAfter) -> Option<Ticket> {
        // Held until the look is over, so that one that began before a read is counted before it.
        let mut last = self.last_look();
        if last.number > read.0 {
            return last.found;
        }
        let found = match self.ledger.look() {
            Durability::Durable => {
                self.proven();
                None
            }
            Durability::Pending(ticket) => {
                self.request_upload();
                self.log_unprovable();
                Some(ticket)
            }
        };
        *last = Look { number: last.number + 1, found };
        found
    }

    fn last_look(&self) -> MutexGuard<'_, Look> {
        self.last_look.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn uploaded(&self, ticket: Ticket) -> Uploaded {
        let ledger = Arc::clone(&self.ledger);
        Box::pin(async move { ledger.uploaded(ticket).await })
    }

    pub fn prospect(&self) -> Prospect {
        if self.lapsed.load(Relaxed) { Prospect::Lapsed } else { Prospect::Open }
    }

    /// At most once in `min_interval`; a request that comes sooner is made when the interval has passed.
    fn request_upload(self: &Arc<Self>) {
        let interval = self.settings.min_interval;
        if interval.is_zero() {
            return self.ledger.request_upload();
        }
        let mut state = self.state();
        let due = state.requested.map(|last| last + interval).filter(|due| *due > Instant::now());
        let Some(due) = due else {
            state.requested = Some(Instant::now());
            return self.ledger.request_upload();
        };
        if !std::mem::replace(&mut state.scheduled, true) {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep_until(due.into()).await;
                {
                    let mut state = shared.state();
                    (state.scheduled, state.requested) = (false, Some(Instant::now()));
                }
                shared.ledger.request_upload();
            });
        }
    }

    /// Bytes are sent without a proof. Until this ticket's is there, others do not wait for theirs.
    pub fn lapse(self: &Arc<Self>, ticket: Ticket) {
        self.statistics.passed_unproven();
        if !self.lapsed.swap(true, Relaxed) {
            let listen = &self.settings.listen;
            let timeout = self.settings.timeout;
            tracing::error!(
                gate = %listen,
                "ANSWERS ARE SENT BEFORE THEY ARE DURABLE: the replica has not confirmed the commits within \
                 {timeout:?}"
            );
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                if shared.uploaded(ticket).await.is_ok() {
                    shared.proven();
                }
            });
        }
    }

    fn proven(&self) {
        if self.lapsed.load(Relaxed) && self.lapsed.swap(false, Relaxed) {
            tracing::info!(gate = %self.settings.listen, "answers wait for the replica again");
        }
    }

    pub fn closed(&self, reason: Reason, connections: usize) {
        self.statistics.closed(reason, connections);
        if connections > 0 && self.state().closings.due(reason.name()) {
            tracing::warn!(gate = %self.settings.listen, reason = reason.name(), "connection closed: \
                {}", self.why(reason));
        }
    }

    fn why(&self, reason: Reason) -> String {
        let GateSettings { app, timeout, on_failure, .. } = &self.settings;
        match (reason, on_failure) {
            (Reason::Timeout, OnFailure::Close | OnFailure::Pass) => {
                format!("its answer is not durable after {timeout:?}, and was not sent")
            }
            (Reason::Fenced, _) => "another writer has the replica".to_owned(),
            (Reason::Unflushed, _) => {
                "its answer is not durable after the last flush, and was not sent".to_owned()
            }
            (Reason::Unreachable, _) => format!("the app does not accept connections on {app}"),
            (Reason::Failed, _) => "internal error".to_owned(),
        }
    }

    /// Nothing that is held can be proven until this ends: the log says so when it lasts.
    fn log_unprovable(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().unprovable_awaited, true) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(UNPROVABLE_AFTER).await;
            let found: Vec<String> =
                shared.ledger.unprovable().into_iter().map(|(db, why)| format!("{db}: {why}")).collect();
            let mut state = shared.state();
            state.unprovable_awaited = false;
            let text = found.join("; ");
            if !found.is_empty() && state.unprovable.due(&text) {
                let gate = &shared.settings.listen;
                tracing::warn!(%gate, "answers are held: the gate cannot prove what is in the replica: \
                    {text}");
            }
        });
    }
}

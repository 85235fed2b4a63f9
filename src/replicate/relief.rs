//! Keeps the WAL within its limit while a request to the replica does not get through: looks now and then, off the async
//! thread, beside the request. Owns what the disk work needs (`Work`, or the bare capture before a session has begun) for
//! as long as the request takes, and gives it back. Decides nothing: `spill` ◦ does.

use super::capture::{Capture, CaptureError};
use super::outbox::{Refusal, Relief, relieve_unneeded};
use super::status::StatusCell;
use super::task::{End, REMIND};
use super::work::Work;
use super::{ReplicateSettings, Target};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A request that is answered within this time is no trouble.
const FIRST: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// What can be relieved.
pub trait Outbox: Send + Sized + 'static {
    fn relieve(&mut self, settings: &ReplicateSettings) -> Result<Relief, CaptureError>;

    fn spilled_bytes(&self) -> u64;

    /// Committed and not in the replica, as far as can be told.
    fn lag_bytes(&self) -> Option<u64>;
}

impl Outbox for Work {
    fn relieve(&mut self, settings: &ReplicateSettings) -> Result<Relief, CaptureError> {
        Work::relieve(self, settings)
    }

    fn spilled_bytes(&self) -> u64 {
        Work::spilled_bytes(self)
    }

    fn lag_bytes(&self) -> Option<u64> {
        Work::lag_bytes(self).ok()
    }
}

/// Before a session has begun nothing can be numbered: the database itself is what waits, and will be compared.
pub struct Unnumbered {
    pub capture: Capture,
    pub refusal: Refusal,
}

impl Outbox for Unnumbered {
    fn relieve(&mut self, settings: &ReplicateSettings) -> Result<Relief, CaptureError> {
        relieve_unneeded(&mut self.capture, &mut self.refusal, settings).map(|()| Relief::Nothing)
    }

    fn spilled_bytes(&self) -> u64 {
        0
    }

    fn lag_bytes(&self) -> Option<u64> {
        None
    }
}

type Looked<T> = (T, Result<Relief, CaptureError>);

/// Holds the outbox while a request is under way. Whatever is dropped, the outbox is not lost.
pub struct Keeper<T: Outbox> {
    idle: Option<T>,
    busy: Option<JoinHandle<Looked<T>>>,
    settings: Arc<ReplicateSettings>,
    status: Arc<StatusCell>,
    db: String,
    next: Instant,
}

impl<T: Outbox> Keeper<T> {
    pub fn new(outbox: T, target: &Target, status: &Arc<StatusCell>) -> Keeper<T> {
        let settings = Arc::new(target.settings.clone());
        let (db, next) = (target.db.to_string(), Instant::now() + FIRST);
        Keeper { idle: Some(outbox), busy: None, settings, status: Arc::clone(status), db, next }
    }

    /// What is kept, unless it is being relieved.
    pub fn idle(&self) -> Option<&T> {
        self.idle.as_ref()
    }

    /// Looks again and again. Ends only when the session must.
    pub async fn watch(&mut self, spoken: &mut Spoken) -> Result<Infallible, End> {
        loop {
            tokio::time::sleep_until(self.next.into()).await;
            self.look(spoken).await?;
            self.next = Instant::now() + LOOK;
        }
    }

    async fn look(&mut self, spoken: &mut Spoken) -> Result<(), End> {
        if let Some(mut outbox) = self.idle.take() {
            let (settings, status) = (Arc::clone(&self.settings), Arc::clone(&self.status));
            self.busy = Some(tokio::task::spawn_blocking(move || {
                let relief = outbox.relieve(&settings);
                if let Some(bytes) = outbox.lag_bytes() {
                    status.update(|status| status.lag_bytes = bytes);
                }
                (outbox, relief)
            }));
        }
        let relief = self.settle().await??;
        let spilled = self.idle.as_ref().map_or(0, Outbox::spilled_bytes);
        match relief {
            Relief::Nothing => {}
            Relief::Done { restarted } => self.status.update(|status| {
                status.spilled_bytes = spilled;
                status.wal_grows = (!restarted).then(|| "a reader keeps the WAL from starting over".to_owned());
            }),
            Relief::Grows(why) => {
                if spoken.now() {
                    tracing::error!(db = self.db, "the WAL grows past wal_limit until the replica is back: {why}");
                }
                self.status.update(|status| (status.spilled_bytes, status.wal_grows) = (spilled, Some(why)));
            }
            Relief::Anew => {
                let why = "the WAL passed its limit before the whole database could be uploaded";
                return Err(End::Again(why.to_owned()));
            }
        }
        Ok(())
    }

    /// Waits for what runs.
    async fn settle(&mut self) -> Result<Result<Relief, CaptureError>, End> {
        let Some(busy) = &mut self.busy else { return Ok(Ok(Relief::Nothing)) };
        let looked = busy.await;
        self.busy = None;
        let (outbox, relief) = looked.map_err(|error| End::Again(format!("internal error: {error}")))?;
        self.idle = Some(outbox);
        Ok(relief)
    }

    /// The request is over.
    pub async fn give_back(mut self) -> Result<T, End> {
        let _ = self.settle().await??;
        self.idle.ok_or_else(|| End::Again("internal error: the outbox is gone".to_owned()))
    }
}

/// When something was said last.
#[derive(Default)]
pub struct Spoken(Option<Instant>);

impl Spoken {
    /// Whether it is time to say it (again).
    pub fn now(&mut self) -> bool {
        let now = self.0.is_none_or(|at| at.elapsed() >= REMIND);
        if now {
            self.0 = Some(Instant::now());
        }
        now
    }
}

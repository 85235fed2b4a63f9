//! Scheduled proofs (`[verify] interval`): one replica at a time is restored and compared with its live
//! database, on a thread that exists for as long as the proof. Used on the engine thread. A proof that fails
//! is told, and a new snapshot is requested.

mod judge;
mod priority;
mod prove;
mod schedule;

use crate::config::VerifySettings;
use crate::model::{DbPath, threads};
use crate::observe::StatusRegistry;
use crate::replicate::Handle;
use crate::restore::RestoreSettings;
use crate::store::StoreSettings;
use prove::{Job, Outcome};
use schedule::{Plan, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

/// What a proof that is stopped may still take.
const STOPPING: Duration = Duration::from_secs(2);
/// As for the engine: an unoptimised build needs some of it.
const STACK: usize = 8 << 20;

/// What a thread has found.
pub struct ProofEnd {
    db: DbPath,
    outcome: Outcome,
}

/// Where the threads report.
pub type ProofEnds = UnboundedSender<ProofEnd>;

pub struct Proofs {
    settings: VerifySettings,
    restore: RestoreSettings,
    registry: Arc<StatusRegistry>,
    ends: ProofEnds,
    subjects: BTreeMap<DbPath, Subject>,
    running: Option<Running>,
    is_stopped: bool,
}

struct Subject {
    replica: StoreSettings,
    handle: Handle,
    /// Old records may be deleted: retention is on.
    deletes: bool,
    plan: Plan,
    /// A proof has failed when so many snapshots had been made in this run: the next one needs another.
    snapshots: Option<u64>,
}

struct Running {
    db: DbPath,
    stop: watch::Sender<bool>,
    /// Closed when the thread has ended and removed its files.
    ended: watch::Receiver<()>,
}

impl Proofs {
    pub fn new(
        settings: VerifySettings,
        restore: RestoreSettings,
        registry: Arc<StatusRegistry>,
        ends: ProofEnds,
    ) -> Proofs {
        Proofs {
            settings,
            restore,
            registry,
            ends,
            subjects: BTreeMap::new(),
            running: None,
            is_stopped: false,
        }
    }

    /// A database is replicated from now on.
    pub fn add(&mut self, db: &DbPath, replica: StoreSettings, handle: Handle, deletes: bool) {
        let Some(interval) = self.settings.interval else { return };
        let plan = Plan::begin(interval, Instant::now());
        self.subjects.insert(db.clone(), Subject { replica, handle, deletes, plan, snapshots: None });
        self.registry.proof(db, |_| {});
    }

    /// The database is about to be replaced: a proof of it that runs is abandoned.
    pub fn abandon(&mut self, db: &DbPath) {
        if let Some(running) = self.running.as_ref().filter(|running| running.db == *db) {
            running.stop.send_replace(true);
        }
    }

    /// When the next proof begins. None: none does, or one runs.
    pub fn due(&self) -> Option<Instant> {
        if self.is_stopped || self.running.is_some() {
            return None;
        }
        self.subjects.values().map(|subject| subject.plan.due).min()
    }

    /// Begins the proof that is due, if its replica can be proven now.
    pub fn begin(&mut self) {
        let (now, Some(interval)) = (Instant::now(), self.settings.interval) else { return };
        let due = self.subjects.iter_mut().filter(|(_, subject)| subject.plan.due <= now);
        let Some((db, subject)) = due.min_by_key(|(_, subject)| subject.plan.due) else { return };
        let status = subject.handle.status();
        let renewed = subject.snapshots.is_none_or(|before| status.maintenance.snapshots != before);
        // Until then the result is known, or nothing can be said.
        if !renewed || !status.replicating || status.unrestorable.is_some() || status.absent {
            subject.plan = subject.plan.later(interval, now);
            return;
        }
        let mut proven = None;
        self.registry.proof(db, |view| {
            view.is_running = true;
            proven = view.last.as_ref().and_then(|last| last.proven.clone());
        });
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(());
        let job = Job {
            db: db.clone(),
            replica: subject.replica.clone(),
            handle: subject.handle.clone(),
            settings: self.settings,
            restore: self.restore.clone(),
            young: Some(interval).filter(|_| !subject.plan.has_result),
            proven,
            deletes: subject.deletes,
            stop: stopped,
        };
        tracing::debug!(%db, "a proof of the replica begins");
        let started = start(job, self.ends.clone(), end);
        self.running = Some(Running { db: db.clone(), stop, ended });
        if let Err(error) = started {
            let outcome = Outcome::Undecided(threads::with_limit(&error));
            let _ = self.ends.send(ProofEnd { db: db.clone(), outcome });
        }
    }

    /// Takes what a thread has found.
    pub fn ended(&mut self, end: ProofEnd) {
        self.running = None;
        let ProofEnd { db, outcome } = end;
        self.registry.proof(&db, |view| view.is_running = false);
        let Some((subject, interval)) = self.subjects.get_mut(&db).zip(self.settings.interval) else {
            return;
        };
        let result = match outcome {
            Outcome::Stopped => {
                subject.plan = subject.plan.later(interval, Instant::now());
                return;
            }
            Outcome::Undecided(why) => {
                tracing::warn!(%db, "the replica could not be proven: {why}");
                self.registry.proof(&db, |view| view.undecided = Some(why));
                Result::Undecided
            }
            Outcome::Young(record, age) => {
                tracing::info!(%db, txid = record.txid, "the replica was proven at {}: the next proof \
                    waits", record.time);
                self.registry.proof(&db, |view| (view.last, view.undecided) = (Some(*record), None));
                Result::Young(age)
            }
            Outcome::Decided(record, renew) => {
                let sound = record.sound;
                let why = record.problem.as_deref().unwrap_or_default();
                let (txid, seconds, bytes) = (&record.txid, record.seconds, record.bytes);
                if sound {
                    tracing::info!(%db, txid, bytes, seconds, "the replica is proven: it equals the live \
                        database");
                } else if renew {
                    tracing::error!(%db, txid, "the replica is NOT PROVEN, a new snapshot is uploaded now: \
                        {why}");
                } else {
                    tracing::error!(%db, txid, "the replica is NOT PROVEN: {why}");
                }
                subject.snapshots = (!sound && renew).then(|| subject.handle.status().maintenance.snapshots);
                if subject.snapshots.is_some() {
                    subject.handle.renew(record.damaged.clone());
                }
                self.registry.proof(&db, |view| (view.last, view.undecided) = (Some(*record), None));
                if sound { Result::Sound } else { Result::Failed }
            }
        };
        subject.plan = subject.plan.next(result, interval, Instant::now());
    }

    /// No proof begins any more, and one that runs is abandoned. The future ends when its files are removed,
    /// or after a limit.
    pub fn stop(&mut self) -> impl Future<Output = ()> + Send + use<> {
        self.is_stopped = true;
        let running = self.running.as_ref().map(|running| {
            running.stop.send_replace(true);
            (running.db.clone(), running.ended.clone())
        });
        async move {
            let Some((db, mut ended)) = running else { return };
            if tokio::time::timeout(STOPPING, ended.changed()).await.is_err() {
                tracing::warn!(%db, "the proof does not end: the next start removes its files");
            }
        }
    }
}

/// Starts the thread of one proof.
fn start(job: Job, ends: ProofEnds, end: watch::Sender<()>) -> std::io::Result<()> {
    let prove = move || {
        priority::lower();
        let db = job.db.clone();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
        let outcome = match runtime {
            Ok(runtime) => {
                let outcome = runtime.block_on(prove::prove(job));
                runtime.shutdown_timeout(STOPPING);
                outcome
            }
            Err(error) => Outcome::Undecided(threads::with_limit(&error)),
        };
        drop(end);
        let _ = ends.send(ProofEnd { db, outcome });
    };
    std::thread::Builder::new().name("proof".into()).stack_size(STACK).spawn(prove).map(drop)
}

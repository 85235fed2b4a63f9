//! One machine: its disk, the app on it, and the real parts of replication and restore, driven by hand as
//! `run` and `session` drive them. Between any two of them lies a named point: there the app may go on, or
//! the machine may die.

use super::app::App;
use super::disk::{Disk, Replacing, State};
use crate::lineage::state_file;
use crate::local_state::spill;
use crate::model::random::Random;
use crate::model::{Deadline, Durability, DurabilityLedger, Txid};
use crate::replicate::ReplicateSettings;
use crate::replicate::capture::checkpoint::CheckpointDecision;
use crate::replicate::capture::{Capture, CaptureError};
use crate::replicate::database_writer::DatabaseWriter;
use crate::replicate::ledger::{Ledger, LedgerEntry};
use crate::replicate::resume_point::{self, ResumeError};
use crate::replicate::upload::pressure::Need;
use crate::replicate::upload::{self, Stored, UploadError};
use crate::restore::{self, OnRestoreFailure, Outcome, Owners, Progress, RestoreError, RestoreSettings};
use crate::sqlite::hold::MEANWHILE;
use crate::sqlite::{ReadHold, Writers};
use crate::store::Store;
use crate::store::faulty::Faulty;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How something ended before it was done.
pub enum Halt {
    /// The machine, or the replicator, died here.
    Killed(&'static str),
    /// The store did not do it; it is tried again.
    Away(String),
    /// The session is over, the next one looks at everything anew.
    Again(String),
    Fenced(String),
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Halt::Killed(place) => write!(f, "killed: {place}"),
            Halt::Away(error) => write!(f, "the store fails: {error}"),
            Halt::Again(why) => write!(f, "the session ends: {why}"),
            Halt::Fenced(why) => write!(f, "fenced: {why}"),
        }
    }
}

impl From<CaptureError> for Halt {
    fn from(error: CaptureError) -> Halt {
        Halt::Again(error.to_string())
    }
}

#[expect(clippy::large_enum_variant, reason = "one for each test machine")]
pub enum Replicator {
    Off,
    /// Its process lives: the node id is this.
    Idle {
        node_id: u64,
        hold: Option<ReadHold>,
    },
    On {
        node_id: u64,
        work: Box<DatabaseWriter>,
    },
    Fenced,
}

pub struct Machine {
    pub name: char,
    pub disk: Disk,
    pub app: Option<App>,
    pub replicator: Replicator,
    pub store: Arc<Faulty>,
    pub runtime: Rc<Runtime>,
    pub random: Random,
    /// Of its own, so that a seed's app lives as it did without a limiter.
    pub limiter: Random,
    pub log: Rc<RefCell<Vec<String>>>,
    /// Every content that the database has had in this life, in order.
    pub history: Vec<State>,
    /// The place in it that the replica has reached.
    pub position: usize,
    /// A power cut has cost the record, or a hand has been at the replica.
    pub hurt: bool,
    /// A copy of the database, made by hand.
    pub copy: Option<Vec<u8>>,
    /// How another content got into the place of the database since the last start.
    pub replaced: Option<Replacing>,
    /// A start has once been gone through with this disk.
    pub prepared: bool,
    /// The position that was last restored here.
    pub came_from: Txid,
    /// What the replica has confirmed to this machine.
    pub acked: Txid,
    /// Of the replicator's process.
    pub ledger: Option<(Arc<Ledger>, LedgerEntry)>,
    /// When the ledger said that everything is uploaded: what the replica had confirmed, and what was
    /// committed.
    pub claims: Vec<(Txid, State)>,
    /// Points to pass before the one to die at.
    pub fate: Option<u32>,
    /// How often the app goes on at a point, in percent.
    pub bustle: u64,
}

impl Machine {
    pub fn say(&self, what: impl std::fmt::Display) {
        self.log.borrow_mut().push(format!("{} {what}", self.name));
    }

    pub fn see(&mut self) {
        if let Some(app) = &mut self.app {
            let state = State::of(&app.image());
            if self.history.last() != Some(&state) {
                self.history.push(state);
            }
        }
        self.disk.settle();
    }

    pub fn is_up(&self) -> bool {
        self.app.is_some() || !matches!(self.replicator, Replicator::Off)
    }

    pub fn open_app(&mut self) {
        let Machine { disk, random, history, .. } = self;
        let app = App::open(disk.db.as_path(), random, |image| {
            let state = State::of(image);
            if history.last() != Some(&state) {
                history.push(state);
            }
        });
        self.app = Some(app);
        self.see();
        self.say(format_args!("the app opens, at {:?}", self.history.last()));
    }

    pub fn app_acts(&mut self) {
        let act = App::any_act(&mut self.random);
        let Some(app) = &mut self.app else { return };
        let times = if self.random.percent(10) { self.random.between(2, 20) } else { 1 };
        let from = self.history.len();
        for _ in 0..times {
            app.act(act, &mut self.random);
            let state = State::of(&app.image());
            if self.history.last() != Some(&state) {
                self.history.push(state);
            }
        }
        self.see();
        self.say(format_args!("app: {act:?} x{times} -> {:?}", &self.history[from..]));
    }

    /// A place between two of the real parts.
    fn point(&mut self, name: &'static str) -> Result<(), Halt> {
        self.prove();
        self.see();
        match &mut self.fate {
            Some(0) => {
                self.fate = None;
                return Err(Halt::Killed(name));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if self.app.is_some() && self.random.percent(self.bustle) {
            self.say(format_args!("at the point '{name}':"));
            self.app_acts();
        }
        // As the WAL limiter may between any two pieces of work.
        if self.limiter.percent(30)
            && let Replicator::On { work, .. } = &mut self.replicator
        {
            work.act(Need::RaiseMark, &ReplicateSettings::default())?;
        }
        Ok(())
    }

    /// As after each piece of a session's work.
    fn prove(&mut self) {
        let Replicator::On { work, .. } = &mut self.replicator else { return };
        work.prove();
        if let Some(state) = self.history.last().filter(|_| self.is_durable()) {
            self.claims.push((self.acked, *state));
        }
    }

    pub fn is_durable(&self) -> bool {
        self.ledger.as_ref().is_some_and(|(ledger, _)| ledger.look() == Durability::Durable)
    }

    /// A piece of work on the disk, which may end the session: until then the ledger knows of it.
    fn piece<T>(&mut self, work: impl FnOnce(&mut DatabaseWriter) -> T) -> Result<T, Halt> {
        let done = work(self.work()?);
        self.prove();
        Ok(done)
    }

    /// A request; the machine may die in it.
    fn ask<T>(&self, request: impl Future<Output = T>) -> Result<T, Halt> {
        let store = Arc::clone(&self.store);
        self.runtime.block_on(async move {
            tokio::select! {
                biased;
                () = store.killed() => Err(Halt::Killed("in a request")),
                done = request => Ok(done),
            }
        })
    }

    pub fn prepare(&mut self) -> Result<Result<Outcome, RestoreError>, Halt> {
        let (db, store) = (self.disk.db.clone(), Arc::clone(&self.store));
        let (settings, owners, progress) =
            (RestoreSettings::default(), Owners::default(), Progress::default());
        let prepared = restore::prepare(&db, &*store, &settings, &owners, OnRestoreFailure::Abort, &progress);
        let outcome = self.ask(prepared)?;
        self.disk.settle();
        Ok(outcome)
    }

    /// A new replicator process.
    pub fn start_replicator(&mut self) {
        let hold = ReadHold::take(&self.disk.db, Writers::None).ok();
        self.say(format_args!("the replicator starts, held: {}", hold.is_some()));
        self.replicator = Replicator::Idle { node_id: state_file::new_node_id(), hold };
        let ledger = Ledger::new();
        let (mailbox, _) = tokio::sync::mpsc::unbounded_channel();
        let entry = ledger.enter(&self.disk.db, &Arc::default(), &mailbox);
        ledger.complete();
        self.ledger = Some((ledger, entry));
        self.see();
    }

    /// A session begins, as in `session.rs`.
    pub fn begin(&mut self) -> Result<(), Halt> {
        let Replicator::Idle { node_id, hold } = &mut self.replicator else { return Ok(()) };
        let (node_id, hold, db) = (*node_id, hold.take(), self.disk.db.clone());
        let hold = match hold {
            Some(hold) => hold,
            None => ReadHold::take(&db, Writers::None).map_err(|error| Halt::Again(error.to_string()))?,
        };
        self.point("held")?;
        let capture = Capture::scan_checksums(hold)?;
        self.point("surveyed")?;
        let store = Arc::clone(&self.store);
        let looked = self.ask(resume_point::read_replica(&*store, soon()))?;
        let (_, tip) = looked.map_err(|error| Halt::Away(error.to_string()))?;
        self.point("looked at the replica")?;
        let point = resume_point::find(&db, store.url(), node_id, capture, tip, false);
        let point = point.map_err(|error| match error {
            ResumeError::Foreign(why) => Halt::Fenced(why),
            other => Halt::Again(other.to_string()),
        })?;
        self.point("anchored")?;
        self.acked = point.uploaded;
        let mut work = DatabaseWriter::new(db, store.url().to_owned(), point)?;
        if let Some((_, entry)) = &self.ledger {
            work.prove_to(entry.clone());
            entry.restorable(true);
        }
        self.say(format_args!("a session begins after {}", self.acked));
        self.replicator = Replicator::On { node_id, work: Box::new(work) };
        Ok(())
    }

    fn work(&mut self) -> Result<&mut DatabaseWriter, Halt> {
        match &mut self.replicator {
            Replicator::On { work, .. } => Ok(work),
            _ => Err(Halt::Again("there is no session".into())),
        }
    }

    /// One turn of a session: capture, upload, checkpoint, upload.
    pub fn turn(&mut self, decision: CheckpointDecision) -> Result<(), Halt> {
        self.point("before the capture")?;
        self.piece(|work| work.capture(false))??;
        self.point("captured")?;
        self.upload()?;
        self.point("before the checkpoint")?;
        if decision != CheckpointDecision::No {
            self.checkpoint(decision)?;
            self.point("checkpointed")?;
        }
        self.upload()
    }

    /// A checkpoint, between whose steps the app goes on.
    fn checkpoint(&mut self, decision: CheckpointDecision) -> Result<(), Halt> {
        let seed = self.random.next();
        let busy = self.random.percent(self.bustle);
        let others = Rc::new(RefCell::new((self.app.take(), Random::new(seed), Vec::new())));
        let theirs = Rc::clone(&others);
        let meanwhile = move || {
            let (app, random, seen) = &mut *theirs.borrow_mut();
            if let Some(app) = app.as_mut().filter(|_| busy) {
                let act = App::any_act(random);
                app.act(act, random);
                seen.push((act, State::of(&app.image())));
            }
        };
        MEANWHILE.set(Some(Box::new(meanwhile)));
        let done = self.work().map(|work| {
            let done = work.checkpoint_as(decision);
            work.prove();
            done
        });
        MEANWHILE.set(None);
        let (app, _, seen) = std::mem::replace(&mut *others.borrow_mut(), (None, Random::new(0), Vec::new()));
        self.app = app;
        for (act, state) in seen {
            self.say(format_args!("in the checkpoint: app: {act:?} -> {state:?}"));
            if self.history.last() != Some(&state) {
                self.history.push(state);
            }
        }
        Ok(done??)
    }

    /// As a request for a flush is answered.
    pub fn flush(&mut self) -> Result<(), Halt> {
        loop {
            self.point("before the capture")?;
            self.piece(|work| work.capture(true))??;
            self.point("captured")?;
            self.upload()?;
            if !self.work()?.behind {
                break;
            }
        }
        self.point("flushed")?;
        self.work()?.record_settled();
        self.point("recorded as settled")
    }

    fn upload(&mut self) -> Result<(), Halt> {
        while self.work()?.pending().is_some() {
            self.point("before the record")?;
            if self.work()?.send_next().is_none() {
                return Ok(());
            }
            self.point("recorded as being sent")?;
            let Some(segment) = self.work()?.pending() else { return Ok(()) };
            let store = Arc::clone(&self.store);
            match self.ask(upload::put(&*store, &segment))? {
                Ok(Stored::Yes(_)) => {}
                Ok(Stored::Earlier) => return Err(Halt::Again("an earlier upload arrived after all".into())),
                Ok(Stored::Foreign(detail)) => return Err(Halt::Fenced(detail)),
                Err(UploadError::Store(error)) => return Err(Halt::Away(error.to_string())),
                Err(UploadError::Segment(error)) => return Err(Halt::Again(error.to_string())),
            }
            self.point("put")?;
            if let Some((txid, spilled)) = self.work()?.arrived() {
                self.say(format_args!("uploaded {txid}"));
                self.acked = txid;
                self.point("arrived")?;
                if let Some(path) = spilled {
                    let _ = spill::remove(&path);
                }
            }
        }
        Ok(())
    }

    pub fn is_replicating(&self) -> bool {
        matches!(self.replicator, Replicator::On { .. })
    }

    /// The session ends, the process lives.
    pub fn new_session(&mut self) {
        if let Replicator::On { node_id, .. } | Replicator::Idle { node_id, .. } = self.replicator {
            self.replicator = Replicator::Idle { node_id, hold: None };
        }
    }

    /// The replicator's process ends: whatever it held is gone, and what it had under way arrives now or
    /// never.
    pub fn kill_replicator(&mut self) {
        self.replicator = Replicator::Off;
        self.ledger = None;
        drop(self.runtime.block_on(self.store.deliver(soon())));
        state_file::forget(&self.disk.db);
        self.disk.replicator_died(self.app.is_some());
    }

    pub fn kill_app(&mut self) {
        if let Some(app) = self.app.take() {
            app.die();
        }
        self.disk.settle();
    }

    pub fn kill_everything(&mut self) {
        self.kill_app();
        self.kill_replicator();
    }

    pub fn close_app(&mut self) {
        drop(self.app.take());
        self.disk.settle();
    }
}

pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

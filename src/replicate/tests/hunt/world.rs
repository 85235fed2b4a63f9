//! One life by seed: machines, a bucket, and steps of all kinds; after each the judge looks.

use super::app::App;
use super::bucket::Bucket;
use super::disk::Disk;
use super::fate::{default_file, judge_start, lose, plan_faults, plan_for_prepare, replace};
use super::judge::Judge;
use super::machine::{Halt, Machine, Replicator};
use crate::model::Txid;
use crate::model::random::Random;
use crate::replicate::capture::checkpoint::CheckpointDecision;
use crate::restore::RestoreError;
use crate::store::Store;
use crate::store::faulty::Faulty;
use crate::store::layout::Layout;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tokio::runtime::Runtime;

pub struct World {
    random: Random,
    judge: Judge,
    machines: Vec<Machine>,
    log: Rc<RefCell<Vec<String>>>,
    /// The replica was cut by hand.
    cut: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    App,
    Turn,
    Flush,
    NewSession,
    StopReplicator,
    KillReplicator,
    CloseApp,
    KillApp,
    KillAll,
    PowerCut,
    LoseDisk,
    Copy,
    Replace,
    Deliver,
    CutReplica,
}

const STEPS: [(u64, Step); 15] = [
    (34, Step::App),
    (30, Step::Turn),
    (9, Step::Flush),
    (4, Step::NewSession),
    (2, Step::StopReplicator),
    (3, Step::KillReplicator),
    (3, Step::CloseApp),
    (2, Step::KillApp),
    (5, Step::KillAll),
    (3, Step::PowerCut),
    (2, Step::LoseDisk),
    (3, Step::Copy),
    (4, Step::Replace),
    (3, Step::Deliver),
    (1, Step::CutReplica),
];

/// One life in so many has an encrypted replica.
const ENCRYPTED: u64 = 4;

#[cfg(feature = "age")]
fn encrypted(bucket: Arc<dyn Store>) -> Arc<dyn Store> {
    use crate::store::sealed::testing::{SECRET, sealed, settings};
    Arc::new(sealed(bucket, &settings(SECRET, None)))
}

#[cfg(not(feature = "age"))]
fn encrypted(bucket: Arc<dyn Store>) -> Arc<dyn Store> {
    bucket
}

/// Tries that the end of a life may need to bring everything home.
const LAST_TRIES: u32 = 8;

impl World {
    pub fn new(seed: u64, scratch: &Path, runtime: &Rc<Runtime>, log: Rc<RefCell<Vec<String>>>) -> World {
        let mut random = Random::new(seed);
        let layout = random.pick(&[Layout::S3, Layout::Directory]);
        let bucket = Arc::new(Bucket::new(layout));
        let store: Arc<dyn Store> = match seed % ENCRYPTED {
            0 => encrypted(Arc::clone(&bucket) as Arc<dyn Store>),
            _ => Arc::clone(&bucket) as Arc<dyn Store>,
        };
        let judge = Judge::new(bucket, Arc::clone(&store), scratch.join("judge"), Rc::clone(runtime));
        let count = if random.percent(30) { 2 } else { 1 };
        let machine = |name: char| Machine {
            name,
            disk: Disk::new(scratch.join(name.to_string())),
            app: None,
            replicator: Replicator::Off,
            store: Arc::new(Faulty::new(Arc::clone(&store))),
            runtime: Rc::clone(runtime),
            random: Random::new(seed ^ u64::from(u32::from(name)) << 40),
            limiter: Random::new(seed ^ u64::from(u32::from(name)) << 48),
            log: Rc::clone(&log),
            history: Vec::new(),
            position: 0,
            acked: Txid::NONE,
            hurt: false,
            copy: None,
            replaced: None,
            prepared: false,
            came_from: Txid::NONE,
            ledger: None,
            claims: Vec::new(),
            fate: None,
            bustle: [0, 10, 40][seed as usize % 3],
        };
        let machines = ['A', 'B'].into_iter().take(count).map(machine).collect();
        World { random, judge, machines, log, cut: false }
    }

    pub fn live(&mut self, steps: u32) {
        for step in 0..steps {
            self.log.borrow_mut().push(format!("-- step {step}"));
            let which = self.random.below(self.machines.len() as u64) as usize;
            self.step(which);
        }
        self.log.borrow_mut().push("-- the end".into());
        for which in 0..self.machines.len() {
            self.come_home(which);
        }
    }

    /// Whatever has happened: with the store well and the app quiet everything gets into the replica.
    fn come_home(&mut self, which: usize) {
        for _ in 0..LAST_TRIES {
            let machine = &mut self.machines[which];
            if !machine.is_up() && !self.start(which, false) {
                continue;
            }
            let machine = &mut self.machines[which];
            if let Some(app) = &mut machine.app {
                app.rest();
            }
            machine.see();
            machine.bustle = 0;
            if matches!(machine.replicator, Replicator::Fenced) {
                self.end_of_the_fenced(which);
                continue;
            }
            if machine.history.is_empty() || self.flush(which, false) {
                let machine = &mut self.machines[which];
                let proven = machine.is_durable() || !machine.is_replicating();
                assert!(proven, "everything is in the replica, and the ledger does not know it");
                machine.close_app();
                machine.kill_replicator();
                return self.judge.look(&mut self.machines[which], &mut self.random);
            }
        }
        panic!("{} does not get its commits into the replica", self.machines[which].name);
    }

    fn step(&mut self, which: usize) {
        let step = self.random.weighted(&STEPS);
        let machine = &mut self.machines[which];
        if !machine.is_up()
            && !matches!(
                step,
                Step::PowerCut | Step::LoseDisk | Step::Replace | Step::Deliver | Step::CutReplica
            )
        {
            self.start(which, true);
            return self.judge.look(&mut self.machines[which], &mut self.random);
        }
        match step {
            Step::App if machine.app.is_some() => machine.app_acts(),
            Step::App => machine.open_app(),
            Step::Turn => self.turn(which),
            Step::Flush => drop(self.flush(which, true)),
            Step::NewSession => machine.new_session(),
            Step::StopReplicator => {
                if self.flush(which, false) {
                    self.machines[which].kill_replicator();
                }
            }
            Step::KillReplicator => machine.kill_replicator(),
            Step::CloseApp => machine.close_app(),
            Step::KillApp => machine.kill_app(),
            Step::KillAll => machine.kill_everything(),
            Step::PowerCut => self.power_cut(which),
            Step::LoseDisk => self.lose_disk(which),
            Step::Copy => machine.copy = machine.app.as_mut().map(App::image).or(machine.copy.take()),
            Step::Replace => replace(machine, &mut self.random),
            Step::Deliver => drop(machine.runtime.block_on(machine.store.deliver(super::machine::soon()))),
            Step::CutReplica => self.cut_replica(),
        }
        let machine = &mut self.machines[which];
        machine.say(format_args!("{step:?}: {:?}, acked {}", machine.history.last(), machine.acked));
        self.judge.look(&mut self.machines[which], &mut self.random);
    }

    /// The machine comes up: restore, hold, app, first session. False: it did not get that far.
    fn start(&mut self, which: usize, faults: bool) -> bool {
        let tip = self.judge.tip();
        let machine = &mut self.machines[which];
        if machine.history.is_empty() && self.random.percent(15) && machine.disk.state().is_none() {
            default_file(machine);
        }
        let local = machine.disk.state();
        let plan = if faults { plan_for_prepare(machine, &mut self.random) } else { false };
        machine.say(format_args!("starts, local {local:?}, replica {tip:?}, hurt {}", machine.hurt));
        let prepared = machine.prepare();
        machine.store.heal();
        let outcome = match prepared {
            Err(halt) => {
                machine.say(&halt);
                return false;
            }
            Ok(Err(RestoreError::Refused { refusal, .. })) if self.cut => {
                machine.say(format_args!("refused: {refusal}"));
                return lose(machine);
            }
            Ok(Err(error)) if plan => {
                machine.say(format_args!("not prepared: {error}"));
                return false;
            }
            Ok(Err(error)) => panic!("cannot be prepared: {error}"),
            Ok(Ok(outcome)) => outcome,
        };
        machine.say(format_args!("{outcome:?}"));
        judge_start(machine, &outcome, local, tip);
        machine.start_replicator();
        machine.open_app();
        true
    }

    fn turn(&mut self, which: usize) {
        let decision = self.random.weighted(&[
            (5, CheckpointDecision::No),
            (4, CheckpointDecision::Gentle),
            (1, CheckpointDecision::Locked),
            (1, CheckpointDecision::LockedLonger),
        ]);
        let machine = &mut self.machines[which];
        let begun = match &machine.replicator {
            Replicator::Off => {
                machine.start_replicator();
                true
            }
            Replicator::Fenced => return self.end_of_the_fenced(which),
            Replicator::Idle { .. } | Replicator::On { .. } => false,
        };
        plan_faults(machine, &mut self.random);
        let starting = begun || matches!(machine.replicator, Replicator::Idle { .. });
        let done = if starting { machine.begin() } else { Ok(()) };
        let done = done.and_then(|()| if machine.is_replicating() { machine.turn(decision) } else { Ok(()) });
        self.after(which, done);
    }

    /// True: done, and everything that was committed before is in the replica.
    fn flush(&mut self, which: usize, faults: bool) -> bool {
        let machine = &mut self.machines[which];
        if matches!(machine.replicator, Replicator::Off) {
            machine.start_replicator();
        }
        if matches!(machine.replicator, Replicator::Fenced) {
            return false;
        }
        if faults {
            plan_faults(machine, &mut self.random);
        }
        let due = machine.history.len().saturating_sub(1);
        let begun = if machine.is_replicating() { Ok(()) } else { machine.begin() };
        let flushed = begun.and_then(|()| machine.flush());
        if !self.after(which, flushed) {
            return false;
        }
        let machine = &mut self.machines[which];
        self.judge.look(machine, &mut self.random);
        let Some((end, _, by)) = self.judge.tip() else { panic!("flushed, and the replica is empty") };
        // Who has nothing to upload need not notice that another has gone on.
        assert!(
            machine.acked == end || by != machine.name,
            "{} is confirmed, the replica ends at {end}",
            machine.acked
        );
        let (state, _) = self.judge.recorded[&machine.acked];
        let kept = machine.history[due..].contains(&state);
        assert!(kept, "flushed at {:?}, and the replica is at {state:?}", &machine.history[due..]);
        true
    }

    /// What becomes of whatever stopped half-way. True: nothing did.
    fn after(&mut self, which: usize, done: Result<(), Halt>) -> bool {
        let machine = &mut self.machines[which];
        machine.store.heal();
        machine.fate = None;
        let Err(halt) = done else { return true };
        machine.say(&halt);
        match halt {
            Halt::Away(_) => {}
            Halt::Again(_) => machine.new_session(),
            Halt::Fenced(why) => {
                let alone = self.machines.len() == 1 && !self.cut;
                assert!(!alone, "fenced, and nobody else is there: {why}");
                self.machines[which].replicator = Replicator::Fenced;
            }
            Halt::Killed(_) => self.die(which),
        }
        false
    }

    fn die(&mut self, which: usize) {
        let machine = &mut self.machines[which];
        // While it is known what this machine has had.
        self.judge.look(machine, &mut self.random);
        match self.random.below(10) {
            0..3 => machine.kill_replicator(),
            3..8 => machine.kill_everything(),
            8 => self.power_cut(which),
            _ => self.lose_disk(which),
        }
    }

    /// Exit code 75: the app is stopped, and the machine begins anew.
    fn end_of_the_fenced(&mut self, which: usize) {
        let machine = &mut self.machines[which];
        machine.close_app();
        machine.kill_replicator();
        machine.say("ends, because it is fenced");
    }

    fn power_cut(&mut self, which: usize) {
        let machine = &mut self.machines[which];
        machine.kill_everything();
        let (wal, record) = machine.disk.power_cut(&mut self.random);
        let state = machine.disk.state();
        machine.say(format_args!("power cut: WAL cut {wal}, record lost {record}: at {state:?}"));
        machine.hurt |= record;
    }

    fn lose_disk(&mut self, which: usize) {
        lose(&mut self.machines[which]);
    }

    /// By hand, while nothing runs.
    fn cut_replica(&mut self) {
        let Some((tip, ..)) = self.judge.tip() else { return };
        if self.machines.iter().any(Machine::is_up) || tip == Txid::FIRST || self.random.percent(50) {
            return;
        }
        let end = Txid(self.random.between(1, tip.0 - 1));
        self.judge.cut(end);
        self.cut = true;
        for machine in &mut self.machines {
            (machine.hurt, machine.position) = (true, 0);
        }
        self.log.borrow_mut().push(format!("the replica is cut by hand: it ends at {end}"));
    }
}

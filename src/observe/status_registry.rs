//! The state of the run: the main thread and the engine write it, the status thread reads it as a `Snapshot`.

use super::follow::{FollowStatus, FollowView};
use super::handover::HandoverView;
use super::proof::ProofView;
use crate::gate::{GateView, Statistics};
use crate::model::DbPath;
use crate::replicate::{Handle, Status};
use crate::restore::{Pace, Progress};
use crate::store::{CallResult, Counts, Operation};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The phase of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Restoring,
    Waiting,
    CatchingUp,
    Abandoning,
    SettingUp,
    Starting,
    Running,
    PreSync,
    Stopping,
    Clearing,
    Backoff,
    Flushing,
    Retired,
    Done,
}

impl Phase {
    pub const ALL: [Phase; 14] = [
        Phase::Restoring,
        Phase::Waiting,
        Phase::CatchingUp,
        Phase::Abandoning,
        Phase::SettingUp,
        Phase::Starting,
        Phase::Running,
        Phase::PreSync,
        Phase::Stopping,
        Phase::Clearing,
        Phase::Backoff,
        Phase::Flushing,
        Phase::Retired,
        Phase::Done,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Restoring => "restoring",
            Phase::Waiting => "waiting",
            Phase::CatchingUp => "catching_up",
            Phase::Abandoning => "abandoning",
            Phase::SettingUp => "setting_up",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::PreSync => "pre_sync",
            Phase::Stopping => "stopping",
            Phase::Clearing => "clearing",
            Phase::Backoff => "back_off",
            Phase::Flushing => "flushing",
            Phase::Retired => "retired",
            Phase::Done => "done",
        }
    }
}

/// How a database was prepared for the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// "restored", "kept", "empty", "absent", "unrestored".
    pub outcome: &'static str,
    /// Bytes of the replica's files that were read.
    pub bytes: u64,
    pub took: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppFacts {
    pub pid: Option<i32>,
    pub started: Option<SystemTime>,
    pub restarts: u64,
    /// How the app exited last.
    pub ended: Option<String>,
    /// Why the app, which runs, does not answer yet.
    pub silent: Option<String>,
}

#[derive(Clone, Default)]
struct Entry {
    replica: String,
    counts: Option<Arc<Counts>>,
    progress: Option<Arc<Progress>>,
    restore: Option<Restore>,
    handle: Option<Handle>,
    follow: Option<FollowStatus>,
    proof: Option<ProofView>,
    not_replicated: Option<String>,
    /// The entry is a directory with its pattern, and no database matches.
    nothing_matches: bool,
    absent: Option<String>,
}

struct Facts {
    phase: Phase,
    since: Instant,
    app: AppFacts,
    engine_lost: bool,
    pre_sync: Option<Duration>,
    databases: BTreeMap<DbPath, Entry>,
    gates: Vec<Arc<Statistics>>,
    handover: Option<HandoverView>,
    caught_up: BTreeMap<String, String>,
}

pub struct StatusRegistry {
    started: SystemTime,
    facts: Mutex<Facts>,
}

/// The state of the run at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub now: Instant,
    pub started: SystemTime,
    pub phase: Phase,
    pub app: AppFacts,
    pub engine_lost: bool,
    /// How long the flush before the stop signal to the app took.
    pub pre_sync: Option<Duration>,
    pub databases: Vec<DatabaseView>,
    pub gates: Vec<GateView>,
    /// None: the hand-over is off.
    pub handover: Option<HandoverView>,
    /// Where the copies of a waiting instance are, by database.
    pub caught_up: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default)]
pub struct DatabaseView {
    pub db: String,
    pub replica: String,
    pub restore: Option<Restore>,
    /// While it is being restored.
    pub progress: Option<Pace>,
    /// Once it is replicated.
    pub status: Option<Status>,
    /// A read-only copy.
    pub follow: Option<FollowView>,
    /// None: there are no scheduled proofs.
    pub proof: Option<ProofView>,
    pub not_replicated: Option<String>,
    /// The entry is a directory with its pattern, and no database matches.
    pub nothing_matches: bool,
    /// The warning about a database that does not exist.
    pub absent: Option<String>,
    pub requests: Vec<(Operation, CallResult, u64)>,
}

impl Default for StatusRegistry {
    fn default() -> StatusRegistry {
        let facts = Facts {
            phase: Phase::Restoring,
            since: Instant::now(),
            app: AppFacts::default(),
            engine_lost: false,
            pre_sync: None,
            databases: BTreeMap::new(),
            gates: Vec::new(),
            handover: None,
            caught_up: BTreeMap::new(),
        };
        StatusRegistry { started: SystemTime::now(), facts: Mutex::new(facts) }
    }
}

impl StatusRegistry {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(&self, phase: Phase) {
        let mut facts = self.facts();
        if facts.phase != phase {
            if facts.phase == Phase::PreSync {
                facts.pre_sync = Some(facts.since.elapsed());
            }
            (facts.phase, facts.since) = (phase, Instant::now());
        }
        if phase == Phase::Retired {
            // What this instance has uploaded says nothing about what another one writes now.
            facts.databases.values_mut().for_each(|entry| (entry.handle, entry.proof) = (None, None));
        }
    }

    pub fn set_gates(&self, gates: Vec<Arc<Statistics>>) {
        self.facts().gates = gates;
    }

    pub fn set_handover(&self, view: HandoverView) {
        let mut facts = self.facts();
        let view = view.after(facts.handover.as_ref());
        facts.handover = Some(view);
    }

    /// Where the copies of a waiting instance are.
    pub fn set_caught_up(&self, db: &DbPath, position: crate::model::Txid) {
        self.facts().caught_up.insert(db.to_string(), position.to_string());
    }

    pub fn app_started(&self, pid: i32) {
        let app = &mut self.facts().app;
        app.restarts += u64::from(app.started.is_some());
        (app.pid, app.started) = (Some(pid), Some(SystemTime::now()));
    }

    /// The app's process with this PID does not answer, for this reason.
    pub fn app_silent(&self, pid: i32, why: String) {
        let app = &mut self.facts().app;
        if app.pid == Some(pid) {
            app.silent = Some(why);
        }
    }

    pub fn app_answers(&self, pid: i32) {
        let app = &mut self.facts().app;
        if app.pid == Some(pid) {
            app.silent = None;
        }
    }

    pub fn app_ended(&self, how: String) {
        let app = &mut self.facts().app;
        (app.pid, app.ended, app.silent) = (None, Some(how), None);
    }

    pub fn engine_lost(&self) {
        self.facts().engine_lost = true;
    }

    fn entry(&self, db: &DbPath, change: impl FnOnce(&mut Entry)) {
        change(self.facts().databases.entry(db.clone()).or_default());
    }

    pub fn restoring(
        &self,
        db: &DbPath,
        replica: &str,
        counts: Option<Arc<Counts>>,
        progress: Arc<Progress>,
    ) {
        self.entry(db, |entry| {
            (entry.replica, entry.counts, entry.progress) = (replica.to_owned(), counts, Some(progress));
        });
    }

    pub fn restored(&self, db: &DbPath, restore: Restore) {
        self.entry(db, |entry| (entry.restore, entry.progress) = (Some(restore), None));
    }

    /// Removes an entry that is not a database.
    pub fn forget(&self, db: &DbPath) {
        self.facts().databases.remove(db);
    }

    pub fn replicating(&self, db: &DbPath, replica: &str, counts: Option<Arc<Counts>>, handle: Handle) {
        self.entry(db, |entry| {
            (entry.replica, entry.counts, entry.handle) = (replica.to_owned(), counts, Some(handle));
        });
    }

    /// The database is a copy that follows its replica.
    pub fn following(&self, db: &DbPath, status: FollowStatus) {
        self.entry(db, |entry| entry.follow = Some(status));
    }

    /// What is known of the proofs of its replica.
    pub fn proof(&self, db: &DbPath, change: impl FnOnce(&mut ProofView)) {
        self.entry(db, |entry| change(entry.proof.get_or_insert_default()));
    }

    pub fn not_replicated(&self, db: &DbPath, why: String) {
        self.entry(db, |entry| entry.not_replicated = Some(why));
    }

    /// `pattern`: a directory with its pattern.
    pub fn nothing_matches(&self, pattern: &DbPath, replica: &str) {
        self.entry(pattern, |entry| (entry.replica, entry.nothing_matches) = (replica.to_owned(), true));
    }

    /// Records the warning about a database that does not exist. An entry that was removed meanwhile stays
    /// removed.
    pub fn absent(&self, db: &DbPath, why: String) {
        if let Some(entry) = self.facts().databases.get_mut(db) {
            entry.absent = Some(why);
        }
    }

    /// Looks at the databases' files, too.
    pub fn snapshot(&self) -> Snapshot {
        self.look(Handle::status)
    }

    /// Without a look at any file: the sizes in the status of a database are not current.
    pub fn glance(&self) -> Snapshot {
        self.look(Handle::known_status)
    }

    /// The disk may hang, and the main thread needs the facts: their lock is not held meanwhile.
    fn look(&self, status: fn(&Handle) -> Status) -> Snapshot {
        let gates = self.facts().gates.clone();
        let gates = gates.iter().map(|gate| gate.view()).collect();
        let (mut snapshot, databases) = {
            let facts = self.facts();
            let snapshot = Snapshot {
                now: Instant::now(),
                started: self.started,
                phase: facts.phase,
                app: facts.app.clone(),
                engine_lost: facts.engine_lost,
                pre_sync: facts.pre_sync,
                databases: Vec::new(),
                gates,
                handover: facts.handover.clone(),
                caught_up: facts.caught_up.clone(),
            };
            (snapshot, facts.databases.clone())
        };
        snapshot.databases = databases.iter().map(|(db, entry)| view(db, entry, status)).collect();
        snapshot
    }
}

fn view(db: &DbPath, entry: &Entry, status: fn(&Handle) -> Status) -> DatabaseView {
    let count = |counts: &Arc<Counts>| {
        let all = Operation::ALL
            .into_iter()
            .flat_map(|operation| CallResult::ALL.map(|result| (operation, result)));
        let known = all.map(|(operation, result)| (operation, result, counts.get(operation, result)));
        known.filter(|(_, result, count)| *count > 0 || *result == CallResult::Ok).collect()
    };
    DatabaseView {
        db: db.to_string(),
        replica: entry.replica.clone(),
        restore: entry.restore.clone(),
        progress: entry.progress.as_ref().map(|progress| progress.pace()),
        status: entry.handle.as_ref().map(status),
        follow: entry.follow.as_ref().map(FollowStatus::view),
        proof: entry.proof.clone(),
        not_replicated: entry.not_replicated.clone(),
        nothing_matches: entry.nothing_matches,
        absent: entry.absent.clone(),
        requests: entry.counts.as_ref().map(count).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_of_the_app_and_phases_are_kept() {
        let registry = StatusRegistry::default();
        assert_eq!(registry.snapshot().phase, Phase::Restoring);
        registry.app_started(7);
        registry.app_ended("exited with status 1".into());
        let app = registry.snapshot().app;
        assert_eq!((app.pid, app.restarts, app.ended.as_deref()), (None, 0, Some("exited with status 1")));
        registry.app_started(8);
        let app = registry.snapshot().app;
        assert_eq!((app.pid, app.restarts), (Some(8), 1));
        let silent = |registry: &StatusRegistry| registry.snapshot().app.silent;
        registry.app_silent(7, "of another life".into());
        assert_eq!(silent(&registry), None);
        registry.app_silent(8, "refused".into());
        registry.app_answers(7);
        assert_eq!(silent(&registry).as_deref(), Some("refused"));
        registry.app_answers(8);
        assert_eq!(silent(&registry), None);
        registry.enter(Phase::PreSync);
        assert_eq!(registry.snapshot().pre_sync, None);
        registry.enter(Phase::Stopping);
        assert!(registry.snapshot().pre_sync.is_some());
    }

    #[test]
    fn what_is_no_database_goes() {
        let (registry, db) = (StatusRegistry::default(), DbPath::new("/d/a.db"));
        registry.restoring(&db, "file:///r", None, Arc::default());
        let [view] = registry.snapshot().databases.try_into().unwrap();
        assert_eq!((view.db.as_str(), view.progress), ("/d/a.db", Some(Pace::default())));
        registry.restored(&db, Restore { outcome: "kept", bytes: 0, took: Duration::ZERO });
        assert_eq!(registry.snapshot().databases.first().unwrap().progress, None);
        registry.forget(&db);
        assert!(registry.snapshot().databases.is_empty());
    }
}

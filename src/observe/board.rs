//! What is known of the run, for whoever asks: written by the supervising thread and the engine, read by the status thread.
//! In: facts. Out: a `Snapshot`, a value. Holds its lock for moments only; never waits, never decides.

use crate::model::DbPath;
use crate::replicate::{Handle, Status};
use crate::restore::{Pace, Progress};
use crate::store::{CallResult, Counts, Operation};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Where in its life the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Restoring,
    Abandoning,
    Starting,
    Running,
    PreSync,
    Stopping,
    Clearing,
    Backoff,
    Flushing,
    Done,
}

impl Phase {
    pub const ALL: [Phase; 10] = [
        Phase::Restoring,
        Phase::Abandoning,
        Phase::Starting,
        Phase::Running,
        Phase::PreSync,
        Phase::Stopping,
        Phase::Clearing,
        Phase::Backoff,
        Phase::Flushing,
        Phase::Done,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Restoring => "restoring",
            Phase::Abandoning => "abandoning",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::PreSync => "pre_sync",
            Phase::Stopping => "stopping",
            Phase::Clearing => "clearing",
            Phase::Backoff => "back_off",
            Phase::Flushing => "flushing",
            Phase::Done => "done",
        }
    }
}

/// How a database was prepared for the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// "restored", "kept", "empty", "absent", "unrestored".
    pub outcome: &'static str,
    /// Of the replica's files.
    pub bytes: u64,
    pub took: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppFacts {
    pub pid: Option<i32>,
    pub started: Option<SystemTime>,
    pub restarts: u64,
    /// How its last life ended.
    pub ended: Option<String>,
}

#[derive(Default)]
struct Entry {
    replica: String,
    counts: Option<Arc<Counts>>,
    progress: Option<Arc<Progress>>,
    restore: Option<Restore>,
    handle: Option<Handle>,
    not_replicated: Option<String>,
}

struct Facts {
    phase: Phase,
    since: Instant,
    app: AppFacts,
    engine_lost: bool,
    pre_sync: Option<Duration>,
    databases: BTreeMap<DbPath, Entry>,
}

pub struct Board {
    started: SystemTime,
    facts: Mutex<Facts>,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub now: Instant,
    pub started: SystemTime,
    pub phase: Phase,
    pub app: AppFacts,
    pub engine_lost: bool,
    /// The flush before the app was told to stop took this long.
    pub pre_sync: Option<Duration>,
    pub databases: Vec<DatabaseView>,
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
    pub not_replicated: Option<String>,
    pub requests: Vec<(Operation, CallResult, u64)>,
}

impl Default for Board {
    fn default() -> Board {
        let facts = Facts {
            phase: Phase::Restoring,
            since: Instant::now(),
            app: AppFacts::default(),
            engine_lost: false,
            pre_sync: None,
            databases: BTreeMap::new(),
        };
        Board { started: SystemTime::now(), facts: Mutex::new(facts) }
    }
}

impl Board {
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
    }

    pub fn app_started(&self, pid: i32) {
        let app = &mut self.facts().app;
        app.restarts += u64::from(app.started.is_some());
        (app.pid, app.started) = (Some(pid), Some(SystemTime::now()));
    }

    pub fn app_ended(&self, how: String) {
        let app = &mut self.facts().app;
        (app.pid, app.ended) = (None, Some(how));
    }

    pub fn engine_lost(&self) {
        self.facts().engine_lost = true;
    }

    fn entry(&self, db: &DbPath, change: impl FnOnce(&mut Entry)) {
        change(self.facts().databases.entry(db.clone()).or_default());
    }

    pub fn restoring(&self, db: &DbPath, replica: &str, counts: Option<Arc<Counts>>, progress: Arc<Progress>) {
        self.entry(db, |entry| {
            (entry.replica, entry.counts, entry.progress) = (replica.to_owned(), counts, Some(progress));
        });
    }

    pub fn restored(&self, db: &DbPath, restore: Restore) {
        self.entry(db, |entry| (entry.restore, entry.progress) = (Some(restore), None));
    }

    /// It is no database.
    pub fn forget(&self, db: &DbPath) {
        self.facts().databases.remove(db);
    }

    pub fn replicating(&self, db: &DbPath, replica: &str, counts: Option<Arc<Counts>>, handle: Handle) {
        self.entry(db, |entry| {
            (entry.replica, entry.counts, entry.handle) = (replica.to_owned(), counts, Some(handle));
        });
    }

    pub fn not_replicated(&self, db: &DbPath, why: String) {
        self.entry(db, |entry| entry.not_replicated = Some(why));
    }

    pub fn snapshot(&self) -> Snapshot {
        let facts = self.facts();
        Snapshot {
            now: Instant::now(),
            started: self.started,
            phase: facts.phase,
            app: facts.app.clone(),
            engine_lost: facts.engine_lost,
            pre_sync: facts.pre_sync,
            databases: facts.databases.iter().map(|(db, entry)| view(db, entry)).collect(),
        }
    }
}

fn view(db: &DbPath, entry: &Entry) -> DatabaseView {
    let count = |counts: &Arc<Counts>| {
        let all = Operation::ALL.into_iter().flat_map(|operation| CallResult::ALL.map(|result| (operation, result)));
        let known = all.map(|(operation, result)| (operation, result, counts.get(operation, result)));
        known.filter(|(_, result, count)| *count > 0 || *result == CallResult::Ok).collect()
    };
    DatabaseView {
        db: db.to_string(),
        replica: entry.replica.clone(),
        restore: entry.restore.clone(),
        progress: entry.progress.as_ref().map(|progress| progress.pace()),
        status: entry.handle.as_ref().map(Handle::status),
        not_replicated: entry.not_replicated.clone(),
        requests: entry.counts.as_ref().map(count).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_of_the_app_and_phases_are_kept() {
        let board = Board::default();
        assert_eq!(board.snapshot().phase, Phase::Restoring);
        board.app_started(7);
        board.app_ended("exited with status 1".into());
        let app = board.snapshot().app;
        assert_eq!((app.pid, app.restarts, app.ended.as_deref()), (None, 0, Some("exited with status 1")));
        board.app_started(8);
        let app = board.snapshot().app;
        assert_eq!((app.pid, app.restarts), (Some(8), 1));
        board.enter(Phase::PreSync);
        assert_eq!(board.snapshot().pre_sync, None);
        board.enter(Phase::Stopping);
        assert!(board.snapshot().pre_sync.is_some());
    }

    #[test]
    fn what_is_no_database_goes() {
        let (board, db) = (Board::default(), DbPath::new("/d/a.db"));
        board.restoring(&db, "file:///r", None, Arc::default());
        let [view] = board.snapshot().databases.try_into().unwrap();
        assert_eq!((view.db.as_str(), view.progress), ("/d/a.db", Some(Pace::default())));
        board.restored(&db, Restore { outcome: "kept", bytes: 0, took: Duration::ZERO });
        assert_eq!(board.snapshot().databases.first().unwrap().progress, None);
        board.forget(&db);
        assert!(board.snapshot().databases.is_empty());
    }
}

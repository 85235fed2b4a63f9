//! The databases of a run, with the tasks that replicate them: those that were prepared, and those that
//! appear in watched directories while the app runs. Used on the engine thread.

use super::absent::{self, Absent, AppKind, Schedule};
use super::discover::{Directory, DirectoryWatch, Refused};
use super::flush::RunningDatabase;
use super::locks;
use super::prepare::{Prepared, RunContext, room_for};
use super::proof::Proofs;
use crate::config::{DatabaseSettings, DirectorySettings};
use crate::lineage::state_file;
use crate::local_state::adopt::adopt;
use crate::local_state::lock;
use crate::model::DbPath;
use crate::observe::StatusRegistry;
use crate::replicate::{Conflict, Handle, Ledger, Replicator, Target, Wanted};
use crate::restore::FileAccess;
use crate::sqlite::files;
use crate::store::Stores;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A task that has done its last flush has this long to close its connections.
pub const CLOSING: Duration = Duration::from_secs(10);

/// How a database is replicated after a restore in place.
pub enum Resume {
    /// The restore was refused: its task continues.
    SameTask(DbPath, Handle),
    NewTask(Box<Prepared>),
}

fn wanted(entry: DirectorySettings) -> Wanted {
    let entry = Arc::new(entry);
    let same = Arc::clone(&entry);
    Wanted {
        takes: Box::new(move |name| entry.matches(&name.to_string_lossy())),
        enters: Box::new(move |name| same.enters(name)),
    }
}

pub struct DatabaseSet {
    replicator: Replicator,
    stores: Arc<Stores>,
    running: Vec<RunningDatabase>,
    watched: DirectoryWatch,
    /// Directories with `watch = false`: a database that appears there is replicated after the next start
    /// only.
    unwatched: DirectoryWatch,
    directories: Vec<DirectorySettings>,
    app: AppKind,
    /// When databases that do not exist are reported next; None: all exist.
    absence: Option<Schedule>,
    registry: Arc<StatusRegistry>,
    /// The status socket of this process.
    socket: Arc<str>,
    ledger: Option<Arc<Ledger>>,
    pub proofs: Proofs,
}

impl DatabaseSet {
    /// Starts to replicate the prepared databases on the current runtime.
    pub fn start(
        prepared: Vec<Prepared>,
        context: &RunContext,
        conflict: Conflict,
        proofs: Proofs,
    ) -> DatabaseSet {
        // A copy is not replicated.
        let directories: &[Directory] = if context.follow.is_some() { &[] } else { &context.directories };
        let refused = context.refused();
        let app = match context.settings.access {
            FileAccess::Exclusive => AppKind::Managed,
            FileAccess::Shared => AppKind::External,
        };
        let known = prepared.iter().map(|one| one.db.as_path());
        let watched = DirectoryWatch::new(directories, true, known.clone(), &refused);
        let unwatched = DirectoryWatch::new(directories, false, known, &refused);
        let directories = directories.iter().map(|directory| directory.settings.clone()).collect();
        let ledger = context.ledger.clone();
        let replicator = Replicator::new(conflict, ledger.clone());
        let mut database_set = DatabaseSet {
            replicator,
            stores: Arc::clone(&context.stores),
            running: Vec::new(),
            watched,
            unwatched,
            directories,
            app,
            absence: Some(Schedule::new(Instant::now())),
            registry: Arc::clone(&context.registry),
            socket: Arc::clone(&context.socket),
            ledger,
            proofs,
        };
        prepared.into_iter().for_each(|one| database_set.add(one));
        for Refused { db, why } in refused {
            database_set.push(RunningDatabase::NotReplicated(db, why));
        }
        if let Some(ledger) = &database_set.ledger {
            for entry in database_set.directories.iter().cloned() {
                ledger.watch_directory(entry.dir.clone(), wanted(entry));
            }
            ledger.complete();
        }
        for entry in database_set.empty_directories() {
            database_set.registry.nothing_matches(&absent::pattern(entry), &entry.each().replica.url);
        }
        database_set
    }

    /// Starts to replicate one database.
    fn add(&mut self, one: Prepared) {
        let DatabaseSet { replicator, registry, socket, proofs, .. } = self;
        // Locked again: the directory may not have been there before the restore.
        let running = if one.left_out {
            registry.nothing_matches(&one.db, one.store.url());
            RunningDatabase::EmptyDirectory(one.db)
        } else if let Err(owned) = locks::lock(&one.db, socket) {
            let why = owned.to_string();
            tracing::error!(db = %one.db, "NOT REPLICATED: {why}");
            registry.not_replicated(&one.db, why.clone());
            RunningDatabase::NotReplicated(one.db, why)
        } else if one.replicate {
            let target = Target { db: one.db.clone(), store: one.store, settings: one.settings, late: false };
            let replica = target.store.url().to_owned();
            let counts = target.store.counts();
            let deletes = target.settings.retention.is_some();
            let handle = replicator.start(target, one.hold);
            proofs.add(&one.db, one.replica, handle.clone(), deletes);
            registry.replicating(&one.db, &replica, counts, handle.clone());
            RunningDatabase::Replicated(one.db, handle)
        } else {
            let why = "the app was started without the restore of this database";
            registry.not_replicated(&one.db, why.into());
            RunningDatabase::NotReplicated(one.db, why.into())
        };
        self.push(running);
    }

    fn push(&mut self, running: RunningDatabase) {
        if let Some(ledger) = &self.ledger {
            match &running {
                RunningDatabase::Replicated(..) => {}
                RunningDatabase::NotReplicated(db, why) => ledger.refuse(db, why),
                RunningDatabase::EmptyDirectory(db) => ledger.leave_out(db),
            }
        }
        self.running.push(running);
    }

    /// After a restore in place.
    pub fn resume(&mut self, resume: Resume) {
        match resume {
            Resume::SameTask(db, handle) => self.push(RunningDatabase::Replicated(db, handle)),
            Resume::NewTask(prepared) => self.add(*prepared),
        }
    }

    /// Whether the database is replicated.
    pub fn replicates(&self, db: &str) -> bool {
        self.running
            .iter()
            .any(|one| matches!(one, RunningDatabase::Replicated(path, _) if path.to_string() == db))
    }

    /// Takes the database out of the set, so that it is no longer flushed with the others.
    pub fn take(&mut self, db: &DbPath) -> Option<Handle> {
        let at = self
            .running
            .iter()
            .position(|one| matches!(one, RunningDatabase::Replicated(path, _) if path == db))?;
        self.proofs.abandon(db);
        match self.running.remove(at) {
            RunningDatabase::Replicated(_, handle) => Some(handle),
            RunningDatabase::NotReplicated(..) | RunningDatabase::EmptyDirectory(_) => None,
        }
    }

    /// Files of commits that were uploaded in this run.
    pub fn uploads(&self) -> u64 {
        let uploads = |one: &RunningDatabase| match one {
            RunningDatabase::Replicated(_, handle) => handle.uploads(),
            RunningDatabase::NotReplicated(..) | RunningDatabase::EmptyDirectory(_) => 0,
        };
        self.running.iter().map(uploads).sum()
    }

    /// Directory entries without a database.
    fn empty_directories(&self) -> impl Iterator<Item = &DirectorySettings> {
        let inside = |entry: &DirectorySettings, one: &RunningDatabase| entry.covers(one.db().directory());
        self.directories.iter().filter(move |entry| !self.running.iter().any(|one| inside(entry, one)))
    }

    /// When databases that do not exist must be reported.
    pub fn absence_report_due(&self) -> Option<Instant> {
        self.absence.as_ref().map(Schedule::due)
    }

    /// Reports databases that do not exist, in a task of its own. A database that existed in this run is not
    /// reported.
    pub fn report_absent(&mut self) {
        let Some(schedule) = self.absence.take() else { return };
        let databases = self.running.iter().filter_map(|one| match one {
            RunningDatabase::Replicated(db, handle) if handle.status().never_existed() => {
                Some(Absent::Database { db: db.clone(), replica: handle.replica().to_owned() })
            }
            _ => None,
        });
        let directories = self.empty_directories().cloned().map(|entry| Absent::Directory(Box::new(entry)));
        let absent: Vec<Absent> = databases.chain(directories).collect();
        if absent.is_empty() {
            return;
        }
        let missing: BTreeSet<_> = absent.iter().map(Absent::subject).collect();
        let known = self.running.iter().map(RunningDatabase::db).filter(|db| !missing.contains(db));
        let known = known.map(|db| db.as_path().to_owned()).collect();
        let (report_if, next) = schedule.take(Instant::now());
        self.absence = Some(next);
        tokio::spawn(absent::report(absent, self.app, known, report_if, Arc::clone(&self.registry)));
    }

    fn report_unwatched(&mut self) {
        for late in self.unwatched.poll().databases {
            let why = "it appeared after the start, and its directory has `watch = false`: it is replicated \
                after a restart";
            tracing::warn!(db = %late.path, "NOT REPLICATED: {why}");
            self.registry.not_replicated(&late.path, why.to_owned());
            self.ledger.iter().for_each(|ledger| ledger.refuse(&late.path, why));
        }
    }

    /// Whether databases may appear while the app runs.
    pub fn watches_directories(&self) -> bool {
        !self.directories.is_empty()
    }

    /// Starts to replicate the databases that have appeared, and reports those in directories with `watch =
    /// false`.
    pub fn poll_directories(&mut self) {
        self.report_unwatched();
        let appeared = self.watched.poll();
        let refused =
            appeared.refused.into_iter().map(|Refused { db, why }| RunningDatabase::NotReplicated(db, why));
        let new: Vec<RunningDatabase> =
            appeared.databases.into_iter().map(|settings| self.start_new(settings)).chain(refused).collect();
        for new in new {
            let inside = |entry: &&DirectorySettings| entry.covers(new.db().directory());
            if let Some(entry) = self.directories.iter().find(inside) {
                self.registry.forget(&absent::pattern(entry));
            }
            if let RunningDatabase::NotReplicated(db, why) = &new {
                tracing::error!(%db, "NOT REPLICATED: {why}");
                self.registry.not_replicated(db, why.clone());
            }
            self.push(new);
        }
        // A file that had appeared may be gone, or may be no database.
        self.ledger.iter().for_each(|ledger| ledger.poll());
    }

    fn start_new(&mut self, settings: DatabaseSettings) -> RunningDatabase {
        let DatabaseSettings { path: db, replicate, replica: replica_settings, .. } = settings;
        if let Err(error) = room_for(self.running.len() + 1) {
            return RunningDatabase::NotReplicated(db, error.to_string());
        }
        if let Err(owned) = locks::lock(&db, &self.socket) {
            return RunningDatabase::NotReplicated(db, owned.to_string());
        }
        if let Err(error) = adopt(&db) {
            return RunningDatabase::NotReplicated(db, error.to_string());
        }
        let store = match self.stores.open(&replica_settings) {
            Ok(store) => store,
            Err(error) => return RunningDatabase::NotReplicated(db, error.to_string()),
        };
        tracing::info!(%db, replica = store.url(), "new database found");
        let target = Target { db: db.clone(), store, settings: replicate, late: true };
        let replica = target.store.url().to_owned();
        let counts = target.store.counts();
        let deletes = target.settings.retention.is_some();
        let handle = self.replicator.start(target, None);
        self.proofs.add(&db, replica_settings, handle.clone(), deletes);
        self.registry.replicating(&db, &replica, counts, handle.clone());
        RunningDatabase::Replicated(db, handle)
    }

    /// All databases at this moment, and the directories without one.
    pub fn all(&mut self) -> Vec<RunningDatabase> {
        self.poll_directories();
        let empty =
            self.empty_directories().map(|entry| RunningDatabase::EmptyDirectory(absent::pattern(entry)));
        self.running.iter().cloned().chain(empty).collect()
    }

    /// After the last flush of an instance that may start its app again: nothing of this process is left on
    /// the disk.
    pub async fn close(self) {
        for one in &self.running {
            let RunningDatabase::Replicated(db, handle) = one else { continue };
            if tokio::time::timeout(CLOSING, handle.ended()).await.is_err() {
                tracing::error!(%db, "replication does not end: the database stays locked by this process");
                continue;
            }
            let db = db.clone();
            let closing = move || {
                files::let_go(db.as_path());
                state_file::forget(&db);
                lock::release(&db);
            };
            let _ = tokio::task::spawn_blocking(closing).await;
        }
    }

    /// All databases, for the last flush. New ones are not looked for any more.
    pub fn stop_watching(&mut self) -> Vec<RunningDatabase> {
        let all = self.all();
        self.watched = DirectoryWatch::default();
        all
    }
}

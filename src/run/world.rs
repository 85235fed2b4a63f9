//! The doer of `run`: everything that is outside. In: actions. Out: one event at a time. Decides nothing but the order
//! in which it looks: a passed deadline first (a storm of signals cannot hold it up), then signals, then the engine.

use super::discover;
use super::engine::{Command, DatabaseSummary, Engine, Report, StartFailure, Wake};
use super::ops::{self, Ops};
use super::owners::{OwnersError, owners};
use super::prepare::Database;
use crate::config::{Config, DatabaseSettings};
use crate::exit;
use crate::lifecycle::{Action, Event, Rules, Treatment};
use crate::model::proof::Restored;
use crate::model::{NotStarted, Restart, Signal};
use crate::observe::Board;
use crate::supervise::rest::{Left, Treat, Tree};
use crate::supervise::{App, AppSettings, Claimed, Meaning, Waker, Watch, meaning, reap};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

pub(super) struct World {
    settings: AppSettings,
    rules: Rules,
    watch: Watch,
    engine: Engine,
    reports: Receiver<Report>,
    engine_ended: Arc<AtomicBool>,
    engine_lost: bool,
    app: Option<App>,
    tree: Tree,
    /// Answers of actions, and what one look at the world brought beyond the first event.
    pending: VecDeque<Event>,
    databases: Vec<DatabaseSummary>,
    /// The last to go.
    ops: Ops,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("nothing to run: give a command after `--`, or `command` under [app]")]
    NoCommand,
    #[error(transparent)]
    Owner(#[from] OwnersError),
    #[error("cannot start: {what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

impl OpenError {
    pub(super) fn status(&self) -> u8 {
        match self {
            OpenError::NoCommand => exit::USAGE,
            OpenError::Owner(_) => exit::CONFIG,
            OpenError::System { .. } => exit::INTERNAL,
        }
    }
}

/// Looks up who is to own the restored files.
fn databases(settings: Vec<DatabaseSettings>, app_user: Option<&str>) -> Result<Vec<Database>, OpenError> {
    let one = |settings: DatabaseSettings| {
        let owners = owners(&settings, app_user)?;
        Ok(Database { settings, owners })
    };
    settings.into_iter().map(one).collect()
}

/// Rings when the engine's thread drops it, however that thread ends.
struct EndBell {
    waker: Waker,
    ended: Arc<AtomicBool>,
}

impl Drop for EndBell {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl World {
    pub(super) fn open(config: Config, claimed: Claimed) -> Result<World, OpenError> {
        if config.app.as_ref().is_none_or(|app| app.command.is_empty()) {
            return Err(OpenError::NoCommand);
        }
        let (ops, syncs) = ops::open(&config);
        let settings = config.app.ok_or(OpenError::NoCommand)?;
        let system = |what| move |source| OpenError::System { what, source };
        if !claimed.adopts_orphans {
            tracing::warn!("this kernel has no subreaper: processes that leave the app's group cannot be waited for");
        }
        let watch = Watch::new(claimed).map_err(system("eventfd"))?;
        let engine_ended = Arc::new(AtomicBool::new(false));
        let bell = EndBell { waker: watch.waker(), ended: Arc::clone(&engine_ended) };
        let wake: Wake = Box::new(move || bell.waker.wake());
        let (sender, reports) = channel();
        let databases = databases(config.databases, settings.user.as_deref())?;
        let user = settings.user.as_deref();
        let directories = config.directories.into_iter().map(|entry| discover::directory(entry, user));
        let directories = directories.collect::<Result<_, _>>()?;
        let engine =
            Engine::start(databases, directories, config.restore, sender, wake, (Arc::clone(&ops.board), syncs));
        let engine = engine.map_err(system("engine thread"))?;
        engine.send(Command::Restore);
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        tracing::info!(version, pid, status = ops.places, "litevisor starts");
        let shutdown = config.shutdown;
        let rules = Rules {
            grace: shutdown.grace,
            app_timeout: shutdown.app_timeout,
            pre_sync_timeout: shutdown.pre_sync_timeout,
            stop_signal: settings.stop_signal,
            signals: config.app_rules.signals,
            restart: config.app_rules.restart,
            success: config.app_rules.success,
        };
        let tree = Tree::before_the_app();
        // Whoever was handed to us dead: its SIGCHLD came before we listened.
        reap(None);
        let (pending, databases) = (VecDeque::new(), Vec::new());
        Ok(World {
            settings,
            rules,
            watch,
            engine,
            reports,
            engine_ended,
            engine_lost: false,
            app: None,
            tree,
            pending,
            databases,
            ops,
        })
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn board(&self) -> &Board {
        &self.ops.board
    }

    pub(super) fn databases(&self) -> &[DatabaseSummary] {
        &self.databases
    }

    /// Sleeps until there is something to tell.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Event {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Event::Deadline;
            }
            if !self.look() {
                self.watch.wait(deadline);
            }
        }
    }

    /// Turns one thing that happened into pending events. False when nothing did.
    fn look(&mut self) -> bool {
        if let Some(received) = self.watch.signal() {
            match meaning(received, std::process::id(), self.settings.stop_signal) {
                Meaning::Stop(signal) => self.pending.push_back(Event::Stop(signal)),
                Meaning::Forward(signal) => self.pending.push_back(Event::Other(signal)),
                Meaning::Children => self.reap(),
                Meaning::Own => {}
            }
            return true;
        }
        // Read before the reports: what the engine sent came before its end.
        let ended = self.engine_ended.load(Ordering::Acquire);
        if let Ok(report) = self.reports.try_recv() {
            let events = self.told(report);
            self.pending.extend(events);
            return true;
        }
        if ended && !self.engine_lost {
            self.engine_lost = true;
            tracing::error!("the engine has ended unexpectedly: nothing is replicated any more");
            self.ops.board.engine_lost();
            self.pending.push_back(Event::EngineLost);
            return true;
        }
        false
    }

    fn reap(&mut self) {
        let reaped = reap(self.app.as_ref().map(App::pid));
        if let (Some(exit), Some(app)) = (reaped.app, self.app.take_if(|_| reaped.app.is_some())) {
            app.return_terminal();
            tracing::info!("the app {exit}");
            self.ops.board.app_ended(exit.to_string());
            self.pending.push_back(Event::AppExited(exit));
        }
        if reaped.others > 0 {
            self.pending.push_back(Event::OrphansReaped);
        }
    }

    fn told(&mut self, report: Report) -> Vec<Event> {
        match report {
            Report::Restored(Ok(proof)) => vec![Event::Restored(proof)],
            Report::Restored(Err(failure)) => vec![start_failed(failure)],
            Report::Flushed { .. } => vec![Event::Flushed],
            Report::Finished(databases) => {
                let complete = databases.iter().all(|db| db.complete);
                // The app was let go on (`on_conflict = "continue"`), or it was found out just now.
                let fenced = databases.iter().any(|db| db.fenced).then_some(Event::Fenced);
                self.databases = databases;
                fenced.into_iter().chain([Event::Finished { complete }]).collect()
            }
            Report::Fenced { database, detail } => {
                tracing::error!(db = database, "another writer has taken the replica over: {detail}");
                vec![Event::Fenced]
            }
        }
    }

    /// Acts first and logs afterwards.
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Abandon => self.engine.send(Command::Abandon),
            Action::Start(proof) => self.start(proof),
            Action::Restart(_nobody_left) => self.spawn(),
            Action::RestartLater { after, restart, limit } => {
                tracing::warn!("the app is started again in {after:?}: restart {restart} of {limit} in a row");
            }
            Action::NoMoreRestarts { limit } => {
                tracing::error!("the app is not started again: {limit} restarts in a row were not enough");
            }
            Action::Flush { by } => {
                self.ask(Command::Flush { by });
                tracing::info!("asked to stop: flushing, then the app is told");
            }
            Action::StopApp(signal) => {
                self.signal_app(signal);
                self.signal_app(Signal::CONT);
                tracing::info!("{signal} sent to the app");
            }
            Action::Forward(signal) => {
                self.signal_app(signal);
                tracing::debug!("{signal} forwarded");
            }
            Action::KillApp => {
                self.signal_app(Signal::KILL);
                tracing::warn!("the app was killed: its time was over");
            }
            Action::Rest(treatment) => self.rest(treatment),
            Action::Finish { quiet, by } => self.ask(Command::Finish { quiet, by }),
            Action::FinishUnproven { by } => {
                self.ask(Command::FinishUnproven { by });
                tracing::error!("a process could not be killed: what it still writes is lost");
            }
            Action::Note(signal) => tracing::info!("{signal} received; nothing to be done with it now"),
        }
    }

    fn start(&mut self, proof: Restored) {
        self.engine.send(Command::Replicate(proof));
        self.tree = Tree::before_the_app();
        self.spawn();
    }

    fn spawn(&mut self) {
        match App::spawn(&self.settings, self.watch.claimed()) {
            Ok(app) => {
                self.tree.app_started(app.pid());
                self.ops.board.app_started(app.pid());
                tracing::info!(pid = app.pid(), "the app is started");
                self.app = Some(app);
                self.pending.push_back(Event::Spawned);
            }
            Err(error) => {
                tracing::error!("{error}");
                self.pending.push_back(Event::NotSpawned(error.not_started()));
            }
        }
        if self.rules.restart.when == Restart::Never {
            self.watch.let_go_of_descriptors();
        }
    }

    /// For an answer. An engine that is gone gives none, so it is said again that it is.
    fn ask(&mut self, command: Command) {
        self.engine.send(command);
        if self.engine_lost {
            self.pending.push_back(Event::EngineLost);
        }
    }

    fn signal_app(&self, signal: Signal) {
        if let Some(app) = &self.app {
            app.signal_group(signal);
        }
    }

    fn rest(&mut self, treatment: Treatment) {
        let treat = match treatment {
            Treatment::Ask { signal, group_told } => Treat::Ask { signal, group_told },
            Treatment::Kill => Treat::Kill,
            Treatment::Look => Treat::Look,
        };
        match self.tree.treat(treat) {
            Left::Nobody(quiet) => self.pending.push_back(Event::NobodyLeft(quiet)),
            Left::Somebody(count) => tracing::debug!(count, ?treatment, "processes of the app are left"),
        }
    }
}

fn start_failed(failure: StartFailure) -> Event {
    let reason = match failure {
        StartFailure::Abandoned => return Event::Abandoned,
        StartFailure::Damaged(why) => (NotStarted::Damaged, why),
        StartFailure::Unavailable(why) => (NotStarted::Unavailable, why),
        StartFailure::Local(why) => (NotStarted::Local, why),
    };
    tracing::error!("the app is not started: {}", reason.1);
    Event::RestoreFailed(reason.0)
}

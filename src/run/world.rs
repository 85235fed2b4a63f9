//! The doer of `run`: everything that is outside. In: actions. Out: one event at a time. Decides nothing but the order
//! in which it looks: a passed deadline first (a storm of signals cannot hold it up), then signals, then the engine.

use super::engine::{Command, DatabaseSummary, Report, StartFailure};
use super::post::{Heard, OpenError, Post};
use crate::config::Config;
use crate::lifecycle::{Action, Event, Rules, Treatment};
use crate::model::proof::Restored;
use crate::model::{Restart, Signal};
use crate::observe::Board;
use crate::supervise::rest::{Left, Treat, Tree};
use crate::supervise::{App, AppSettings, Claimed, Meaning, reap};
use std::collections::VecDeque;
use std::time::Instant;

pub(super) struct World {
    settings: AppSettings,
    rules: Rules,
    post: Post,
    app: Option<App>,
    tree: Tree,
    /// Answers of actions, and what one look at the world brought beyond the first event.
    pending: VecDeque<Event>,
    databases: Vec<DatabaseSummary>,
}

impl World {
    pub(super) fn open(mut config: Config, claimed: Claimed) -> Result<World, OpenError> {
        let settings = config.app.take().filter(|app| !app.command.is_empty()).ok_or(OpenError::NoCommand)?;
        if !claimed.adopts_orphans {
            tracing::warn!("this kernel has no subreaper: processes that leave the app's group cannot be waited for");
        }
        let rules = super::rules(&config, settings.stop_signal);
        let post = Post::open(config, settings.user.as_deref(), claimed)?;
        let tree = Tree::before_the_app();
        let (pending, databases) = (VecDeque::new(), Vec::new());
        Ok(World { settings, rules, post, app: None, tree, pending, databases })
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn board(&self) -> &Board {
        &self.post.ops.board
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
                self.post.watch.wait(deadline);
            }
        }
    }

    /// Turns one thing that happened into pending events. False when nothing did.
    fn look(&mut self) -> bool {
        match self.post.hear(self.settings.stop_signal) {
            Some(Heard::Signal(Meaning::Stop(signal))) => self.pending.push_back(Event::Stop(signal)),
            Some(Heard::Signal(Meaning::Forward(signal))) => self.pending.push_back(Event::Other(signal)),
            Some(Heard::Signal(Meaning::Children)) => self.reap(),
            Some(Heard::Signal(Meaning::Own)) => {}
            Some(Heard::Report(report)) => {
                let events = self.told(report);
                self.pending.extend(events);
            }
            Some(Heard::EngineLost) => self.pending.push_back(Event::EngineLost),
            None => return false,
        }
        true
    }

    fn reap(&mut self) {
        let reaped = reap(self.app.as_ref().map(App::pid));
        if let (Some(exit), Some(app)) = (reaped.app, self.app.take_if(|_| reaped.app.is_some())) {
            app.return_terminal();
            tracing::info!("the app {exit}");
            self.post.ops.board.app_ended(exit.to_string());
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
            Report::Flushed(_) => vec![Event::Flushed],
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
            Action::Abandon => {
                self.post.send(Command::Abandon);
            }
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
        self.post.send(Command::Replicate(proof));
        self.tree = Tree::before_the_app();
        self.spawn();
    }

    fn spawn(&mut self) {
        match App::spawn(&self.settings, self.post.watch.claimed()) {
            Ok(app) => {
                self.tree.app_started(app.pid());
                self.post.ops.board.app_started(app.pid());
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
            self.post.watch.let_go_of_descriptors();
        }
    }

    /// For an answer. An engine that is gone gives none, so it is said again that it is.
    fn ask(&mut self, command: Command) {
        if !self.post.send(command) {
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
    match failure.reason() {
        None => Event::Abandoned,
        Some((reason, why)) => {
            tracing::error!("the app is not started: {why}");
            Event::RestoreFailed(reason)
        }
    }
}

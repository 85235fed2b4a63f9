//! The event loop of `run`: waits for the next event, and performs the actions that the lifecycle asks for.
//!
//! A deadline that has passed comes first, so that many signals cannot delay it; then signals, then reports
//! of the engine.

mod environment;
mod signals;
mod spawn;

use super::app_exit::{self, ExitContext, ExitMessage};
use super::app_voice::AppVoice;
use super::engine::{Command, DatabaseSummary, Report, StartFailure};
use super::event_sources::{AppContext, EventSources, OpenError, SourceEvent};
use super::gate;
use super::manager::Life;
use super::messages::Reinstalled;
use super::readiness::Readiness;
use super::setup_due::SetupPlan;
use super::status_service;
use crate::config::Config;
use crate::exit;
use crate::gate::{Accept, GateSettings, Gates};
use crate::lifecycle::{Action, Event, Rules, State};
use crate::model::{Deadline, Signal};
use crate::observe::restore::{RestoreAnswer, RestoreRequest};
use crate::replicate::Ledger;
use crate::supervise::remaining::ProcessTree;
use crate::supervise::{App, AppSettings, Claimed, Meaning, memory_events, reap};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

pub(super) struct EventLoop {
    settings: AppSettings,
    rules: Rules,
    sources: EventSources,
    gate_settings: Vec<GateSettings>,
    /// None without a gate.
    ledger: Option<Arc<Ledger>>,
    gates: Gates,
    /// Until when the last flush has time.
    flush_by: Option<Deadline>,
    app: Option<App>,
    tree: ProcessTree,
    /// Results of actions, and further events of one poll.
    pending: VecDeque<Event>,
    databases: Vec<DatabaseSummary>,
    app_run: AppRun,
    /// Commands of the setup have been started: their processes are the app's.
    has_set_up: bool,
    /// The restore in place that a client waits for, and its result once it is known.
    restore_request: Option<(RestoreRequest, Option<RestoreAnswer>)>,
}

/// What is known of the app since its last start.
#[derive(Default)]
struct AppRun {
    /// The command of the setup that runs in place of the app, as it is written.
    setup: Option<String>,
    /// Signals that litevisor has sent to the app.
    sent: Vec<Signal>,
    stop_sent: Option<(Signal, Instant)>,
    /// The cgroup's count of OOM kills when the app was started.
    oom_kills: Option<u64>,
    /// When the stop was requested.
    stop_requested: Option<Instant>,
    /// Polls the app until it answers for the first time.
    readiness: Option<Readiness>,
    /// Listens to an app that speaks for itself (`ready = "notify"`).
    voice: Option<AppVoice>,
    /// The stop signal went to the app's group, not to its main process alone.
    group_signalled: bool,
    /// The log says already that a process cannot be signalled.
    refusal_logged: bool,
}

impl AppRun {
    fn sent(&mut self, signal: Signal) {
        if !self.sent.contains(&signal) {
            self.sent.push(signal);
        }
    }

    /// True once.
    fn has_become_ready(&mut self) -> bool {
        self.readiness.take_if(|readiness| readiness.has_answer()).is_some()
            || self.voice.as_mut().is_some_and(AppVoice::has_become_ready)
    }
}

impl EventLoop {
    pub(super) fn open(mut config: Config, claimed: Claimed) -> Result<EventLoop, OpenError> {
        let mut settings =
            config.app.take().filter(|app| !app.command.is_empty()).ok_or(OpenError::NoCommand)?;
        settings.env.extend(config.app_port.map(|port| ("PORT".into(), port.to_string().into())));
        if !claimed.adopts_orphans {
            tracing::warn!(
                "this kernel has no subreaper: processes that leave the app's group cannot be waited for"
            );
        }
        environment::log_removed_variables(&settings);
        environment::tell_role(&mut settings, &config);
        if config.follow.is_some() && config.handover.take().is_some() {
            tracing::info!("[handover] has no effect here: read-only copies have no owner (follow.enabled)");
        }
        let gate_settings = gate::settings(&mut config);
        if config.handover.as_ref().is_some_and(|handover| handover.claims) {
            settings.ready = settings.ready.take().or_else(|| gate::ready_check(&gate_settings));
        }
        let commands = settings.setup.commands.len();
        let rules = super::rules(&config, settings.stop_signal, settings.ready.is_some(), commands);
        let accepts_early = gate_settings.iter().any(|gate| gate.accept == Accept::Early);
        let ledger = (!gate_settings.is_empty()).then(Ledger::new);
        let setup = SetupPlan::of(&settings).filter(|_| config.follow.is_none());
        let app = AppContext { user: settings.user.as_deref(), setup, ledger: ledger.clone(), accepts_early };
        let sources = EventSources::open(config, app, claimed)?;
        settings.env_remove.extend(sources.manager.kept_from_app());
        let gates = gate::open(gate_settings.clone(), ledger.clone(), &sources.status.registry)
            .map_err(|source| OpenError::System { what: "gate thread", source })?;
        let tree = ProcessTree::before_the_app();
        Ok(EventLoop {
            settings,
            rules,
            sources,
            gate_settings,
            ledger,
            gates,
            flush_by: None,
            app: None,
            tree,
            pending: VecDeque::new(),
            databases: Vec::new(),
            app_run: AppRun::default(),
            has_set_up: false,
            restore_request: None,
        })
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The last flush has ended.
    pub(super) fn finish_gates(&self, complete: bool) {
        gate::finish(&self.gates, complete, self.flush_by);
    }

    pub(super) fn finish_notifications(&mut self) {
        self.sources.finish_notifications(&self.databases);
    }

    /// The lifecycle has entered this state.
    pub(super) fn enter(&mut self, state: &State) {
        self.sources.enter(status_service::phase(state), Life::of(state), self.app_run.voice.as_ref());
    }

    pub(super) fn databases(&self) -> &[DatabaseSummary] {
        &self.databases
    }

    /// Waits for the next event.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Event {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return self.exit_before_deadline().unwrap_or(Event::Deadline);
            }
            self.sources.tend_manager(self.app_run.voice.as_ref());
            if !self.poll_sources() {
                self.sources.wait(deadline);
            }
        }
    }

    /// After a freeze the app may have exited before the deadline that is noticed only now.
    fn exit_before_deadline(&mut self) -> Option<Event> {
        if self.app.is_some() {
            self.reap();
        }
        self.pending.pop_front_if(|event| matches!(event, Event::AppExited(_)))
    }

    /// Turns one occurrence into pending events. False: nothing has happened.
    fn poll_sources(&mut self) -> bool {
        match self.sources.poll(self.settings.stop_signal) {
            Some(SourceEvent::Signal(Meaning::Stop(signal))) => self.pending.push_back(Event::Stop(signal)),
            Some(SourceEvent::Signal(Meaning::Forward(signal))) => {
                self.pending.push_back(Event::Other(signal))
            }
            Some(SourceEvent::Signal(Meaning::Children)) => self.reap(),
            Some(SourceEvent::Signal(Meaning::Own)) => {}
            Some(SourceEvent::Report(report)) => {
                let events = self.handle_report(report);
                self.pending.extend(events);
            }
            Some(SourceEvent::EngineLost) => self.pending.push_back(Event::EngineLost),
            None if self.app_run.has_become_ready() => {
                self.sources.manager.look_now();
                // Not if the last flush has begun: an app that cannot be killed may still say something.
                if self.flush_by.is_none() {
                    self.gates.app_started();
                }
                self.pending.push_back(Event::AppReady);
            }
            None => return false,
        }
        true
    }

    fn reap(&mut self) {
        let reaped = reap(self.app.as_ref().map(App::pid));
        if let (Some(exit), Some(app)) = (reaped.app, self.app.take_if(|_| reaped.app.is_some())) {
            app.return_terminal();
            let command = self.app_run.setup.take();
            (self.app_run.readiness, self.app_run.voice) = (None, None);
            let counts = self.app_run.oom_kills.zip(memory_events::oom_kills());
            let out_of_memory = counts.is_some_and(|(before, now)| now > before);
            match app_exit::exit_message(
                exit,
                ExitContext { command: command.as_deref(), sent: &self.app_run.sent, out_of_memory },
            ) {
                ExitMessage { text, expected: true } => tracing::info!("{text}"),
                ExitMessage { text, expected: false } => tracing::warn!("{text}"),
            }
            if command.is_none() {
                self.sources.status.registry.app_ended(exit.to_string());
            }
            self.pending.push_back(Event::AppExited(exit));
        }
        if reaped.others > 0 {
            self.pending.push_back(Event::OrphansReaped);
        }
    }

    fn handle_report(&mut self, report: Report) -> Vec<Event> {
        match report {
            Report::Restored(Ok(proof)) => vec![Event::Restored(proof)],
            Report::Restored(Err(failure)) | Report::SetupKept(Err(failure)) => vec![start_failed(failure)],
            Report::SetupDue(proof) => vec![Event::SetupDue(proof)],
            Report::SetupKept(Ok(())) => vec![Event::SetupKept],
            Report::RestoreAsked(request) => self.restore_asked(request),
            Report::Reinstalled(Ok(Reinstalled { answer, .. })) => {
                self.restore_request.iter_mut().for_each(|(_, answered)| *answered = Some(answer.clone()));
                vec![Event::Reinstalled]
            }
            Report::Reinstalled(Err(failure)) => {
                let message = failure.clone().reason().map(|(_, why)| why).unwrap_or_default();
                let answer =
                    RestoreAnswer { code: exit::CONFIG, message: format!("{message}; litevisor ends") };
                self.restore_request.iter_mut().for_each(|(_, answered)| *answered = Some(answer.clone()));
                vec![start_failed(failure)]
            }
            Report::Flushed(_) => vec![Event::Flushed],
            Report::HandOver(happened) => vec![Event::HandOver(happened)],
            Report::Finished(databases) => {
                let complete = databases.iter().all(|db| db.complete);
                // The app continued (`on_conflict = "continue"`), or the conflict was noticed in the last
                // flush.
                let fenced = databases.iter().any(|db| db.fenced).then_some(Event::Fenced);
                if fenced.is_some() {
                    self.gates.fenced();
                }
                self.databases = databases;
                fenced.into_iter().chain([Event::Finished { complete }]).collect()
            }
            Report::Fenced { database, detail } => {
                self.gates.fenced();
                tracing::error!(db = database, "another writer has taken the replica over: {detail}");
                vec![Event::Fenced]
            }
        }
    }

    /// One restore at a time.
    fn restore_asked(&mut self, request: RestoreRequest) -> Vec<Event> {
        if self.restore_request.is_some() {
            let message = "another restore is running".to_owned();
            let _ = request.reply.send(RestoreAnswer { code: exit::CONFIG, message });
            return Vec::new();
        }
        self.restore_request = Some((request, None));
        vec![Event::RestoreAsked]
    }

    /// Answers the client that waits for a restore; with `otherwise` if the result is not known.
    fn answer_restore(&mut self, otherwise: &str) {
        let Some((request, answer)) = self.restore_request.take() else { return };
        let unknown = || RestoreAnswer { code: exit::CONFIG, message: otherwise.to_owned() };
        let _ = request.reply.send(answer.unwrap_or_else(unknown));
    }

    fn reinstall(&mut self, by: Deadline) {
        let Some((request, _)) = &self.restore_request else {
            self.pending.push_back(Event::Reinstalled);
            return;
        };
        let db = request.db.clone();
        let target = request.target;
        self.request(Command::Reinstall { db, target, by });
    }

    /// Acts first and logs afterwards.
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Abandon => {
                self.sources.send(Command::Abandon);
            }
            Action::Withdraw => self.request(Command::Withdraw),
            Action::SetUp(command) => self.set_up(command),
            Action::KeepSetup => self.request(Command::KeepSetup),
            Action::Start(proof) => self.start(proof),
            Action::Restart(_over) => self.spawn(),
            Action::RestartLater { after, restart, limit } => {
                tracing::warn!(
                    "the app is started again in {after:?}: restart {restart} of {limit} in a row"
                );
            }
            Action::NoMoreRestarts { limit } => {
                tracing::error!(
                    "the app is not started again: it was restarted {limit} times in a row \
                     (app.backoff.limit)"
                );
            }
            Action::Flush { by } => self.flush_before_the_stop(by),
            Action::StopApp(signal) => self.stop_app(signal),
            Action::Forward(signal) => self.forward(signal),
            Action::KillApp => self.kill_app(),
            Action::EndRemaining(treatment, extent) => self.end_remaining(treatment, extent),
            Action::Reinstall { by } => self.reinstall(by),
            Action::AbandonReinstall => {
                self.sources.send(Command::AbandonReinstall);
            }
            Action::RefuseRestore => {
                self.answer_restore("the app is being started or stopped; try again later");
            }
            Action::Finish { quiet, by, release } => {
                self.answer_restore("litevisor stops before the restore");
                self.begin_last_flush(Command::Finish { quiet, by, release }, by);
            }
            Action::FinishUnproven { by, release } => {
                self.answer_restore("litevisor stops before the restore");
                self.begin_last_flush(Command::FinishUnproven { by, release }, by);
                tracing::error!(
                    "a process of the app has not ended after SIGKILL: what it writes from now on is not \
                     replicated"
                );
            }
            Action::FinishAgain { by, release } => {
                self.begin_last_flush(Command::FinishUnproven { by, release }, by);
                tracing::warn!("litevisor was frozen past the end of the last flush: flushing once more");
            }
            Action::Retire { complete } => self.retire(complete),
            Action::Resume => self.resume(),
            Action::NeverReady => {
                let trial = self.rules.trial;
                tracing::error!(
                    "the app has not answered within {trial:?} of the hand-over (handover.trial): it is \
                     stopped, and the previous instance may start its app again"
                );
            }
            Action::Note(signal) => {
                tracing::info!("{signal} received and ignored: it has no effect in this phase")
            }
        }
    }

    fn flush_before_the_stop(&mut self, by: Deadline) {
        self.app_run.stop_requested = Some(Instant::now());
        self.request(Command::Flush { by });
        match &self.restore_request {
            Some((RestoreRequest { db, .. }, _)) => {
                tracing::warn!(
                    db,
                    "restore in place requested: the app is stopped, and started again afterwards"
                );
            }
            None => tracing::info!("stop requested: flushing before the stop signal to the app"),
        }
    }

    fn retire(&mut self, complete: bool) {
        self.finish_gates(complete);
        self.gates = Gates::none();
        tracing::warn!(
            "the replica was handed over: the app does not run here any more. litevisor stays until it is \
             stopped"
        );
    }

    /// The gates were closed at the hand-over: they are opened anew.
    fn resume(&mut self) {
        tracing::warn!(
            "the next instance has failed: the replica is taken back, and the app is started again"
        );
        self.flush_by = None;
        match gate::open(self.gate_settings.clone(), self.ledger.clone(), &self.sources.status.registry) {
            Ok(gates) => self.gates = gates,
            Err(error) => tracing::error!("the gates cannot be opened again: {error}. Restart litevisor"),
        }
        self.request(Command::Resume);
    }

    /// What the gates hold waits for this flush; they accept no further connections.
    fn begin_last_flush(&mut self, command: Command, by: Deadline) {
        self.flush_by = Some(by);
        self.gates.flushing();
        self.request(command);
    }

    /// Sends a command that the engine answers. If the engine has ended, `EngineLost` is the answer.
    fn request(&mut self, command: Command) {
        if !self.sources.send(command) {
            self.pending.push_back(Event::EngineLost);
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

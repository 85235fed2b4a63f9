//! The life of `litevisor replicate`, which has no app: the event loop of `lifecycle::sidecar`. As PID 1 it
//! reaps orphans, too.

use super::engine::{Command, DatabaseSummary, Report, StartFailure};
use super::event_sources::{AppContext, EventSources, OpenError, SourceEvent};
use super::manager::Life;
use super::status_service;
use super::summary::{self, Phases};
use crate::config::Checked;
use crate::exit;
use crate::lifecycle::Rules;
use crate::lifecycle::sidecar::{Action, Event, Notice, State, Task, step};
use crate::model::{ReleaseReason, Signal, SuccessCodes};
use crate::restore::FileAccess;
use crate::supervise::{Claimed, Meaning, reap};
use std::collections::VecDeque;
use std::time::Instant;

/// SIGHUP (the terminal was closed) and SIGQUIT (Ctrl-\\): without an app to forward them to, they stop
/// litevisor.
const ALSO_STOP: [Signal; 2] = [Signal(1), Signal(3)];

struct Sidecar {
    sources: EventSources,
    stop_signal: Signal,
    pending: VecDeque<Event>,
    databases: Vec<DatabaseSummary>,
}

/// From the restore to the last flush. Logs the summary and returns the exit status.
pub fn replicate(checked: Checked, task: Task, claimed: Claimed) -> u8 {
    let Checked { mut config, app_user, .. } = checked;
    config.restore.access = FileAccess::Shared;
    config.restore.create_missing = match task {
        Task::Follow => true,
        Task::Once => false,
    };
    if !config.gates.is_empty() {
        tracing::warn!("[[gate]] has no effect here: only `litevisor run` opens gates");
    }
    if config.handover.take().is_some() {
        tracing::warn!("[handover] has no effect here: only `litevisor run` starts and stops the app");
    }
    if config.follow.is_some() {
        tracing::error!(
            "[follow] is on: these databases are read-only copies, and nothing of them may be replicated"
        );
        return exit::CONFIG;
    }
    let stop_signal = config.app.take().map_or(Signal::TERM, |app| app.stop_signal);
    let rules = super::rules(&config, stop_signal, false, 0);
    let app = AppContext { user: app_user.as_deref(), ..AppContext::default() };
    let sources = match EventSources::open(config, app, claimed) {
        Ok(sources) => sources,
        Err(error) => return refused(&error),
    };
    let mut sidecar = Sidecar { sources, stop_signal, pending: VecDeque::new(), databases: Vec::new() };
    sidecar.live(&rules, task)
}

fn refused(error: &OpenError) -> u8 {
    tracing::error!("{error}");
    error.status()
}

impl Sidecar {
    fn live(&mut self, rules: &Rules, task: Task) -> u8 {
        let mut state = State::Preparing;
        let mut phases = Phases::begin(state.name(), Instant::now());
        loop {
            if let State::Done(outcome) = state {
                let status =
                    exit::code(outcome.ending, outcome.complete, outcome.fenced, &SuccessCodes::default());
                // A missing database is no success: otherwise a wrong path would never be noticed.
                let left_out = task == Task::Once && self.databases.iter().any(|db| db.absent);
                let status = if status == 0 && left_out { exit::NOTHING } else { status };
                summary::log(status, &outcome, &phases, &self.databases);
                self.sources.finish_notifications(&self.databases);
                return status;
            }
            let event = self.next(state.deadline());
            let now = Instant::now();
            let (next, actions) = step(rules, task, state, event, now);
            actions.into_iter().for_each(|action| self.perform(action));
            phases.enter(next.name(), now);
            self.sources.enter(status_service::sidecar_phase(&next), Life::of_sidecar(&next), None);
            state = next;
        }
    }

    /// Waits for the next event.
    fn next(&mut self, deadline: Option<Instant>) -> Event {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Event::Deadline;
            }
            self.sources.tend_manager(None);
            match self.sources.poll(self.stop_signal) {
                Some(event) => self.handle(event),
                None => self.sources.wait(deadline),
            }
        }
    }

    fn handle(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Signal(Meaning::Stop(signal)) => self.pending.push_back(Event::Stop(signal)),
            SourceEvent::Signal(Meaning::Forward(signal)) if ALSO_STOP.contains(&signal) => {
                self.pending.push_back(Event::Stop(signal));
            }
            SourceEvent::Signal(Meaning::Forward(signal)) => self.pending.push_back(Event::Other(signal)),
            SourceEvent::Signal(Meaning::Children) => {
                reap(None);
            }
            SourceEvent::Signal(Meaning::Own) => {}
            SourceEvent::Report(report) => self.handle_report(report),
            SourceEvent::EngineLost => self.pending.push_back(Event::EngineLost),
        }
    }

    fn handle_report(&mut self, report: Report) {
        match report {
            Report::Restored(Ok(proof)) => self.pending.push_back(Event::Prepared(proof)),
            Report::Restored(Err(failure)) => self.pending.push_back(not_prepared(failure)),
            // The engine refuses restores in place, and hands nothing over: there is no app that it could
            // stop or set up.
            Report::RestoreAsked(_)
            | Report::Reinstalled(_)
            | Report::HandOver(_)
            | Report::SetupDue(_)
            | Report::SetupKept(_) => {}
            Report::Flushed(flushed) => self.pending.push_back(Event::Flushed(flushed)),
            Report::Finished(databases) => {
                let complete = databases.iter().all(|db| db.complete);
                if databases.iter().any(|db| db.fenced) {
                    self.pending.push_back(Event::Fenced);
                }
                self.databases = databases;
                self.pending.push_back(Event::Finished { complete });
            }
            Report::Fenced { database, detail } => {
                tracing::error!(db = database, "another writer has taken the replica over: {detail}");
                self.pending.push_back(Event::Fenced);
            }
        }
    }

    /// Acts first and logs afterwards.
    fn perform(&mut self, action: Action) {
        match action {
            Action::Abandon => self.send(Command::Abandon),
            Action::Replicate(proof) => self.send(Command::Replicate(proof)),
            Action::Flush { by } => self.send(Command::Flush { by }),
            // litevisor does not start the app, so it cannot prove that no process writes.
            Action::Finish { by } => {
                self.send(Command::FinishUnproven { by, release: ReleaseReason::Stopped })
            }
            Action::Log(Notice::Stopping(signal)) => {
                tracing::info!("{signal} received: flushing until no other process has a database open");
            }
            Action::Log(Notice::StillInUse) => {
                tracing::warn!(
                    "another process still has a database open: what it writes from now on is not replicated"
                );
            }
            Action::Log(Notice::Ignored(signal)) => tracing::info!("{signal} received and ignored"),
        }
    }

    /// If the engine has ended, `EngineLost` is the answer.
    fn send(&mut self, command: Command) {
        if !self.sources.send(command) {
            self.pending.push_back(Event::EngineLost);
        }
    }
}

fn not_prepared(failure: StartFailure) -> Event {
    match failure.reason() {
        None => Event::Abandoned,
        Some((reason, why)) => {
            tracing::error!("replication is not started: {why}");
            Event::NotPrepared(reason)
        }
    }
}

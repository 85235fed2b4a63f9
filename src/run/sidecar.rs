//! The program without an app (`litevisor replicate`): performs `lifecycle::sidecar` at the same post as a run. As PID 1 it
//! still reaps whoever is handed to it. Decides nothing.

use super::engine::{Command, DatabaseSummary, Report, StartFailure};
use super::ops;
use super::post::{Heard, OpenError, Post};
use super::summary::{self, Phases};
use crate::config::Checked;
use crate::exit;
use crate::lifecycle::Rules;
use crate::lifecycle::sidecar::{Action, Event, State, Task, Told, deadline, step};
use crate::model::{Signal, SuccessCodes};
use crate::restore::Others;
use crate::supervise::{Claimed, Meaning, reap};
use std::collections::VecDeque;
use std::time::Instant;

/// A terminal that is closed, and Ctrl-\\: with no app to hear of them they ask us to stop, too.
const STOP_TOO: [Signal; 2] = [Signal(1), Signal(3)];

struct Sidecar {
    post: Post,
    stop_signal: Signal,
    pending: VecDeque<Event>,
    databases: Vec<DatabaseSummary>,
}

/// From taking over what is there to the last flush. Returns our exit status; the summary is logged.
pub fn replicate(checked: Checked, task: Task, claimed: Claimed) -> u8 {
    let Checked { mut config, app_user, .. } = checked;
    config.restore.others = match task {
        Task::Follow => Others::MayUse,
        Task::Once => Others::MayUseOnce,
    };
    let stop_signal = config.app.take().map_or(Signal::TERM, |app| app.stop_signal);
    let rules = super::rules(&config, stop_signal);
    let opened = Post::open(config, app_user.as_deref(), claimed);
    let post = match opened {
        Ok(post) => post,
        Err(error) => return refused(&error),
    };
    let mut sidecar = Sidecar { post, stop_signal, pending: VecDeque::new(), databases: Vec::new() };
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
                let status = exit::code(outcome.ending, outcome.complete, outcome.fenced, &SuccessCodes::default());
                summary::log(status, &outcome, &phases, &self.databases);
                return status;
            }
            let event = self.next(deadline(&state));
            let now = Instant::now();
            let (next, actions) = step(rules, task, state, event, now);
            actions.into_iter().for_each(|action| self.perform(action));
            phases.enter(next.name(), now);
            self.post.ops.board.enter(ops::phase_alone(&next));
            state = next;
        }
    }

    /// Sleeps until there is something to tell.
    fn next(&mut self, deadline: Option<Instant>) -> Event {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Event::Deadline;
            }
            match self.post.hear(self.stop_signal) {
                Some(heard) => self.heard(heard),
                None => self.post.watch.wait(deadline),
            }
        }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Signal(Meaning::Stop(signal)) => self.pending.push_back(Event::Stop(signal)),
            Heard::Signal(Meaning::Forward(signal)) if STOP_TOO.contains(&signal) => {
                self.pending.push_back(Event::Stop(signal));
            }
            Heard::Signal(Meaning::Forward(signal)) => self.pending.push_back(Event::Other(signal)),
            Heard::Signal(Meaning::Children) => {
                reap(None);
            }
            Heard::Signal(Meaning::Own) => {}
            Heard::Report(report) => self.told(report),
            Heard::EngineLost => self.pending.push_back(Event::EngineLost),
        }
    }

    fn told(&mut self, report: Report) {
        match report {
            Report::Restored(Ok(proof)) => self.pending.push_back(Event::Prepared(proof)),
            Report::Restored(Err(failure)) => self.pending.push_back(not_prepared(failure)),
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
            // The app is somebody else's: that nobody writes any more cannot be proven.
            Action::Finish { by } => self.send(Command::FinishUnproven { by }),
            Action::Say(Told::Stopping(signal)) => {
                tracing::info!("{signal} received: flushing what is committed, until nobody has a database open");
            }
            Action::Say(Told::StillInUse) => {
                tracing::warn!(
                    "another process still has a database open: what it writes from now on is not replicated"
                );
            }
            Action::Say(Told::Ignored(signal)) => tracing::info!("{signal} received; nothing to be done with it"),
        }
    }

    /// An engine that is gone answers nothing, so it is said again that it is.
    fn send(&mut self, command: Command) {
        if !self.post.send(command) {
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

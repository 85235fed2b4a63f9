//! The life without an app (`litevisor replicate`): state + event → state + actions. Pure: the clock is handed in.
//!
//! The app is somebody else's: it may write when we are asked to stop, and nobody can prove to us that it does not. So
//! what is committed is flushed at once, and replication goes on until nobody has a database open and nothing has been
//! committed for a moment (`CALM`), at most for the app's share of the grace (`app_timeout`). Then comes the last flush.
//! A second stop signal skips the waiting, never the flush. `Task::Once` flushes what is there and ends.

use super::budget::{ABANDON, Budget, LOOK, UNHURRIED_FLUSH};
use super::{Outcome, Rules};
use crate::model::proof::Restored;
use crate::model::{Deadline, Ending, NotStarted, Signal};
use std::time::{Duration, Instant};

/// Nobody has a database open and nothing was committed for so long: whoever wrote has ended.
const CALM: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Until a signal comes.
    Follow,
    /// Until everything that is committed is in the replica.
    Once,
}

#[derive(Debug)]
pub enum State {
    Preparing,
    /// Asked to stop while restoring: the engine puts everything back.
    Abandoning {
        ending: Ending,
        until: Instant,
    },
    Replicating,
    /// `Task::Once`: a flush is under way.
    Uploading,
    /// Asked to stop: flushed again and again, until the writers have gone.
    Draining {
        budget: Budget,
        /// Since when there was no sign of a writer.
        calm_since: Instant,
        /// None before the first look.
        last: Option<Flushed>,
        /// The next flush; None while one is under way.
        look_at: Option<Instant>,
    },
    Flushing {
        fenced: bool,
        until: Instant,
    },
    Done(Outcome),
}

#[derive(Debug)]
pub enum Event {
    Stop(Signal),
    /// A signal that asks for nothing we could do.
    Other(Signal),
    Prepared(Restored),
    /// Restoring or taking over failed.
    NotPrepared(NotStarted),
    Abandoned,
    Flushed(Flushed),
    Finished {
        complete: bool,
    },
    Fenced,
    EngineLost,
    Deadline,
}

/// What a flush came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Everything that was committed when it was asked for is in the replica.
    pub complete: bool,
    /// Something is in the way, and it is not the amount of data.
    pub stuck: bool,
    /// Uploaded in this run, of all databases.
    pub bytes: u64,
    /// Another process has a database open.
    pub in_use: bool,
}

#[derive(Debug)]
pub enum Action {
    Abandon,
    /// Begin to replicate.
    Replicate(Restored),
    Flush {
        by: Deadline,
    },
    /// The last flush.
    Finish {
        by: Deadline,
    },
    /// For the log.
    Say(Told),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Stopping(Signal),
    /// The waiting is over, and somebody still has a database open.
    StillInUse,
    Ignored(Signal),
}

type Step = (State, Vec<Action>);

impl State {
    /// For the log and the summary.
    pub fn name(&self) -> &'static str {
        match self {
            State::Preparing => "restore",
            State::Abandoning { .. } => "abandon",
            State::Replicating => "replicate",
            State::Uploading => "upload",
            State::Draining { .. } => "drain",
            State::Flushing { .. } => "flush",
            State::Done(_) => "done",
        }
    }
}

/// When `Event::Deadline` is due.
pub fn deadline(state: &State) -> Option<Instant> {
    match state {
        State::Preparing | State::Replicating | State::Uploading | State::Done(_) => None,
        State::Abandoning { until, .. } | State::Flushing { until, .. } => Some(*until),
        State::Draining { budget, look_at, .. } => Some(look_at.map_or(budget.kill_at, |at| at.min(budget.kill_at))),
    }
}

/// One event. `now` is read once by the caller, after the event.
pub fn step(rules: &Rules, task: Task, state: State, event: Event, now: Instant) -> Step {
    if let Event::Other(signal) = event {
        return (state, vec![Action::Say(Told::Ignored(signal))]);
    }
    match state {
        State::Preparing => preparing(rules, task, event, now),
        State::Abandoning { ending, until } => abandoning(ending, until, &event),
        State::Replicating => replicating(rules, event, now),
        State::Uploading => uploading(rules, event, now),
        State::Draining { budget, calm_since, last, look_at } => {
            draining(rules, Drain { budget, calm_since, last, look_at }, event, now)
        }
        State::Flushing { fenced, until } => flushing(rules, fenced, until, event, now),
        State::Done(outcome) => (State::Done(outcome), vec![]),
    }
}

fn preparing(rules: &Rules, task: Task, event: Event, now: Instant) -> Step {
    let abandon = |ending| (State::Abandoning { ending, until: now + ABANDON.min(rules.grace) }, vec![Action::Abandon]);
    match event {
        Event::Stop(signal) => abandon(Ending::Stopped(signal)),
        Event::Fenced => abandon(Ending::NotStarted(NotStarted::Taken)),
        Event::Prepared(proof) => match task {
            Task::Follow => (State::Replicating, vec![Action::Replicate(proof)]),
            Task::Once => (State::Uploading, vec![Action::Replicate(proof), flush_once(now)]),
        },
        Event::NotPrepared(reason) => done(Ending::NotStarted(reason)),
        Event::Abandoned | Event::EngineLost => done(Ending::NotStarted(NotStarted::Internal)),
        Event::Flushed(_) | Event::Finished { .. } | Event::Deadline | Event::Other(_) => (State::Preparing, vec![]),
    }
}

fn abandoning(ending: Ending, until: Instant, event: &Event) -> Step {
    match event {
        Event::Abandoned | Event::Prepared(_) | Event::NotPrepared(_) | Event::EngineLost | Event::Deadline => {
            done(ending)
        }
        Event::Stop(_) | Event::Other(_) | Event::Flushed(_) | Event::Finished { .. } | Event::Fenced => {
            (State::Abandoning { ending, until }, vec![])
        }
    }
}

fn replicating(rules: &Rules, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => {
            let (state, mut actions) = drain(rules, now);
            actions.push(Action::Say(Told::Stopping(signal)));
            (state, actions)
        }
        Event::Fenced => fenced(rules, now),
        Event::EngineLost => lost(),
        Event::Other(_)
        | Event::Prepared(_)
        | Event::NotPrepared(_)
        | Event::Abandoned
        | Event::Flushed(_)
        | Event::Finished { .. }
        | Event::Deadline => (State::Replicating, vec![]),
    }
}

fn uploading(rules: &Rules, event: Event, now: Instant) -> Step {
    match event {
        Event::Flushed(Flushed { complete: false, stuck: false, .. }) => (State::Uploading, vec![flush_once(now)]),
        // Whoever goes on writing must not keep us: what was there is uploaded.
        Event::Flushed(Flushed { complete: true, .. }) => finish(false, &Budget::unhurried(rules, now)),
        // Nothing gets on. What is missing stands in the summary.
        Event::Flushed(_) => finish(false, &Budget::split(rules, now)),
        Event::Stop(signal) => {
            let (state, mut actions) = finish(false, &Budget::split(rules, now));
            actions.push(Action::Say(Told::Stopping(signal)));
            (state, actions)
        }
        Event::Fenced => fenced(rules, now),
        Event::EngineLost => lost(),
        Event::Other(_)
        | Event::Prepared(_)
        | Event::NotPrepared(_)
        | Event::Abandoned
        | Event::Finished { .. }
        | Event::Deadline => (State::Uploading, vec![]),
    }
}

struct Drain {
    budget: Budget,
    calm_since: Instant,
    last: Option<Flushed>,
    look_at: Option<Instant>,
}

fn draining(rules: &Rules, mut drain: Drain, event: Event, now: Instant) -> Step {
    let calm = CALM.min(rules.app_timeout / 4);
    let finish_now = |drain: &Drain| finish(false, &drain.budget);
    match event {
        Event::Flushed(flushed) => {
            if flushed.in_use || drain.last.is_some_and(|last| last.bytes != flushed.bytes) {
                drain.calm_since = now;
            }
            drain.last = Some(flushed);
            if now >= drain.calm_since + calm && flushed.complete {
                return finish_now(&drain);
            }
            drain.look_at = Some(now + LOOK);
            (drain.state(), vec![])
        }
        Event::Deadline if now >= drain.budget.kill_at => {
            let (state, mut actions) = finish_now(&drain);
            if drain.last.is_some_and(|last| last.in_use) {
                actions.push(Action::Say(Told::StillInUse));
            }
            (state, actions)
        }
        Event::Deadline => {
            drain.look_at = None;
            let by = Deadline::at(drain.budget.kill_at);
            (drain.state(), vec![Action::Flush { by }])
        }
        Event::Stop(_) => finish_now(&drain),
        Event::Fenced => finish(true, &drain.budget),
        Event::EngineLost => lost(),
        Event::Other(_) | Event::Prepared(_) | Event::NotPrepared(_) | Event::Abandoned | Event::Finished { .. } => {
            (drain.state(), vec![])
        }
    }
}

impl Drain {
    fn state(self) -> State {
        let Drain { budget, calm_since, last, look_at } = self;
        State::Draining { budget, calm_since, last, look_at }
    }
}

fn flushing(rules: &Rules, fenced: bool, until: Instant, event: Event, now: Instant) -> Step {
    let done = |complete| (State::Done(Outcome { ending: Ending::NoApp, complete, fenced }), vec![]);
    match event {
        Event::Finished { complete } => done(complete),
        Event::Deadline | Event::EngineLost => done(false),
        Event::Fenced => (State::Flushing { fenced: true, until }, vec![]),
        Event::Stop(_) => (State::Flushing { fenced, until: until.min(Budget::split(rules, now).end_at) }, vec![]),
        Event::Other(_) | Event::Prepared(_) | Event::NotPrepared(_) | Event::Abandoned | Event::Flushed(_) => {
            (State::Flushing { fenced, until }, vec![])
        }
    }
}

fn drain(rules: &Rules, now: Instant) -> Step {
    let budget = Budget::split(rules, now);
    let by = Deadline::at(budget.kill_at);
    (State::Draining { budget, calm_since: now, last: None, look_at: None }, vec![Action::Flush { by }])
}

fn flush_once(now: Instant) -> Action {
    Action::Flush { by: Deadline::at(now + UNHURRIED_FLUSH) }
}

fn finish(fenced: bool, budget: &Budget) -> Step {
    let flush = Action::Finish { by: Deadline::at(budget.flush_by) };
    (State::Flushing { fenced, until: budget.end_at }, vec![flush])
}

/// The others get the time of a stop; nobody hurries us but our own rule.
fn fenced(rules: &Rules, now: Instant) -> Step {
    finish(true, &Budget::split(rules, now))
}

/// Whoever started us is to start us again.
fn lost() -> Step {
    done(Ending::NotStarted(NotStarted::Internal))
}

/// Nothing was begun that would have to be flushed.
fn done(ending: Ending) -> Step {
    let fenced = ending == Ending::NotStarted(NotStarted::Taken);
    (State::Done(Outcome { ending, complete: true, fenced }), vec![])
}

#[cfg(test)]
mod tests;

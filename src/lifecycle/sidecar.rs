//! The state machine of a run without an app (`litevisor replicate`): state + event → new state + actions.
//! Pure.
//!
//! litevisor does not start the app, so it cannot prove that the app has stopped writing. At a stop signal it
//! flushes at once and continues to replicate until no other process has a database open and nothing was
//! committed for `CALM`, at most for the app's share of the grace (`app_timeout`). Then follows the last
//! flush. A second stop signal skips the waiting, not the flush. `Task::Once` flushes what is committed and
//! ends.

use super::budget::{ABANDON, Budget, CHECK_INTERVAL, FROZEN, UNHURRIED_FLUSH, least_flush};
use super::rules::Rules;
use super::state::{Abandoning, FlushAttempt, Outcome};
use crate::model::proof::Restored;
use crate::model::{Deadline, Ending, NotStarted, Signal};
use std::time::{Duration, Instant};

/// When no other process has a database open and nothing was committed for so long, the writers have ended.
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
    /// A stop signal came during the restore: the engine undoes it.
    Abandoning(Abandoning),
    Replicating,
    /// `Task::Once`: a flush runs.
    Uploading,
    /// After a stop signal: flush after flush, until the writers have ended.
    Draining(Draining),
    Flushing(Flushing),
    Done(Outcome),
}

#[derive(Debug)]
pub struct Draining {
    pub budget: Budget,
    /// Since when no writer was noticed.
    pub calm_since: Instant,
    /// None before the first flush has ended.
    pub last: Option<Flushed>,
    /// The next flush; None while one runs.
    pub check_at: Option<Instant>,
}

#[derive(Debug)]
pub struct Flushing {
    pub fenced: bool,
    pub until: Instant,
    pub attempt: FlushAttempt,
}

#[derive(Debug)]
pub enum Event {
    Stop(Signal),
    /// A signal that has no effect.
    Other(Signal),
    Prepared(Restored),
    /// The restore, or the check of the local files, failed.
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

/// The result of a flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Everything that was committed when the flush was requested is in the replica.
    pub complete: bool,
    /// An error prevents the upload; more time would not help.
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
    Log(Notice),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Stopping(Signal),
    /// The waiting is over, and another process still has a database open.
    StillInUse,
    Ignored(Signal),
}

type Step = (State, Vec<Action>);

impl State {
    /// For the log and the summary.
    pub fn name(&self) -> &'static str {
        match self {
            State::Preparing => "restore",
            State::Abandoning(_) => "abandon",
            State::Replicating => "replicate",
            State::Uploading => "upload",
            State::Draining(_) => "drain",
            State::Flushing(_) => "flush",
            State::Done(_) => "done",
        }
    }

    /// When `Event::Deadline` is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            State::Preparing | State::Replicating | State::Uploading | State::Done(_) => None,
            State::Abandoning(Abandoning { until, .. }) | State::Flushing(Flushing { until, .. }) => {
                Some(*until)
            }
            State::Draining(Draining { budget, check_at, .. }) => {
                Some(check_at.map_or(budget.kill_at, |at| at.min(budget.kill_at)))
            }
        }
    }
}

/// The caller reads `now` once, after the event.
pub fn step(rules: &Rules, task: Task, state: State, event: Event, now: Instant) -> Step {
    if let Event::Other(signal) = event {
        return (state, vec![Action::Log(Notice::Ignored(signal))]);
    }
    match state {
        State::Preparing => preparing(rules, task, event, now),
        State::Abandoning(state) => abandoning(state, &event),
        State::Replicating => replicating(rules, event, now),
        State::Uploading => uploading(rules, event, now),
        State::Draining(state) => draining(rules, state, event, now),
        State::Flushing(state) => flushing(rules, state, event, now),
        State::Done(outcome) => (State::Done(outcome), vec![]),
    }
}

fn preparing(rules: &Rules, task: Task, event: Event, now: Instant) -> Step {
    let abandon = |ending| {
        let until = now + ABANDON.min(rules.grace);
        (State::Abandoning(Abandoning { ending, until }), vec![Action::Abandon])
    };
    match event {
        Event::Stop(signal) => abandon(Ending::Stopped(signal)),
        Event::Fenced => abandon(Ending::NotStarted(NotStarted::Taken)),
        Event::Prepared(proof) => match task {
            Task::Follow => (State::Replicating, vec![Action::Replicate(proof)]),
            Task::Once => (State::Uploading, vec![Action::Replicate(proof), flush_once(now)]),
        },
        Event::NotPrepared(reason) => done(Ending::NotStarted(reason)),
        Event::Abandoned | Event::EngineLost => done(Ending::NotStarted(NotStarted::Internal)),
        Event::Flushed(_) | Event::Finished { .. } | Event::Deadline | Event::Other(_) => {
            (State::Preparing, vec![])
        }
    }
}

fn abandoning(state: Abandoning, event: &Event) -> Step {
    match event {
        Event::Abandoned
        | Event::Prepared(_)
        | Event::NotPrepared(_)
        | Event::EngineLost
        | Event::Deadline => done(state.ending),
        Event::Stop(_) | Event::Other(_) | Event::Flushed(_) | Event::Finished { .. } | Event::Fenced => {
            (State::Abandoning(state), vec![])
        }
    }
}

fn replicating(rules: &Rules, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => {
            let (state, mut actions) = drain(rules, now);
            actions.push(Action::Log(Notice::Stopping(signal)));
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
        Event::Flushed(Flushed { complete: false, stuck: false, .. }) => {
            (State::Uploading, vec![flush_once(now)])
        }
        // What was committed at the start is uploaded. A process that continues to write must not delay the
        // end.
        Event::Flushed(Flushed { complete: true, .. }) => {
            finish(rules, false, Budget::unhurried(rules, now), now)
        }
        // The flush makes no progress. The summary names what is missing.
        Event::Flushed(_) => finish(rules, false, Budget::split(rules, now), now),
        Event::Stop(signal) => {
            let (state, mut actions) = finish(rules, false, Budget::split(rules, now), now);
            actions.push(Action::Log(Notice::Stopping(signal)));
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

fn draining(rules: &Rules, mut drain: Draining, event: Event, now: Instant) -> Step {
    let calm = CALM.min(rules.app_timeout / 4);
    let finish_now = |drain: &Draining| finish(rules, false, drain.budget, now);
    match event {
        Event::Flushed(flushed) => {
            if flushed.in_use || drain.last.is_some_and(|last| last.bytes != flushed.bytes) {
                drain.calm_since = now;
            }
            drain.last = Some(flushed);
            if now >= drain.calm_since + calm && flushed.complete {
                return finish_now(&drain);
            }
            drain.check_at = Some(now + CHECK_INTERVAL);
            (State::Draining(drain), vec![])
        }
        Event::Deadline if now >= drain.budget.kill_at => {
            let (state, mut actions) = finish_now(&drain);
            if drain.last.is_some_and(|last| last.in_use) {
                actions.push(Action::Log(Notice::StillInUse));
            }
            (state, actions)
        }
        Event::Deadline => {
            drain.check_at = None;
            let by = Deadline::at(drain.budget.kill_at);
            (State::Draining(drain), vec![Action::Flush { by }])
        }
        Event::Stop(_) => finish_now(&drain),
        Event::Fenced => finish(rules, true, drain.budget, now),
        Event::EngineLost => lost(),
        Event::Other(_)
        | Event::Prepared(_)
        | Event::NotPrepared(_)
        | Event::Abandoned
        | Event::Finished { .. } => (State::Draining(drain), vec![]),
    }
}

fn flushing(rules: &Rules, mut flush: Flushing, event: Event, now: Instant) -> Step {
    let done = |complete, fenced| (State::Done(Outcome { ending: Ending::NoApp, complete, fenced }), vec![]);
    match event {
        // The answer to the first attempt, whose time was over when this process continued.
        Event::Finished { complete: false } if flush.attempt == FlushAttempt::Second => {
            flush.attempt = FlushAttempt::Last;
        }
        Event::Finished { complete } => return done(complete, flush.fenced),
        Event::Deadline if flush.attempt == FlushAttempt::First && now >= flush.until + FROZEN => {
            let (by, until) = least_flush(rules, now);
            (flush.attempt, flush.until) = (FlushAttempt::Second, until);
            return (State::Flushing(flush), vec![Action::Finish { by: Deadline::at(by) }]);
        }
        Event::Deadline | Event::EngineLost => return done(false, flush.fenced),
        Event::Fenced => flush.fenced = true,
        Event::Stop(_) => flush.until = flush.until.min(Budget::split(rules, now).end_at),
        Event::Other(_)
        | Event::Prepared(_)
        | Event::NotPrepared(_)
        | Event::Abandoned
        | Event::Flushed(_) => {}
    }
    (State::Flushing(flush), vec![])
}

fn drain(rules: &Rules, now: Instant) -> Step {
    let budget = Budget::split(rules, now);
    let by = Deadline::at(budget.kill_at);
    {
        let draining = Draining { budget, calm_since: now, last: None, check_at: None };
        (State::Draining(draining), vec![Action::Flush { by }])
    }
}

fn flush_once(now: Instant) -> Action {
    Action::Flush { by: Deadline::at(now + UNHURRIED_FLUSH) }
}

fn finish(rules: &Rules, fenced: bool, budget: Budget, now: Instant) -> Step {
    let budget = budget.flushed_from(rules, now);
    let flush = Action::Finish { by: Deadline::at(budget.flush_by) };
    {
        let flushing = Flushing { fenced, until: budget.end_at, attempt: FlushAttempt::First };
        (State::Flushing(flushing), vec![flush])
    }
}

/// The other databases get the time of a stop for their last flush.
fn fenced(rules: &Rules, now: Instant) -> Step {
    finish(rules, true, Budget::split(rules, now), now)
}

/// The exit status asks the caller (a service manager) to start litevisor again.
fn lost() -> Step {
    done(Ending::NotStarted(NotStarted::Internal))
}

/// The end of a run that wrote nothing: there is nothing to flush.
fn done(ending: Ending) -> Step {
    let fenced = ending == Ending::NotStarted(NotStarted::Taken);
    (State::Done(Outcome { ending, complete: true, fenced }), vec![])
}

#[cfg(test)]
mod tests;

//! The cells of the table, one function per state, up to the app's end; `aftermath` has those after it. Pure.

use super::aftermath::{
    Backoff, Clearing, Flushing, app_ended, app_gone, backoff, clearing, course, done, flush_unproven, flushing,
    own_end,
};
use super::backoff::Lives;
use super::budget::ABANDON;
use super::{Action, Cause, Course, Event, Rules, State};
use crate::model::{Deadline, Ending, NotStarted, Signal};
use std::time::Instant;

pub(super) type Step = (State, Vec<Action>);

/// One event. `now` is read once by the caller, after the event.
pub fn step(rules: &Rules, state: State, event: Event, now: Instant) -> Step {
    match state {
        State::Restoring => restoring(rules, event, now),
        State::Abandoning { ending, until } => abandoning(ending, until, event),
        State::Starting { stop, lives } => starting(rules, stop, lives, event, now),
        State::Running(lives) => running(rules, lives, event, now),
        State::PreSync(course) => pre_sync(rules, course, event, now),
        State::Stopping { course, killed } => stopping(rules, course, killed, event, now),
        State::Clearing { ending, course, kill_at, killed, look_at, then } => {
            clearing(rules, Clearing { ending, course, kill_at, killed, look_at, then }, event, now)
        }
        State::Backoff { exit, quiet, lives, until } => {
            backoff(rules, Backoff { exit, quiet, lives, until }, event, now)
        }
        State::Flushing { ending, fenced, proven, until } => {
            flushing(rules, Flushing { ending, fenced, proven, until }, event, now)
        }
        State::Done(outcome) => (State::Done(outcome), vec![]),
    }
}

/// When `Event::Deadline` is due. None: nothing but an event ends this state, and we sleep until it comes.
pub fn deadline(state: &State) -> Option<Instant> {
    match state {
        State::Restoring | State::Starting { .. } | State::Running(_) | State::Done(_) => None,
        State::Abandoning { until, .. } | State::Backoff { until, .. } | State::Flushing { until, .. } => Some(*until),
        State::PreSync(course) => Some(course.budget.pre_sync_by),
        State::Stopping { course, killed: false } => Some(course.budget.kill_at),
        State::Stopping { course, killed: true } => Some(course.budget.give_up_at),
        State::Clearing { course, kill_at, killed, look_at, .. } => {
            let next = if *killed { course.budget.give_up_at } else { *kill_at };
            Some(next.min(*look_at))
        }
    }
}

fn restoring(rules: &Rules, event: Event, now: Instant) -> Step {
    let abandon = |ending| {
        let until = now + ABANDON.min(rules.grace);
        (State::Abandoning { ending, until }, vec![Action::Abandon])
    };
    match event {
        Event::Stop(signal) => abandon(Ending::Stopped(signal)),
        Event::Fenced => abandon(Ending::NotStarted(NotStarted::Taken)),
        Event::Other(signal) => (State::Restoring, vec![Action::Note(signal)]),
        Event::Restored(proof) => {
            (State::Starting { stop: None, lives: Lives::first(now) }, vec![Action::Start(proof)])
        }
        Event::RestoreFailed(reason) => done(Ending::NotStarted(reason)),
        Event::Abandoned | Event::EngineLost => done(Ending::NotStarted(NotStarted::Internal)),
        Event::AppExited(_)
        | Event::OrphansReaped
        | Event::NobodyLeft(_)
        | Event::Deadline
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => (State::Restoring, vec![]),
    }
}

fn abandoning(ending: Ending, until: Instant, event: Event) -> Step {
    match event {
        Event::Stop(signal) | Event::Other(signal) => (State::Abandoning { ending, until }, vec![Action::Note(signal)]),
        // Restored in the last moment, or failed for another reason: the app is not started either way.
        Event::Abandoned | Event::Restored(_) | Event::RestoreFailed(_) | Event::EngineLost | Event::Deadline => {
            done(ending)
        }
        Event::AppExited(_)
        | Event::OrphansReaped
        | Event::NobodyLeft(_)
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. }
        | Event::Fenced => (State::Abandoning { ending, until }, vec![]),
    }
}

fn starting(rules: &Rules, stop: Option<Signal>, lives: Lives, event: Event, now: Instant) -> Step {
    match event {
        Event::Spawned => match stop {
            Some(signal) => begin_stop(rules, Cause::Signal(signal), now),
            None => (State::Running(lives.started(now)), vec![]),
        },
        Event::NotSpawned(reason) => app_gone(rules, Ending::NotStarted(reason), own_end(rules, now), true, now),
        Event::Stop(signal) => (State::Starting { stop: stop.or(Some(signal)), lives }, vec![]),
        Event::Other(signal) => (State::Starting { stop, lives }, vec![Action::Note(signal)]),
        Event::AppExited(_)
        | Event::OrphansReaped
        | Event::NobodyLeft(_)
        | Event::Deadline
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Flushed
        | Event::Finished { .. }
        | Event::Fenced
        | Event::EngineLost => (State::Starting { stop, lives }, vec![]),
    }
}

fn running(rules: &Rules, lives: Lives, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => begin_stop(rules, Cause::Signal(signal), now),
        Event::Fenced => begin_stop(rules, Cause::Fenced, now),
        Event::Other(signal) => (State::Running(lives), pass_on(rules, signal)),
        Event::AppExited(exit) => app_ended(rules, lives, exit, now),
        Event::EngineLost => (State::Running(lives.engine_lost()), vec![]),
        Event::OrphansReaped
        | Event::NobodyLeft(_)
        | Event::Deadline
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => (State::Running(lives), vec![]),
    }
}

fn pre_sync(rules: &Rules, course: Course, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => match course.first_signal(signal) {
            Some(course) => (State::PreSync(course), vec![]),
            None => tell_app(rules, course),
        },
        Event::Other(signal) => (State::PreSync(course), pass_on(rules, signal)),
        Event::AppExited(exit) => app_gone(rules, Ending::App(exit), course, false, now),
        Event::Flushed | Event::Deadline | Event::EngineLost => tell_app(rules, course),
        Event::Fenced => (State::PreSync(Course { fenced: true, ..course }), vec![]),
        Event::OrphansReaped
        | Event::NobodyLeft(_)
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Finished { .. } => (State::PreSync(course), vec![]),
    }
}

fn stopping(rules: &Rules, course: Course, killed: bool, event: Event, now: Instant) -> Step {
    let kill = |course| (State::Stopping { course, killed: true }, vec![Action::KillApp]);
    match event {
        Event::Stop(signal) => match course.first_signal(signal) {
            Some(course) => (State::Stopping { course, killed }, vec![]),
            None => kill(course),
        },
        Event::Other(signal) => (State::Stopping { course, killed }, pass_on(rules, signal)),
        Event::AppExited(exit) => app_gone(rules, Ending::App(exit), course, true, now),
        Event::Deadline if now >= course.budget.give_up_at => {
            let (state, mut flush) = flush_unproven(Ending::Unkillable, course);
            flush.insert(0, Action::KillApp);
            (state, flush)
        }
        Event::Deadline if killed => (State::Stopping { course, killed }, vec![]),
        Event::Deadline => kill(course),
        Event::Fenced => (State::Stopping { course: Course { fenced: true, ..course }, killed }, vec![]),
        Event::OrphansReaped
        | Event::NobodyLeft(_)
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. }
        | Event::EngineLost => (State::Stopping { course, killed }, vec![]),
    }
}

fn begin_stop(rules: &Rules, cause: Cause, now: Instant) -> Step {
    let course = course(rules, cause, now);
    (State::PreSync(course), vec![Action::Flush { by: Deadline::at(course.budget.pre_sync_by) }])
}

fn pass_on(rules: &Rules, received: Signal) -> Vec<Action> {
    vec![rules.heard(received).map_or(Action::Note(received), Action::Forward)]
}

fn tell_app(rules: &Rules, course: Course) -> Step {
    let signal = match course.cause {
        Cause::Signal(received) => rules.told(received),
        Cause::Fenced | Cause::OwnEnd => rules.told_by_us(),
    };
    (State::Stopping { course, killed: false }, vec![Action::StopApp(signal)])
}

impl Course {
    /// The course after a stop signal when it is the first one; None when it is a further one, which shortens the
    /// app's time.
    fn first_signal(self, signal: Signal) -> Option<Course> {
        match self.cause {
            Cause::Fenced => Some(Course { cause: Cause::Signal(signal), ..self }),
            Cause::Signal(_) | Cause::OwnEnd => None,
        }
    }
}

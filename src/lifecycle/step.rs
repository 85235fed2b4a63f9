//! The cells of the table, one function per state. Pure.

use super::budget::{ABANDON, Budget, LOOK};
use super::{Action, Cause, Course, Event, Outcome, Rules, State, Treatment};
use crate::model::proof::Quiet;
use crate::model::{AppExit, Deadline, Ending, NotStarted, Signal};
use std::time::Instant;

type Step = (State, Vec<Action>);

/// One event. `now` is read once by the caller, after the event.
pub fn step(rules: &Rules, state: State, event: Event, now: Instant) -> Step {
    match state {
        State::Restoring => restoring(rules, event, now),
        State::Abandoning { ending, until } => abandoning(ending, until, event),
        State::Starting { stop } => starting(rules, stop, event, now),
        State::Running => running(rules, event, now),
        State::PreSync(course) => pre_sync(rules, course, event, now),
        State::Stopping { course, killed } => stopping(rules, course, killed, event, now),
        State::Clearing { ending, course, kill_at, killed, look_at } => {
            clearing(rules, Clearing { ending, course, kill_at, killed, look_at }, event, now)
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
        State::Restoring | State::Starting { .. } | State::Running | State::Done(_) => None,
        State::Abandoning { until, .. } | State::Flushing { until, .. } => Some(*until),
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
        Event::Restored(proof) => (State::Starting { stop: None }, vec![Action::Start(proof)]),
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

fn starting(rules: &Rules, stop: Option<Signal>, event: Event, now: Instant) -> Step {
    match event {
        Event::Spawned => match stop {
            Some(signal) => begin_stop(rules, Cause::Signal(signal), now),
            None => (State::Running, vec![]),
        },
        Event::NotSpawned(reason) => app_gone(rules, Ending::NotStarted(reason), own_end(rules, now), true, now),
        Event::Stop(signal) => (State::Starting { stop: stop.or(Some(signal)) }, vec![]),
        Event::Other(signal) => (State::Starting { stop }, vec![Action::Note(signal)]),
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
        | Event::EngineLost => (State::Starting { stop }, vec![]),
    }
}

fn running(rules: &Rules, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => begin_stop(rules, Cause::Signal(signal), now),
        Event::Fenced => begin_stop(rules, Cause::Fenced, now),
        Event::Other(signal) => (State::Running, vec![Action::Forward(signal)]),
        Event::AppExited(exit) => app_gone(rules, Ending::App(exit), own_end(rules, now), false, now),
        Event::OrphansReaped
        | Event::NobodyLeft(_)
        | Event::Deadline
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. }
        | Event::EngineLost => (State::Running, vec![]),
    }
}

fn pre_sync(rules: &Rules, course: Course, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(signal) => match course.first_signal(signal) {
            Some(course) => (State::PreSync(course), vec![]),
            None => tell_app(rules, course),
        },
        Event::Other(signal) => (State::PreSync(course), vec![Action::Forward(signal)]),
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
        Event::Other(signal) => (State::Stopping { course, killed }, vec![Action::Forward(signal)]),
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

struct Clearing {
    ending: Ending,
    course: Course,
    kill_at: Instant,
    killed: bool,
    look_at: Instant,
}

impl Clearing {
    fn state(self) -> State {
        let Clearing { ending, course, kill_at, killed, look_at } = self;
        State::Clearing { ending, course, kill_at, killed, look_at }
    }

    /// Once killing has begun every look kills: a fork bomb ends only that way.
    fn look(mut self, now: Instant) -> Step {
        self.killed |= now >= self.kill_at;
        self.look_at = now + LOOK;
        let treatment = if self.killed { Treatment::Kill } else { Treatment::Look };
        (self.state(), vec![Action::Rest(treatment)])
    }
}

fn clearing(rules: &Rules, mut clearing: Clearing, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(_) => {
            clearing.course.budget = clearing.course.budget.sooner(Budget::split(rules, now));
            clearing.kill_at = now;
            clearing.look(now)
        }
        Event::OrphansReaped => clearing.look(now),
        Event::NobodyLeft(quiet) => flush(clearing.ending, clearing.course, quiet),
        Event::Deadline if now >= clearing.course.budget.give_up_at => {
            let (state, mut flush) = flush_unproven(clearing.ending, clearing.course);
            flush.insert(0, Action::Rest(Treatment::Kill));
            (state, flush)
        }
        Event::Deadline => clearing.look(now),
        Event::Other(signal) => (clearing.state(), vec![Action::Note(signal)]),
        Event::Fenced => {
            clearing.course.fenced = true;
            (clearing.state(), vec![])
        }
        Event::AppExited(_)
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. }
        | Event::EngineLost => (clearing.state(), vec![]),
    }
}

struct Flushing {
    ending: Ending,
    fenced: bool,
    proven: bool,
    until: Instant,
}

impl Flushing {
    fn state(self) -> State {
        let Flushing { ending, fenced, proven, until } = self;
        State::Flushing { ending, fenced, proven, until }
    }

    fn done(self, complete: bool) -> Step {
        let complete = complete && self.proven;
        (State::Done(Outcome { ending: self.ending, complete, fenced: self.fenced }), vec![])
    }
}

fn flushing(rules: &Rules, mut flushing: Flushing, event: Event, now: Instant) -> Step {
    match event {
        Event::Finished { complete } => flushing.done(complete),
        Event::Deadline | Event::EngineLost => flushing.done(false),
        // A stop never shortens a flush that a stop began: its end is the earlier one already.
        Event::Stop(signal) => {
            flushing.until = flushing.until.min(Budget::split(rules, now).end_at);
            (flushing.state(), vec![Action::Note(signal)])
        }
        Event::Other(signal) => (flushing.state(), vec![Action::Note(signal)]),
        Event::Fenced => {
            flushing.fenced = true;
            (flushing.state(), vec![])
        }
        // It died after all, too late for proof; its status is still the truth about it.
        Event::AppExited(exit) => {
            flushing.ending = late_exit(flushing.ending, exit);
            (flushing.state(), vec![])
        }
        Event::OrphansReaped
        | Event::NobodyLeft(_)
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed => (flushing.state(), vec![]),
    }
}

fn begin_stop(rules: &Rules, cause: Cause, now: Instant) -> Step {
    let budget = Budget::split(rules, now);
    let course = Course { cause, fenced: cause == Cause::Fenced, budget };
    (State::PreSync(course), vec![Action::Flush { by: Deadline::at(budget.pre_sync_by) }])
}

fn own_end(rules: &Rules, now: Instant) -> Course {
    Course { cause: Cause::OwnEnd, fenced: false, budget: Budget::unhurried(rules, now) }
}

fn tell_app(rules: &Rules, course: Course) -> Step {
    let signal = match course.cause {
        Cause::Signal(received) => rules.told(received),
        Cause::Fenced | Cause::OwnEnd => rules.stop_signal,
    };
    (State::Stopping { course, killed: false }, vec![Action::StopApp(signal)])
}

fn app_gone(rules: &Rules, ending: Ending, course: Course, group_told: bool, now: Instant) -> Step {
    let kill_at = course.budget.kill_rest_at(now);
    let ask = Treatment::Ask { signal: rules.stop_signal, group_told };
    let state = State::Clearing { ending, course, kill_at, killed: false, look_at: now + LOOK };
    (state, vec![Action::Rest(ask)])
}

fn flush(ending: Ending, course: Course, quiet: Quiet) -> Step {
    let budget = course.budget;
    let state = State::Flushing { ending, fenced: course.fenced, proven: true, until: budget.end_at };
    (state, vec![Action::Finish { quiet, by: Deadline::at(budget.flush_by) }])
}

fn flush_unproven(ending: Ending, course: Course) -> Step {
    let budget = course.budget;
    let state = State::Flushing { ending, fenced: course.fenced, proven: false, until: budget.end_at };
    (state, vec![Action::FinishUnproven { by: Deadline::at(budget.flush_by) }])
}

/// The end of a run that wrote nothing: there is nothing to flush.
fn done(ending: Ending) -> Step {
    let fenced = ending == Ending::NotStarted(NotStarted::Taken);
    (State::Done(Outcome { ending, complete: true, fenced }), vec![])
}

fn late_exit(ending: Ending, exit: AppExit) -> Ending {
    match ending {
        Ending::Unkillable => Ending::App(exit),
        Ending::App(_) | Ending::NotStarted(_) | Ending::Stopped(_) => ending,
    }
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

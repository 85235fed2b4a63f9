//! The cells of the table from the app's end on: who is left is ended, then the app is started again or everything is
//! flushed. Pure.

use super::backoff::{Lives, Verdict};
use super::budget::{Budget, LOOK};
use super::step::Step;
use super::{Action, Cause, Course, Event, Outcome, Rules, State, Then, Treatment};
use crate::model::proof::Quiet;
use crate::model::{AppExit, Deadline, Ending, NotStarted};
use std::time::Instant;

pub(super) struct Clearing {
    pub(super) ending: Ending,
    pub(super) course: Course,
    pub(super) kill_at: Instant,
    pub(super) killed: bool,
    pub(super) look_at: Instant,
    pub(super) then: Then,
}

impl Clearing {
    fn state(self) -> State {
        let Clearing { ending, course, kill_at, killed, look_at, then } = self;
        State::Clearing { ending, course, kill_at, killed, look_at, then }
    }

    /// Once killing has begun every look kills: a fork bomb ends only that way.
    fn look(mut self, now: Instant) -> Step {
        self.killed |= now >= self.kill_at;
        self.look_at = now + LOOK;
        let treatment = if self.killed { Treatment::Kill } else { Treatment::Look };
        (self.state(), vec![Action::Rest(treatment)])
    }
}

pub(super) fn clearing(rules: &Rules, mut clearing: Clearing, event: Event, now: Instant) -> Step {
    match event {
        Event::Stop(_) => {
            clearing.course.budget = clearing.course.budget.sooner(Budget::split(rules, now));
            clearing.kill_at = now;
            clearing.then = Then::End;
            clearing.look(now)
        }
        Event::OrphansReaped => clearing.look(now),
        Event::NobodyLeft(quiet) => match clearing.then {
            Then::End => flush(clearing.ending, clearing.course, quiet),
            Then::Again(exit, again) => {
                let (lives, after) = (again.lives, again.after);
                let later = Action::RestartLater { after, restart: lives.restarts(), limit: rules.restart.limit };
                (State::Backoff { exit, quiet, lives, until: now + after }, vec![later])
            }
        },
        Event::Deadline if now >= clearing.course.budget.give_up_at => {
            let (state, mut flush) = flush_unproven(clearing.ending, clearing.course);
            flush.insert(0, Action::Rest(Treatment::Kill));
            (state, flush)
        }
        Event::Deadline => clearing.look(now),
        Event::Other(signal) => (clearing.state(), vec![Action::Note(signal)]),
        Event::Fenced => {
            clearing.course.fenced = true;
            clearing.then = Then::End;
            (clearing.state(), vec![])
        }
        Event::EngineLost => {
            clearing.then = Then::End;
            (clearing.state(), vec![])
        }
        Event::AppExited(_)
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => (clearing.state(), vec![]),
    }
}

pub(super) struct Backoff {
    pub(super) exit: AppExit,
    pub(super) quiet: Quiet,
    pub(super) lives: Lives,
    pub(super) until: Instant,
}

/// Whatever ends the waiting looks for others once more: somebody may have entered the namespace meanwhile.
pub(super) fn backoff(rules: &Rules, backoff: Backoff, event: Event, now: Instant) -> Step {
    let end = |course| app_gone(rules, Ending::App(backoff.exit), course, false, now);
    let same = |Backoff { exit, quiet, lives, until }: Backoff| State::Backoff { exit, quiet, lives, until };
    match event {
        Event::Deadline => (State::Starting { stop: None, lives: backoff.lives }, vec![Action::Restart(backoff.quiet)]),
        Event::Stop(signal) => end(course(rules, Cause::Signal(signal), now)),
        Event::Fenced => end(course(rules, Cause::Fenced, now)),
        Event::EngineLost => end(own_end(rules, now)),
        Event::Other(signal) => (same(backoff), vec![Action::Note(signal)]),
        Event::AppExited(_)
        | Event::OrphansReaped
        | Event::NobodyLeft(_)
        | Event::Restored(_)
        | Event::RestoreFailed(_)
        | Event::Abandoned
        | Event::Spawned
        | Event::NotSpawned(_)
        | Event::Flushed
        | Event::Finished { .. } => (same(backoff), vec![]),
    }
}

pub(super) struct Flushing {
    pub(super) ending: Ending,
    pub(super) fenced: bool,
    pub(super) proven: bool,
    pub(super) until: Instant,
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

pub(super) fn flushing(rules: &Rules, mut flushing: Flushing, event: Event, now: Instant) -> Step {
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

pub(super) fn course(rules: &Rules, cause: Cause, now: Instant) -> Course {
    Course { cause, fenced: cause == Cause::Fenced, budget: Budget::split(rules, now) }
}

pub(super) fn own_end(rules: &Rules, now: Instant) -> Course {
    Course { cause: Cause::OwnEnd, fenced: false, budget: Budget::unhurried(rules, now) }
}

/// By itself, while nobody asked for it.
pub(super) fn app_ended(rules: &Rules, lives: Lives, exit: AppExit, now: Instant) -> Step {
    let (then, told) = match lives.verdict(&rules.restart, &rules.success, exit, now) {
        Verdict::Again(again) => (Then::Again(exit, again), None),
        Verdict::LimitReached(limit) => (Then::End, Some(Action::NoMoreRestarts { limit })),
        Verdict::End => (Then::End, None),
    };
    let (state, mut actions) = clear(rules, Ending::App(exit), own_end(rules, now), (false, then), now);
    actions.extend(told);
    (state, actions)
}

pub(super) fn app_gone(rules: &Rules, ending: Ending, course: Course, group_told: bool, now: Instant) -> Step {
    clear(rules, ending, course, (group_told, Then::End), now)
}

fn clear(rules: &Rules, ending: Ending, course: Course, (group_told, then): (bool, Then), now: Instant) -> Step {
    let kill_at = course.budget.kill_rest_at(now);
    let ask = Treatment::Ask { signal: rules.told_by_us(), group_told };
    let state = State::Clearing { ending, course, kill_at, killed: false, look_at: now + LOOK, then };
    (state, vec![Action::Rest(ask)])
}

fn flush(ending: Ending, course: Course, quiet: Quiet) -> Step {
    let budget = course.budget;
    let state = State::Flushing { ending, fenced: course.fenced, proven: true, until: budget.end_at };
    (state, vec![Action::Finish { quiet, by: Deadline::at(budget.flush_by) }])
}

pub(super) fn flush_unproven(ending: Ending, course: Course) -> Step {
    let budget = course.budget;
    let state = State::Flushing { ending, fenced: course.fenced, proven: false, until: budget.end_at };
    (state, vec![Action::FinishUnproven { by: Deadline::at(budget.flush_by) }])
}

/// The end of a run that wrote nothing: there is nothing to flush.
pub(super) fn done(ending: Ending) -> Step {
    let fenced = ending == Ending::NotStarted(NotStarted::Taken);
    (State::Done(Outcome { ending, complete: true, fenced }), vec![])
}

fn late_exit(ending: Ending, exit: AppExit) -> Ending {
    match ending {
        Ending::Unkillable => Ending::App(exit),
        Ending::App(_) | Ending::NotStarted(_) | Ending::Stopped(_) | Ending::NoApp => ending,
    }
}

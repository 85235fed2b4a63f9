//! Every cell of the table, and what no sequence of events may bring about.

mod hand_over;
mod names;
mod reinstall;
mod restarts;
mod setup;
mod thaw;

use super::budget::{Budget, CHECK_INTERVAL, REST_GRACE};
use super::restart::RestartHistory;
use super::state::{StopCause, StopPlan};
use super::*;
use crate::model::proof::{AppTreeExited, Quiet, Restored};
use crate::model::{
    AppExit, Ending, NotStarted, ReleaseReason, Restart, RestartSettings, Signal, SignalMap, SuccessCodes,
};
use names::{EVENTS, action, event, state};
use proptest::prelude::*;
use std::time::{Duration, Instant};

pub(super) const RULES: Rules = Rules {
    grace: Duration::from_millis(10_000),
    app_timeout: Duration::from_millis(7_000),
    pre_sync_timeout: Duration::from_millis(2_000),
    stop_signal: Signal::TERM,
    signals: SignalMap(Vec::new()),
    restart: RestartSettings::DEFAULT,
    success: SuccessCodes(Vec::new()),
    trial: Duration::from_secs(60),
    notices_ready: true,
    setup: 2,
};
const EXIT: AppExit = AppExit::Code(7);
const HUP: Signal = Signal(1);
const QUIT: Signal = Signal(3);

fn always() -> Rules {
    Rules { restart: RestartSettings { when: Restart::Always, ..RestartSettings::DEFAULT }, ..RULES }
}

fn stop_plan(cause: StopCause, now: Instant) -> StopPlan {
    StopPlan {
        cause,
        fenced: cause == StopCause::Fenced,
        release: ReleaseReason::Stopped,
        budget: Budget::split(&RULES, now),
    }
}

/// state, event → state, actions. What is not listed changes nothing and does nothing.
const TABLE: [(&str, &str, &str, &str); 73] = [
    ("restore", "stop", "abandon", "abandon"),
    ("restore", "other", "restore", "note"),
    ("restore", "restored", "start", "start"),
    ("restore", "failed", "done", ""),
    ("restore", "abandoned", "done", ""),
    ("restore", "fenced", "abandon", "abandon"),
    ("restore", "lost", "done", ""),
    ("abandon", "stop", "abandon", "note"),
    ("abandon", "other", "abandon", "note"),
    ("abandon", "deadline", "done", ""),
    ("abandon", "restored", "done", ""),
    ("abandon", "failed", "done", ""),
    ("abandon", "abandoned", "done", ""),
    ("abandon", "lost", "done", ""),
    ("start", "other", "start", "note"),
    ("start", "spawned", "run", ""),
    ("start", "not-spawned", "clear", "ask-others"),
    ("run", "stop", "pre-sync", "flush"),
    ("run", "other", "run", "forward"),
    ("run", "exited", "clear", "ask-all"),
    ("run", "fenced", "pre-sync", "flush"),
    ("pre-sync", "stop", "stop", "TERM"),
    ("pre-sync", "other", "pre-sync", "forward"),
    ("pre-sync", "exited", "clear", "ask-all"),
    ("pre-sync", "deadline", "stop", "TERM"),
    ("pre-sync", "flushed", "stop", "TERM"),
    ("pre-sync", "lost", "stop", "TERM"),
    ("stop", "stop", "stop", "kill"),
    ("stop", "other", "stop", "forward"),
    ("stop", "exited", "clear", "ask-others"),
    ("stop", "deadline", "stop", "kill"),
    ("clear", "stop", "clear", "kill-rest"),
    ("clear", "other", "clear", "note"),
    ("clear", "orphans", "clear", "look"),
    ("clear", "nobody", "flush", "finish"),
    ("clear", "life-over", "clear", "look"),
    ("clear", "deadline", "clear", "look"),
    ("flush", "stop", "flush", "note"),
    ("flush", "other", "flush", "note"),
    ("flush", "deadline", "done", ""),
    ("flush", "finished", "done", ""),
    ("flush", "unfinished", "done", ""),
    ("flush", "lost", "done", ""),
    // The app is to be started again once no process is left.
    ("clear-again", "stop", "clear", "kill-rest"),
    ("clear-again", "other", "clear", "note"),
    ("clear-again", "orphans", "clear", "look-life"),
    ("clear-again", "nobody", "back-off", "later"),
    ("clear-again", "life-over", "back-off", "later"),
    ("clear-again", "deadline", "clear", "look-life"),
    ("clear-again", "fenced", "clear", ""),
    ("clear-again", "lost", "clear", ""),
    ("clear-again", "exited", "clear", ""),
    ("back-off", "stop", "clear", "ask-all"),
    ("back-off", "other", "back-off", "note"),
    ("back-off", "deadline", "start", "restart"),
    ("back-off", "fenced", "clear", "ask-all"),
    ("back-off", "lost", "clear", "ask-all"),
    ("back-off", "exited", "back-off", ""),
    // Cells that change data, not the name of the state; looked at more closely below.
    ("start", "stop", "start", ""),
    ("pre-sync", "fenced", "pre-sync", ""),
    ("stop", "fenced", "stop", ""),
    ("clear", "fenced", "clear", ""),
    ("flush", "fenced", "flush", ""),
    ("flush", "exited", "flush", ""),
    // The engine answers late, or is lost while the app needs nothing of it: the app goes on.
    ("run", "lost", "run", ""),
    ("run", "flushed", "run", ""),
    ("run", "deadline", "run", ""),
    ("stop", "flushed", "stop", ""),
    ("stop", "lost", "stop", ""),
    ("clear", "lost", "clear", ""),
    ("clear", "flushed", "clear", ""),
    ("done", "stop", "done", ""),
    ("done", "finished", "done", ""),
];

#[test]
fn every_cell() {
    let now = Instant::now();
    let states = [
        "restore",
        "abandon",
        "start",
        "run",
        "pre-sync",
        "stop",
        "clear",
        "clear-again",
        "back-off",
        "flush",
        "done",
        "clear-restore",
        "reinstall",
        "reinstall-stopped",
        "wait",
        "standby",
        "catch-up",
        "trial",
        "flush-hand-over",
        "retired",
        "setup",
        "setup-keeping",
    ];
    for name in states {
        for happened in EVENTS {
            let listed = TABLE
                .iter()
                .chain(&reinstall::TABLE)
                .chain(&hand_over::TABLE)
                .chain(&setup::TABLE)
                .find(|row| row.0 == name && row.1 == happened);
            let same = match name {
                "clear-again" | "clear-restore" => "clear",
                "reinstall-stopped" => "reinstall",
                "trial" => "run",
                "flush-hand-over" => "flush",
                "setup-keeping" => "setup",
                name => name,
            };
            let (to, actions) = listed.map_or((same, ""), |row| (row.2, row.3));
            let (next, done) = step(&RULES, state(name, now), event(happened), now);
            let done: Vec<_> = done.iter().map(action).collect();
            assert_eq!((next.name(), done.join(" ").as_str()), (to, actions), "{name} + {happened}");
        }
    }
    for row in TABLE.into_iter().chain(reinstall::TABLE).chain(hand_over::TABLE).chain(setup::TABLE) {
        assert!(states.contains(&row.0) && EVENTS.contains(&row.1), "{row:?} is never tried");
    }
}

/// Drives a run; deadlines come when they are due.
struct Run {
    rules: Rules,
    state: Option<State>,
    now: Instant,
    done: Vec<&'static str>,
}

impl Run {
    fn new() -> Run {
        Run::with(RULES)
    }

    fn with(rules: Rules) -> Run {
        Run { rules, state: Some(State::Restoring), now: Instant::now(), done: vec![] }
    }

    fn event(&mut self, event: Event) -> &mut Run {
        let (next, actions) = step(&self.rules, self.state.take().unwrap(), event, self.now);
        self.done.extend(actions.iter().map(action));
        self.state = Some(next);
        self
    }

    fn tell(&mut self, names: &[&str]) -> &mut Run {
        for name in names {
            self.event(event(name));
        }
        self
    }

    /// Lets time pass until the next deadline. False when there is none.
    fn sleep(&mut self) -> bool {
        match self.state.as_ref().unwrap().deadline() {
            Some(at) => {
                self.now = self.now.max(at);
                self.event(Event::Deadline);
                true
            }
            None => false,
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        match self.state {
            Some(State::Done(outcome)) => Some(outcome),
            _ => None,
        }
    }
}

fn done(ending: Ending, complete: bool, fenced: bool) -> Option<Outcome> {
    Some(Outcome { ending, complete, fenced })
}

#[test]
fn the_usual_stop() {
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "other", "stop", "flushed", "exited", "nobody", "finished"]);
    assert_eq!(run.outcome(), done(Ending::App(EXIT), true, false));
    assert_eq!(run.done, ["start", "forward", "flush", "TERM", "ask-others", "finish"]);
}

#[test]
fn an_app_that_ignores_everything_is_killed_in_its_time() {
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "stop", "flushed"]);
    let start = run.now;
    run.sleep();
    assert_eq!(run.now - start, RULES.app_timeout);
    assert_eq!(run.done.last(), Some(&"kill"));
    run.sleep();
    assert_eq!(run.done.last(), Some(&"finish-unproven"), "it does not die: the flush still gets its time");
    run.sleep();
    assert_eq!(run.outcome(), done(Ending::Unkillable, false, false));
    assert!(run.now - start <= RULES.grace);
}

#[test]
fn a_second_stop_shortens_the_apps_time_and_never_the_flush() {
    let flush_end = |stops: usize| {
        let mut run = Run::new();
        run.tell(&["restored", "spawned"]);
        run.tell(&vec!["stop"; stops]);
        run.tell(&["flushed", "exited", "nobody"]);
        run.tell(&vec!["stop"; stops]);
        run.state.as_ref().unwrap().deadline().unwrap() - run.now
    };
    assert_eq!(flush_end(1), flush_end(2));
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "stop", "stop", "stop"]);
    assert_eq!(run.done, ["start", "flush", "TERM", "kill"]);
}

#[test]
fn the_rest_is_asked_then_killed_until_nobody_is_left() {
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "exited"]);
    let start = run.now;
    while run.done.last() != Some(&"kill-rest") {
        assert!(run.sleep());
    }
    assert!(run.now - start >= REST_GRACE && run.now - start < REST_GRACE + CHECK_INTERVAL);
    run.tell(&["orphans"]);
    assert_eq!(run.done.last(), Some(&"kill-rest"), "once killing has begun every look kills");
    run.tell(&["nobody", "unfinished"]);
    assert_eq!(run.outcome(), done(Ending::App(EXIT), false, false));
}

#[test]
fn a_stop_while_the_flush_is_unhurried_sets_its_end() {
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "exited", "nobody"]);
    let before = run.state.as_ref().unwrap().deadline().unwrap();
    assert!(before - run.now >= Duration::from_secs(60));
    run.tell(&["stop"]);
    let after = run.state.as_ref().unwrap().deadline().unwrap();
    assert!(after - run.now <= RULES.grace);
}

#[test]
fn fenced_stops_the_app_and_is_remembered() {
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "fenced", "stop", "flushed", "stop", "exited", "nobody", "unfinished"]);
    assert_eq!(run.outcome(), done(Ending::App(EXIT), false, true));
    assert_eq!(
        run.done,
        ["start", "flush", "TERM", "kill", "ask-others", "finish"],
        "the first signal is not a second"
    );
    for late in [vec!["stop", "fenced"], vec!["stop", "flushed", "fenced"], vec!["exited", "fenced"]] {
        let mut run = Run::new();
        run.tell(&["restored", "spawned"]).tell(&late).tell(&["flushed", "exited", "nobody", "finished"]);
        assert!(run.outcome().is_some_and(|outcome| outcome.fenced), "{late:?}");
    }
    let mut run = Run::new();
    run.tell(&["fenced", "abandoned"]);
    assert_eq!(run.outcome(), done(Ending::NotStarted(NotStarted::Taken), true, true));
}

#[test]
fn a_stop_between_restore_and_start_is_kept() {
    let mut run = Run::new();
    run.tell(&["restored", "stop", "spawned"]);
    assert!(matches!(run.state, Some(State::PreSync(_))));
    let mut run = Run::new();
    run.tell(&["restored", "not-spawned", "nobody", "finished"]);
    assert_eq!(run.outcome(), done(Ending::NotStarted(NotStarted::NotFound), true, false));
}

#[test]
fn what_the_app_is_told() {
    let map = |pairs: &[(Signal, Option<Signal>)]| SignalMap(pairs.to_vec());
    let (term, int, usr1, usr2) = (Signal::TERM, Signal::INT, Signal(10), Signal(12));
    for (stop_signal, signals, received, told) in [
        (term, map(&[]), term, term),
        (term, map(&[]), int, int),
        (QUIT, map(&[]), term, QUIT),
        (QUIT, map(&[]), int, QUIT),
        (QUIT, map(&[]), QUIT, QUIT),
        (term, map(&[(term, Some(QUIT))]), term, QUIT),
        (term, map(&[(term, Some(QUIT))]), int, int),
        (QUIT, map(&[(int, Some(usr1))]), int, usr1),
        (QUIT, map(&[(int, Some(usr1))]), term, QUIT),
    ] {
        let rules = Rules { stop_signal, signals, ..RULES };
        assert_eq!(rules.stop_signal_for(received), told, "{received} with {rules:?}");
    }
    let rules = Rules { signals: map(&[(HUP, None), (usr1, Some(usr2)), (term, Some(QUIT))]), ..RULES };
    assert_eq!([HUP, usr1, usr2].map(|signal| rules.forwarded(signal)), [None, Some(usr2), Some(usr2)]);
    assert_eq!(rules.own_stop_signal(), QUIT);
    let mut run = Run::with(rules);
    run.tell(&["restored", "spawned", "other", "stop", "other", "flushed", "other"]);
    assert_eq!(run.done, ["start", "note", "flush", "note", "stop-app", "note"]);
}

proptest! {
    /// Any events at any times. The app's life is what the actions and events say of it.
    #[test]
    fn whatever_happens(script in prop::collection::vec((0..EVENTS.len(), 0u64..3_000), 0..40), again: bool) {
        let mut run = if again { Run::with(always()) } else { Run::new() };
        let (mut asked_to_stop, mut alive, mut quiet, mut started) = (None, false, true, 0);
        let mut asked = false;
        for (index, pause) in script {
            run.now += Duration::from_millis(pause);
            let name = EVENTS[index];
            // An app that does not run cannot exit, and one that runs is left; `supervise` never says
            // otherwise.
            let gone = ["nobody", "life-over"].contains(&name);
            if (name == "exited" && !alive) || (gone && alive) {
                continue;
            }
            asked |= name == "asked";
            let before = run.done.len();
            run.tell(&[name]);
            alive &= name != "exited" && name != "not-spawned";
            quiet |= gone;
            for action in &run.done[before..] {
                let starts = matches!(*action, "start" | "restart");
                prop_assert!(!starts || asked_to_stop.is_none(), "started after a stop signal");
                prop_assert!(!starts || (quiet && !alive), "started while a process of the last life is \
                    there");
                prop_assert!(*action != "set-up" || (asked_to_stop.is_none() && !alive), "a command of the \
                    setup");
                alive |= starts || *action == "set-up";
                quiet &= !starts;
                started += usize::from(starts);
                prop_assert!(!action.starts_with("finish") || *action == "finish-unproven" || !alive, "the \
                    last flush while the app may write");
            }
            if name == "stop" && asked_to_stop.is_none() {
                asked_to_stop = Some(run.now);
            }
        }
        prop_assert!(started <= 1 || again || asked || run.done.contains(&"resume"));
        // From wherever that led: one stop signal, a spawn that answers, and time.
        run.tell(&["spawned", "stop"]);
        let mut steps = 0;
        while run.sleep() {
            steps += 1;
            prop_assert!(steps < 1_000, "{:?}", run.state);
        }
        prop_assert!(run.outcome().is_some(), "{:?}", run.state);
    }

    /// From the first stop signal to the end within the grace, whatever answers or does not.
    #[test]
    fn a_stop_ends_within_the_grace(script in prop::collection::vec((0..EVENTS.len(), 0u64..3_000), 0..40)) {
        let mut run = Run::new();
        run.tell(&["restored", "spawned", "stop"]);
        let start = run.now;
        for (index, pause) in script {
            let until = run.now + Duration::from_millis(pause);
            while run.state.as_ref().unwrap().deadline().is_some_and(|at| at <= until) && run.sleep() {}
            if run.outcome().is_none() {
                run.now = run.now.max(until);
                run.tell(&[EVENTS[index]]);
            }
        }
        while run.outcome().is_none() && run.sleep() {}
        prop_assert!(run.outcome().is_some());
        prop_assert!(run.now - start <= RULES.grace);
    }
}

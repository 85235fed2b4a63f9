//! The cells of a life without an app, and what no sequence of events may bring about.

use super::*;
use crate::lifecycle::tests::RULES;
use proptest::prelude::*;

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

const QUIET: Flushed = Flushed { complete: true, stuck: false, bytes: 7, in_use: false };

fn go(task: Task, state: State, event: Event, now: Instant) -> (State, Vec<Action>) {
    step(&RULES, task, state, event, now)
}

fn drained(now: Instant) -> State {
    go(Task::Follow, State::Replicating, Event::Stop(Signal::TERM), now).0
}

/// `Flush` and `Finish` with their time, in milliseconds from `start`.
fn asked(actions: &[Action], start: Instant) -> Vec<(&'static str, u128)> {
    let at = |by: &Deadline| by.instant().duration_since(start).as_millis();
    let one = |action: &Action| match action {
        Action::Flush { by } => Some(("flush", at(by))),
        Action::Finish { by } => Some(("finish", at(by))),
        Action::Abandon | Action::Replicate(_) | Action::Log(_) => None,
    };
    actions.iter().filter_map(one).collect()
}

fn outcome(state: &State) -> Outcome {
    match state {
        State::Done(outcome) => *outcome,
        other => panic!("not done: {other:?}"),
    }
}

#[test]
fn the_start() {
    let now = Instant::now();
    for (event, ending) in [
        (Event::NotPrepared(NotStarted::Damaged), Ending::NotStarted(NotStarted::Damaged)),
        (Event::EngineLost, Ending::NotStarted(NotStarted::Internal)),
    ] {
        assert_eq!(outcome(&go(Task::Follow, State::Preparing, event, now).0).ending, ending);
    }
    let (state, actions) = go(Task::Follow, State::Preparing, Event::Stop(Signal::INT), now);
    assert!(matches!(actions.as_slice(), [Action::Abandon]));
    let (state, _) = go(Task::Follow, state, Event::Abandoned, now);
    assert_eq!(outcome(&state).ending, Ending::Stopped(Signal::INT));
    for (task, name, flushes) in [(Task::Follow, "replicate", 0), (Task::Once, "upload", 1)] {
        let (state, actions) = go(task, State::Preparing, Event::Prepared(Restored::attest()), now);
        assert_eq!((state.name(), asked(&actions, now).len()), (name, flushes));
    }
}

#[test]
fn a_stop_flushes_at_once_and_ends_after_a_calm_second() {
    let now = Instant::now();
    let (mut state, actions) = go(Task::Follow, State::Replicating, Event::Stop(Signal::TERM), now);
    assert_eq!(asked(&actions, now), [("flush", 7_000)]);
    for (at, ends) in [(300, false), (900, false), (1_000, true)] {
        let (next, actions) = go(Task::Follow, state, Event::Flushed(QUIET), now + ms(at));
        assert_eq!(asked(&actions, now), if ends { vec![("finish", 9_500)] } else { vec![] }, "{at}");
        state = next;
        if !ends {
            let (next, actions) = go(Task::Follow, state, Event::Deadline, now + ms(at) + CHECK_INTERVAL);
            assert_eq!(asked(&actions, now), [("flush", 7_000)], "it looks again");
            state = next;
        }
    }
    let (state, _) = go(Task::Follow, state, Event::Finished { complete: true }, now + ms(1_100));
    assert_eq!(outcome(&state), Outcome { ending: Ending::NoApp, complete: true, fenced: false });
}

#[test]
fn what_keeps_it_waiting() {
    let now = Instant::now();
    for (what, flushed) in [
        ("a process has it open", Flushed { in_use: true, ..QUIET }),
        ("something was committed", Flushed { bytes: 8, ..QUIET }),
        ("not everything is uploaded", Flushed { complete: false, ..QUIET }),
    ] {
        let (state, _) = go(Task::Follow, drained(now), Event::Flushed(QUIET), now + ms(10));
        let (state, actions) = go(Task::Follow, state, Event::Flushed(flushed), now + ms(5_000));
        assert_eq!(asked(&actions, now), [], "{what}");
        let (_, actions) = go(Task::Follow, state, Event::Deadline, now + ms(7_000));
        assert_eq!(asked(&actions, now), [("finish", 9_500)], "{what}: not for ever");
        let said = actions.iter().any(|action| matches!(action, Action::Log(Notice::StillInUse)));
        assert_eq!(said, flushed.in_use, "{what}");
    }
}

#[test]
fn a_second_signal_ends_the_waiting_not_the_flush() {
    let now = Instant::now();
    let (state, actions) = go(Task::Follow, drained(now), Event::Stop(Signal::TERM), now + ms(100));
    assert_eq!(asked(&actions, now), [("finish", 9_500)]);
    let (state, actions) = go(Task::Follow, state, Event::Stop(Signal::TERM), now + ms(200));
    assert_eq!((state.name(), asked(&actions, now).len()), ("flush", 0));
    assert_eq!(state.deadline(), Some(now + ms(9_750)));
}

#[test]
fn a_lost_replica_or_engine() {
    let now = Instant::now();
    for state in [State::Replicating, State::Uploading, drained(now)] {
        let name = state.name();
        let (state, actions) = go(Task::Follow, state, Event::Fenced, now);
        assert_eq!(asked(&actions, now), [("finish", 9_500)], "{name}: the other databases");
        let (state, _) = go(Task::Follow, state, Event::Finished { complete: false }, now);
        assert!(outcome(&state).fenced, "{name}");
    }
    for state in [State::Replicating, State::Uploading, drained(now)] {
        let ending = outcome(&go(Task::Follow, state, Event::EngineLost, now).0).ending;
        assert_eq!(ending, Ending::NotStarted(NotStarted::Internal));
    }
}

#[test]
fn once_waits_for_data_and_not_for_a_store_that_is_away() {
    let now = Instant::now();
    let flushed = |complete, stuck| Event::Flushed(Flushed { complete, stuck, ..QUIET });
    for (event, expected) in [
        (flushed(true, false), ("finish", 60_000)),
        (flushed(false, false), ("flush", 60_000)),
        (flushed(false, true), ("finish", 9_500)),
        (Event::Stop(Signal::TERM), ("finish", 9_500)),
    ] {
        let name = format!("{event:?}");
        let (_, actions) = go(Task::Once, State::Uploading, event, now);
        assert_eq!(asked(&actions, now), [expected], "{name}");
    }
}

fn any_event() -> impl Strategy<Value = u8> {
    0..12_u8
}

fn made(number: u8) -> Event {
    let flushed = |complete, in_use| {
        Event::Flushed(Flushed { complete, in_use, bytes: u64::from(number), stuck: false })
    };
    match number {
        0 => Event::Stop(Signal::TERM),
        1 => Event::Other(Signal(10)),
        2 => Event::Prepared(Restored::attest()),
        3 => Event::NotPrepared(NotStarted::Unavailable),
        4 => Event::Abandoned,
        5 => flushed(true, true),
        6 => flushed(true, false),
        7 => flushed(false, false),
        8 => Event::Finished { complete: true },
        9 => Event::Fenced,
        10 => Event::EngineLost,
        _ => Event::Deadline,
    }
}

proptest! {
    /// Whatever happens in whatever order: once a stop was asked for, its end comes within the grace; status
    /// 0 needs a flush that was complete; and nothing is asked of the engine that is not by the end.
    #[test]
    fn no_order_of_events_breaks_the_promises(events in prop::collection::vec((any_event(), 0..400_u64), 1..60), once: bool) {
        let start = Instant::now();
        let task = if once { Task::Once } else { Task::Follow };
        let (mut state, mut now, mut stopped, mut finished) = (State::Preparing, start, None, false);
        for (number, wait) in events {
            // The clock never passes a deadline without the event.
            let next = now + ms(wait);
            let due = state.deadline().filter(|at| *at <= next);
            now = due.map_or(next, |at| at.max(now));
            let event = if due.is_some() { Event::Deadline } else { made(number) };
            if matches!(event, Event::Deadline) && due.is_none() {
                continue;
            }
            if matches!(event, Event::Stop(_)) && stopped.is_none() {
                stopped = Some(now);
            }
            finished |= matches!(event, Event::Finished { complete: true });
            let (next, actions) = step(&RULES, task, state, event, now);
            state = next;
            if let Some(stopped) = stopped {
                prop_assert!(now <= stopped + RULES.grace);
                if !matches!(state, State::Done(_)) {
                    let by = state.deadline();
                    prop_assert!(by.is_some_and(|by| by <= stopped + RULES.grace), "{state:?} without an \
                        end");
                }
            }
            if let State::Done(outcome) = &state {
                prop_assert!(actions.is_empty());
                if outcome.ending == Ending::NoApp && outcome.complete {
                    prop_assert!(finished);
                }
                break;
            }
        }
    }
}

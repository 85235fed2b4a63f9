//! One step of the state machine: hands the event to the function of the state. `before_exit` has the states
//! up to the app's exit, `after_exit` and `reinstall` those that follow.

use super::after_exit::{backoff, clearing, flushing};
use super::before_exit::{abandoning, pre_sync, preparing, running, starting, stopping};
use super::enter::Step;
use super::events::{Action, Event};
use super::hand_over::retired;
use super::reinstall::reinstalling;
use super::rules::Rules;
use super::setup::setting_up;
use super::state::State;
use std::time::Instant;

/// The caller reads `now` once, after the event.
pub fn step(rules: &Rules, state: State, event: Event, now: Instant) -> Step {
    match state {
        State::Restoring | State::Waiting | State::StandingBy | State::CatchingUp(_) => {
            preparing(rules, state, event, now)
        }
        State::Abandoning(state) => abandoning(state, &event),
        State::SettingUp(state) => setting_up(rules, state, event, now),
        State::Starting(state) => starting(rules, state, event, now),
        State::Running(state) => running(rules, state, event, now),
        State::PreSync(plan) => pre_sync(rules, plan, event, now),
        State::Stopping(state) => stopping(rules, state, event, now),
        State::Clearing(state) => clearing(rules, state, event, now),
        State::Backoff(state) => backoff(rules, state, event, now),
        State::Flushing(state) => flushing(rules, state, event, now),
        State::Reinstalling(state) => reinstalling(rules, state, event, now),
        State::Retired => retired(rules, event, now),
        State::Done(outcome) => {
            let refuse = matches!(event, Event::RestoreAsked).then_some(Action::RefuseRestore);
            (State::Done(outcome), refuse.into_iter().collect())
        }
    }
}

//! The life of `litevisor run`: events go to `lifecycle`, and the event loop performs the actions.
//!
//! This is the main thread: it alone handles signals, forks and waits for children. It never waits for the
//! log, the disk or the store, which the engine thread uses.

mod absent;
mod app_exit;
mod app_voice;
mod catch_up;
mod database_set;
pub mod discover;
pub mod engine;
mod event_loop;
mod event_sources;
mod flush;
pub mod follow;
mod gate;
pub mod locks;
mod manager;
mod messages;
mod notify;
mod orders;
pub mod owner_place;
pub mod owners;
mod ownership;
mod ownership_settings;
pub mod prepare;
mod proof;
mod readiness;
mod reinstall;
mod setup;
mod setup_due;
mod sidecar;
pub mod status_service;
mod summary;
mod sync;

use crate::config::Config;
use crate::exit;
use crate::lifecycle::{Rules, State, step};
use crate::model::Signal;
use crate::supervise::Claimed;
use event_loop::EventLoop;
use std::time::Instant;
use summary::Phases;

pub use sidecar::replicate;

/// From the restore to the last flush. Logs the summary and returns the exit status.
pub fn run(config: Config, claimed: Claimed) -> u8 {
    let mut event_loop = match EventLoop::open(config, claimed) {
        Ok(event_loop) => event_loop,
        Err(error) => {
            tracing::error!("{error}");
            return error.status();
        }
    };
    let rules = event_loop.rules().clone();
    let mut phases = Phases::begin(State::Restoring.name(), Instant::now());
    let mut state = State::Restoring;
    loop {
        if let State::Done(outcome) = state {
            event_loop.finish_gates(outcome.complete && !outcome.fenced);
            let status = exit::code(outcome.ending, outcome.complete, outcome.fenced, &rules.success);
            summary::log(status, &outcome, &phases, event_loop.databases());
            event_loop.finish_notifications();
            return status;
        }
        let event = event_loop.next(state.deadline());
        let now = Instant::now();
        let (next, actions) = step(&rules, state, event, now);
        for action in actions {
            event_loop.perform(action);
        }
        phases.enter(next.name(), now);
        event_loop.enter(&next);
        state = next;
    }
}

/// The settings that the lifecycle decides by. `notices_ready`: something notices when the app answers.
/// `setup`: how many commands run before the app.
fn rules(config: &Config, stop_signal: Signal, notices_ready: bool, setup: usize) -> Rules {
    let shutdown = &config.shutdown;
    let app = &config.app_rules;
    Rules {
        grace: shutdown.grace,
        app_timeout: shutdown.app_timeout,
        pre_sync_timeout: shutdown.pre_sync_timeout,
        stop_signal,
        signals: app.signals.clone(),
        restart: app.restart,
        success: app.success.clone(),
        trial: config.handover.as_ref().map(|handover| handover.trial).unwrap_or_default(),
        notices_ready,
        setup,
    }
}

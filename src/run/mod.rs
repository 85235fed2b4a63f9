//! The program: turns the world into events for `lifecycle`, and its actions into calls.
//!
//! This is the main thread, alone with signals, fork and wait. It sleeps until something happens, never in between,
//! and never waits for the log, the disk or the store: those belong to the engine's thread.

mod crew;
pub mod discover;
pub mod engine;
mod flush;
mod messages;
pub mod ops;
pub mod owners;
mod post;
pub mod prepare;
mod sidecar;
mod summary;
mod sync;
mod world;

use crate::config::Config;
use crate::lifecycle::{Rules, State, step};
use crate::model::Signal;
use crate::supervise::Claimed;
use crate::{exit, lifecycle};
use std::time::Instant;
use summary::Phases;
use world::World;

pub use sidecar::replicate;

/// From the restore to the last flush. Returns our exit status; the summary is logged.
pub fn run(config: Config, claimed: Claimed) -> u8 {
    let mut world = match World::open(config, claimed) {
        Ok(world) => world,
        Err(error) => {
            tracing::error!("{error}");
            return error.status();
        }
    };
    let rules = world.rules().clone();
    let mut phases = Phases::begin(State::Restoring.name(), Instant::now());
    let mut state = State::Restoring;
    loop {
        if let State::Done(outcome) = state {
            let status = exit::code(outcome.ending, outcome.complete, outcome.fenced, &rules.success);
            summary::log(status, &outcome, &phases, world.databases());
            return status;
        }
        let event = world.next(lifecycle::deadline(&state));
        let now = Instant::now();
        let (next, actions) = step(&rules, state, event, now);
        for action in actions {
            world.perform(action);
        }
        phases.enter(next.name(), now);
        world.board().enter(ops::phase(&next));
        state = next;
    }
}

/// What the lifecycle decides by.
fn rules(config: &Config, stop_signal: Signal) -> Rules {
    let (shutdown, app) = (&config.shutdown, &config.app_rules);
    Rules {
        grace: shutdown.grace,
        app_timeout: shutdown.app_timeout,
        pre_sync_timeout: shutdown.pre_sync_timeout,
        stop_signal,
        signals: app.signals.clone(),
        restart: app.restart,
        success: app.success.clone(),
    }
}

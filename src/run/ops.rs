//! What operators see of a run: the board and the status thread, opened before anything else and closed last. In: the
//! configuration. Out: the board, the syncs that are asked for. That it cannot be asked never keeps the program from running.

use crate::config::{Config, SocketChoice};
use crate::lifecycle::{State, sidecar};
use crate::observe::address::{Address, Key, candidates};
use crate::observe::serve::{self, Doors, Serving};
use crate::observe::sync::SyncRequests;
use crate::observe::{Board, Desk, Phase, socket};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc::unbounded_channel;

pub(super) struct Ops {
    pub(super) board: Arc<Board>,
    /// For the log: where it answers.
    pub(super) places: String,
    _serving: Option<Serving>,
}

/// The addresses of the supervisor of this configuration, in the order in which they are tried, and whose it is.
pub fn addresses(config: &Config) -> (Vec<Address>, Key) {
    let key = Key::of(first(config));
    let configured = match &config.status.socket {
        SocketChoice::Off => return (Vec::new(), key),
        SocketChoice::At(path) => Some(path.as_path()),
        SocketChoice::Default => None,
    };
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR");
    (candidates(configured, runtime_dir.as_deref(), &key), key)
}

/// What tells this configuration's supervisor from others.
pub fn first(config: &Config) -> Option<&Path> {
    let directory = || config.directories.first().map(|entry| &*entry.dir);
    config.databases.first().map(|database| database.path.as_path()).or_else(directory)
}

pub(super) fn open(config: &Config) -> (Ops, SyncRequests) {
    let (addresses, key) = addresses(config);
    let (syncs, asked) = unbounded_channel();
    let (board, listen) = (Arc::new(Board::default()), config.status.listen);
    let bound = match socket::bind(&addresses) {
        Ok(bound) => Some(bound),
        Err(errors) if errors.is_empty() => None,
        Err(errors) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            tracing::warn!("`litevisor status`, `sync` and `healthcheck` cannot ask this one: {}", errors.join("; "));
            None
        }
    };
    let at = bound.as_ref().map(|bound| bound.address.to_string()).into_iter();
    let places: Vec<String> = at.chain(listen.map(|address| address.to_string())).collect();
    let desk = Desk::new(Arc::clone(&board), syncs, key, config.status.max_lag);
    let serving = serve::start(Doors { socket: bound, listen }, desk)
        .inspect_err(|error| tracing::error!("cannot start the status thread, nobody can ask: {error}"))
        .ok();
    (Ops { board, places: places.join(", "), _serving: serving }, asked)
}

pub(super) fn phase(state: &State) -> Phase {
    match state {
        State::Restoring => Phase::Restoring,
        State::Abandoning { .. } => Phase::Abandoning,
        State::Starting { .. } => Phase::Starting,
        State::Running(_) => Phase::Running,
        State::PreSync(_) => Phase::PreSync,
        State::Stopping { .. } => Phase::Stopping,
        State::Clearing { .. } => Phase::Clearing,
        State::Backoff { .. } => Phase::Backoff,
        State::Flushing { .. } => Phase::Flushing,
        State::Done(_) => Phase::Done,
    }
}

/// The same without an app.
pub(super) fn phase_alone(state: &sidecar::State) -> Phase {
    use sidecar::State;
    match state {
        State::Preparing => Phase::Restoring,
        State::Abandoning { .. } => Phase::Abandoning,
        State::Replicating | State::Uploading => Phase::Running,
        State::Draining { .. } => Phase::Stopping,
        State::Flushing { .. } => Phase::Flushing,
        State::Done(_) => Phase::Done,
    }
}

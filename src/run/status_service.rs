//! Opens the status service of a run: the registry, the socket, the listener and the status thread. Opened
//! first, closed last. If the socket cannot be opened, the log says so and the program runs without it.

use crate::config::{Config, SocketChoice};
use crate::lifecycle::{State, sidecar};
use crate::observe::address::{Address, Key, Root, candidates};
use crate::observe::handover::HandoverRequests;
use crate::observe::restore::RestoreRequests;
use crate::observe::serve::{self, Listeners, Serving};
use crate::observe::sync::SyncRequests;
use crate::observe::{Network, Phase, Requests, StatusHandler, StatusRegistry, socket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;

pub(super) struct StatusService {
    pub(super) registry: Arc<StatusRegistry>,
    /// For the log: the socket and the TCP address.
    pub(super) addresses: String,
    /// The socket's address; empty without one.
    pub(super) socket: Arc<str>,
    _serving: Option<Serving>,
}

/// The socket addresses of the supervisor with this configuration, in the order in which they are tried, and
/// its key.
pub fn addresses(config: &Config) -> (Vec<Address>, Key) {
    let key = Key::of(first_database(config));
    let configured = match &config.status.socket {
        SocketChoice::Off => return (Vec::new(), key),
        SocketChoice::At(path) => Some(path.as_path()),
        SocketChoice::Default => None,
    };
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR");
    (candidates(configured, runtime_dir.as_deref(), &key, root()), key)
}

/// Between two syncs over the network: the longest sync interval of all databases.
fn spacing(config: &Config) -> Duration {
    let each = config.directories.iter().map(|entry| entry.each());
    let all = config.databases.iter().chain(each);
    all.map(|database| database.replicate.sync_interval).max().unwrap_or_default()
}

fn root() -> Root {
    std::fs::metadata("/").map(|meta| Root { device: meta.dev(), inode: meta.ino() }).unwrap_or_default()
}

/// The first database or directory: it identifies the supervisor of this configuration.
pub fn first_database(config: &Config) -> Option<&Path> {
    let directory = || config.directories.first().map(|entry| &*entry.dir);
    config.databases.first().map(|database| database.path.as_path()).or_else(directory)
}

/// What clients ask of the engine.
pub struct EngineRequests {
    pub syncs: SyncRequests,
    pub restores: RestoreRequests,
    pub orders: HandoverRequests,
}

pub(super) fn open(config: &Config) -> (StatusService, EngineRequests) {
    let (addresses, key) = addresses(config);
    let ((syncs, asked), (restores, to_restore)) = (unbounded_channel(), unbounded_channel());
    let (orders, ordered) = unbounded_channel();
    let requests = Requests { syncs, restores, orders };
    let registry = Arc::new(StatusRegistry::default());
    let listen = config.status.listen;
    let bound = match socket::bind(&addresses) {
        Ok(bound) => Some(bound),
        Err(errors) if errors.is_empty() => None,
        Err(errors) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            tracing::warn!(
                "no status socket: `litevisor status`, `sync`, `promote`, `handover` and `healthcheck` do \
                 not work with this process: {}",
                errors.join("; ")
            );
            None
        }
    };
    let at = bound.as_ref().map(|bound| bound.address.to_string());
    let socket = Arc::from(at.clone().unwrap_or_default());
    let addresses: Vec<String> = at.into_iter().chain(listen.map(|address| address.to_string())).collect();
    let network = Network { token: config.status.token.clone(), spacing: spacing(config) };
    let handler = StatusHandler::new(Arc::clone(&registry), requests, key, config.status.max_lag, network);
    let serving = serve::start(Listeners { socket: bound, listen }, handler)
        .inspect_err(|error| {
            tracing::error!(
                "no status thread: `litevisor status`, `sync`, `promote`, `handover` and `healthcheck` do \
                 not work with this process: {error}"
            )
        })
        .ok();
    (
        StatusService { registry, addresses: addresses.join(", "), socket, _serving: serving },
        EngineRequests { syncs: asked, restores: to_restore, orders: ordered },
    )
}

pub(super) fn phase(state: &State) -> Phase {
    match state {
        State::Restoring | State::Reinstalling(_) => Phase::Restoring,
        State::Waiting | State::StandingBy => Phase::Waiting,
        State::CatchingUp(_) => Phase::CatchingUp,
        State::Retired => Phase::Retired,
        State::Abandoning(_) => Phase::Abandoning,
        State::SettingUp(_) => Phase::SettingUp,
        State::Starting(_) => Phase::Starting,
        State::Running(_) => Phase::Running,
        State::PreSync(_) => Phase::PreSync,
        State::Stopping(_) => Phase::Stopping,
        State::Clearing(_) => Phase::Clearing,
        State::Backoff(_) => Phase::Backoff,
        State::Flushing(_) => Phase::Flushing,
        State::Done(_) => Phase::Done,
    }
}

/// The same without an app.
pub(super) fn sidecar_phase(state: &sidecar::State) -> Phase {
    use sidecar::State;
    match state {
        State::Preparing => Phase::Restoring,
        State::Abandoning(_) => Phase::Abandoning,
        State::Replicating | State::Uploading => Phase::Running,
        State::Draining(_) => Phase::Stopping,
        State::Flushing(_) => Phase::Flushing,
        State::Done(_) => Phase::Done,
    }
}

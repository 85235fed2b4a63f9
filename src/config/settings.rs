//! The settings that no other part of the program declares: signals, the stop, one database, log, status.

use crate::model::{DbPath, RestartSettings, Secret, SignalMap, SuccessCodes};
use crate::replicate::ReplicateSettings;
use crate::restore::OnRestoreFailure;
use crate::store::StoreSettings;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The part of `[app]` that decides about its signals and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRules {
    pub signals: SignalMap,
    pub success: SuccessCodes,
    pub restart: RestartSettings,
}

impl Default for AppRules {
    fn default() -> Self {
        let signals = SignalMap::default();
        let success = SuccessCodes::default();
        AppRules { signals, success, restart: RestartSettings::DEFAULT }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSettings {
    pub path: DbPath,
    /// `name`, `uid` or `uid:gid`, as written.
    pub owner: Option<String>,
    /// Permission bits of the restored file.
    pub mode: Option<u32>,
    /// Where litevisor keeps its own files; None: beside the database.
    pub meta_dir: Option<PathBuf>,
    pub on_restore_failure: OnRestoreFailure,
    pub replicate: ReplicateSettings,
    pub replica: StoreSettings,
}

/// How the time of a stop is divided: `pre_sync_timeout <= app_timeout < grace`, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// From the first stop signal to our exit.
    pub grace: Duration,
    /// From the first stop signal until the app's group is killed; the rest of the grace is for the last
    /// flush.
    pub app_timeout: Duration,
    /// The flush before the app is told to stop takes at most this long.
    pub pre_sync_timeout: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    Text,
    Json,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusSettings {
    pub socket: SocketChoice,
    /// HTTP on TCP; None: off.
    pub listen: Option<SocketAddr>,
    /// Commits may be missing from the replica for this long before `/readyz` and `healthcheck` report it;
    /// None: no limit.
    pub max_lag: Option<Duration>,
    /// What `POST /sync` over TCP must show; None: nothing.
    pub token: Option<Secret>,
    /// The file that holds the token.
    pub token_file: Option<PathBuf>,
    /// The variables that the token was made of: the app does not get them.
    pub token_variables: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SocketChoice {
    /// `SocketChoice::PATH`, or another path where that one cannot be created: see `observe/address`.
    #[default]
    Default,
    At(PathBuf),
    Off,
}

impl SocketChoice {
    pub const PATH: &str = "/run/litevisor.sock";
    pub const NONE: &str = "none";
}

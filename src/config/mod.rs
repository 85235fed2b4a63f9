//! supervisor.toml, command line and environment → the settings of each part.

use crate::model::DbPath;
use crate::replicate::ReplicateSettings;
use crate::restore::{OnRestoreFailure, RestoreSettings};
use crate::store::StoreSettings;
use crate::supervise::AppSettings;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a command needs to know, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// None for commands that start no app.
    pub app: Option<AppSettings>,
    pub shutdown: ShutdownSettings,
    pub restore: RestoreSettings,
    pub databases: Vec<DatabaseSettings>,
    pub log: LogSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSettings {
    pub path: DbPath,
    /// `name`, `uid` or `uid:gid`, as written.
    pub owner: Option<String>,
    /// Permission bits of the restored file.
    pub mode: Option<u32>,
    pub on_restore_failure: OnRestoreFailure,
    pub replicate: ReplicateSettings,
    pub replica: StoreSettings,
}

/// The one budget of a stop: `pre_sync_timeout + … <= app_timeout < grace`, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// From the first stop signal to our exit.
    pub grace: Duration,
    /// From the first stop signal until the app's group is killed; the rest of the grace is the flush's reserve.
    pub app_timeout: Duration,
    /// The flush before the app is told to stop takes at most this long.
    pub pre_sync_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// Where the configuration came from, for messages.
pub type Source = PathBuf;

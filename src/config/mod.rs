//! supervisor.toml, command line and environment → the settings of each part.
//!
//! In: the text of a file, what the command line adds, the environment. Out: a `Config` that is complete and checked, or
//! every problem with its file, line and key. Pure but for `load`, which finds the file; the files of secrets are read
//! through a handed-in function. Never prints a secret.
//!
//! `litestream` turns a litestream.yml into our text. `section` reads the tables; `app`, `database` and `replica` turn them into settings; `units`, `url`, `expand`, `nearest`,
//! `platform` and `budget` are the rules; `show` writes the effective configuration.

mod app;
mod app_rules;
mod budget;
mod database;
mod directory;
mod expand;
pub mod litestream;
pub mod load;
pub mod nearest;
mod parse;
mod platform;
pub mod problem;
mod reader;
mod replica;
mod section;
pub mod show;
mod status;
pub mod units;
mod url;

#[cfg(test)]
mod tests;

use crate::model::{DbPath, RestartSettings, SignalMap, SuccessCodes};
use crate::replicate::ReplicateSettings;
use crate::restore::{OnRestoreFailure, RestoreSettings};
use crate::store::StoreSettings;
use crate::supervise::AppSettings;
use std::time::Duration;

pub use directory::{DirectorySettings, Pattern};
pub use load::{Loaded, load};
pub use parse::{Additions, Checked, Purpose, parse, parse_litestream};
pub use problem::{ConfigError, Place, Problem};
pub use reader::Outside;
pub use status::{SocketChoice, StatusSettings};

/// One replica from its URL alone, its keys from the environment: what `litevisor restore URL` uses.
pub fn replica_from_url(url: &str, outside: Outside<'_>) -> Result<StoreSettings, ConfigError> {
    replica::from_url_alone(&Place::option("the replica"), url, outside)
}

/// Everything a command needs to know, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// None for commands that start no app.
    pub app: Option<AppSettings>,
    pub app_rules: AppRules,
    pub shutdown: ShutdownSettings,
    pub restore: RestoreSettings,
    pub databases: Vec<DatabaseSettings>,
    /// Directories of databases.
    pub directories: Vec<DirectorySettings>,
    pub log: LogSettings,
    pub status: StatusSettings,
}

/// The part of `[app]` that decides about its signals and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRules {
    pub signals: SignalMap,
    pub success: SuccessCodes,
    pub restart: RestartSettings,
}

impl Default for AppRules {
    fn default() -> Self {
        let (signals, success) = (SignalMap::default(), SuccessCodes::default());
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

impl LogLevel {
    /// Every level by its name.
    pub const NAMES: [(&'static str, LogLevel); 5] = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
}

impl LogFormat {
    /// Every format by its name.
    pub const NAMES: [(&'static str, LogFormat); 3] =
        [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { level: LogLevel::Info, format: LogFormat::Auto }
    }
}

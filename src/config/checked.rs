//! What `parse` returns: the configuration, and what must be known beside it.

use super::directory::DirectorySettings;
use super::follow::FollowSettings;
use super::notify::{HeartbeatSettings, NotifySettings};
use super::platform::PlatformReport;
use super::settings::{AppRules, DatabaseSettings, LogSettings, ShutdownSettings, StatusSettings};
use super::verify::VerifySettings;
use crate::gate::GateSettings;
use crate::handover::HandoverSettings;
use crate::restore::RestoreSettings;
use crate::store::StoreSettings;
use crate::supervise::AppSettings;
use std::ffi::OsString;

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
    pub gates: Vec<GateSettings>,
    /// The `PORT` of an app behind a gate; None: what litevisor's environment has.
    pub app_port: Option<u16>,
    /// The platform's name of what was deployed.
    pub revision: Option<String>,
    /// None: the hand-over is off.
    pub handover: Option<HandoverSettings>,
    /// None: the databases are the app's own, and replicated.
    pub follow: Option<FollowSettings>,
    /// None: nobody is told.
    pub notify: Option<NotifySettings>,
    pub heartbeat: Option<HeartbeatSettings>,
    pub log: LogSettings,
    pub status: StatusSettings,
    pub verify: VerifySettings,
}

impl Config {
    /// A directory counts as one, whatever is in it.
    pub fn first_database(&self) -> Option<&DatabaseSettings> {
        self.databases.first().or_else(|| self.directories.first().map(DirectorySettings::each))
    }

    /// Where the owner records of the hand-over may be: at its `url`, else beside a replica, the first one
    /// unless another has records. Empty: the hand-over is off, or there is no database.
    pub fn owner_records(&self) -> Vec<&StoreSettings> {
        let Some(handover) = &self.handover else { return Vec::new() };
        if let Some(elsewhere) = &handover.records {
            return vec![elsewhere];
        }
        let each = self.directories.iter().map(DirectorySettings::each);
        self.databases.iter().chain(each).map(|database| &database.replica).collect()
    }
}

/// A configuration that can be used, and its warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub config: Config,
    /// `[app] user`, also where no command is known: restored files are to be the app's.
    pub app_user: Option<String>,
    pub warnings: Vec<String>,
    /// The variables that carry credentials to litevisor: the app does not get them.
    pub secret_variables: Vec<OsString>,
    pub platform: PlatformReport,
}

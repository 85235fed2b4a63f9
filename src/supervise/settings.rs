//! What the configuration says about the app; filled in by `config`.

use crate::model::Signal;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Which processes of the app get forwarded signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignalTo {
    /// The main process, or its group when it is a shell or npm.
    Auto,
    Main,
    Group,
}

/// How litevisor learns that the app is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyCheck {
    Probe(Probe),
    /// The app says so itself, by sd_notify(3).
    Notify,
}

impl ReadyCheck {
    /// As it was written.
    pub fn text(&self) -> &str {
        match self {
            ReadyCheck::Probe(probe) => &probe.text,
            ReadyCheck::Notify => "notify",
        }
    }
}

/// How litevisor checks that the app answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// As it was written.
    pub text: String,
    /// One answer is enough: `localhost` has two addresses.
    pub addresses: Vec<SocketAddr>,
    /// The HTTP request. None: a connection is enough.
    pub http: Option<HttpTarget>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    pub host: String,
    pub path: String,
}

/// When the commands of the setup run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SetupWhen {
    #[default]
    Always,
    /// When something has changed since they last succeeded.
    Changed,
}

/// What runs between the restore and the app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetupSettings {
    /// argv of each command, at least one word; in this order.
    pub commands: Vec<Vec<OsString>>,
    pub when: SetupWhen,
    /// Another value is another setup. None: the arguments and the programs' content.
    pub id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSettings {
    /// argv, at least one word; no shell.
    pub command: Vec<OsString>,
    pub setup: SetupSettings,
    /// `name`, `uid` or `uid:gid`, as written; looked up in /etc/passwd and /etc/group when the app is
    /// started.
    pub user: Option<String>,
    pub working_dir: Option<PathBuf>,
    /// What the app gets when litevisor must stop.
    pub stop_signal: Signal,
    /// How litevisor learns that the app is ready. None: it counts as ready once it runs.
    pub ready: Option<ReadyCheck>,
    pub signal_to: SignalTo,
    /// Added to the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// Names removed from the inherited environment: the replica's credentials, which the app does not need.
    pub env_remove: Vec<OsString>,
    /// `PR_SET_NO_NEW_PRIVS` for the app.
    pub no_new_privs: bool,
}

#[cfg(test)]
impl AppSettings {
    /// The defaults.
    pub fn of(command: &[&str]) -> AppSettings {
        AppSettings {
            command: command.iter().map(OsString::from).collect(),
            setup: SetupSettings::default(),
            user: None,
            working_dir: None,
            stop_signal: Signal::TERM,
            ready: None,
            signal_to: SignalTo::Auto,
            env: Vec::new(),
            env_remove: Vec::new(),
            no_new_privs: false,
        }
    }
}

//! What the configuration says about the app; filled in by `config`.

use crate::model::Signal;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSettings {
    /// argv, at least one word; no shell.
    pub command: Vec<OsString>,
    /// `name`, `uid` or `uid:gid`, as written; looked up in /etc/passwd and /etc/group when the app is started.
    pub user: Option<String>,
    pub working_dir: Option<PathBuf>,
    /// What the app gets when we are asked to stop.
    pub stop_signal: Signal,
    /// Added to the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// Names removed from the inherited environment: credentials of the replica that the app has no use for.
    pub env_remove: Vec<OsString>,
    /// `PR_SET_NO_NEW_PRIVS` for the app.
    pub no_new_privs: bool,
}

//! `[app]` → `AppSettings`, and which variables the app must not see.

use super::database::Parsed;
use super::replica::credential_variables;
use super::section::{Section, Text};
use super::units;
use super::url::absolute;
use super::{AppRules, app_rules};
use crate::model::Signal;
use crate::supervise::AppSettings;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `[app]` as written; an empty command means that none was given.
pub struct RawApp {
    pub command: Vec<OsString>,
    pub user: Option<String>,
    working_dir: Option<PathBuf>,
    stop_signal: Signal,
    env: Vec<(OsString, OsString)>,
    no_new_privs: bool,
    pass_credentials: bool,
    pub rules: AppRules,
}

pub fn read(section: Option<Section<'_, '_>>, command: &[OsString], working_dir: &Path) -> RawApp {
    let mut app = RawApp {
        command: command.to_vec(),
        user: None,
        working_dir: None,
        stop_signal: Signal(nix::libc::SIGTERM),
        env: Vec::new(),
        no_new_privs: false,
        pass_credentials: false,
        rules: AppRules::default(),
    };
    let Some(mut section) = section else { return app };
    let written = command_of(&mut section);
    if app.command.is_empty() {
        app.command = written;
    }
    app.user = section.parsed("user", units::user).map(|at| at.value);
    app.working_dir = section.text("working_dir").map(|at| absolute(Path::new(&at.value.text), working_dir));
    app.stop_signal = section.parsed("stop_signal", units::signal).map_or(app.stop_signal, |at| at.value);
    app.env = variables(&mut section);
    app.no_new_privs = section.flag("no_new_privs").unwrap_or(false);
    app.pass_credentials = section.flag("pass_credentials").unwrap_or(false);
    app.rules = app_rules::read(&mut section, app.stop_signal);
    section.finish(&[]);
    app
}

fn command_of(section: &mut Section<'_, '_>) -> Vec<OsString> {
    let Some(command) = section.texts("command") else { return Vec::new() };
    if command.value.is_empty() {
        section.complain(&command.place, "is empty: name a program, for example [\"/usr/bin/app\", \"--flag\"]");
    }
    command.value.into_iter().map(|Text { text, .. }| OsString::from(text)).collect()
}

fn variables(section: &mut Section<'_, '_>) -> Vec<(OsString, OsString)> {
    let mut variables = Vec::new();
    for (name, value) in section.pairs("env") {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            section.complain(&name.place, "is no name of an environment variable");
        }
        variables.push((OsString::from(name.value), OsString::from(value.text)));
    }
    variables
}

pub fn settings(app: RawApp, databases: &[Parsed]) -> AppSettings {
    let mut env_remove = if app.pass_credentials { Vec::new() } else { removed(databases) };
    // What the configuration gives the app by name was asked for.
    env_remove.retain(|name| app.env.iter().all(|(given, _)| given != name));
    AppSettings {
        command: app.command,
        user: app.user,
        working_dir: app.working_dir,
        stop_signal: app.stop_signal,
        env: app.env,
        env_remove,
        no_new_privs: app.no_new_privs,
    }
}

/// The names that carried a replica's credentials to us. Without a replica of that kind the usual names are the app's own.
fn removed(databases: &[Parsed]) -> Vec<OsString> {
    let usual = databases.iter().flat_map(|parsed| credential_variables(parsed.settings.replica.scheme));
    let mut names: BTreeSet<&str> = usual.copied().collect();
    names.extend(databases.iter().flat_map(|parsed| parsed.secret_variables.iter().map(String::as_str)));
    names.into_iter().map(OsString::from).collect()
}

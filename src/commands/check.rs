//! `litevisor check`: checks the configuration and prints what is in effect. Prints no secret; sends no
//! request to a replica unless `connect` is set.

use super::connect::{self, Trial};
use super::document::{self, merged, outcome};
use super::error::{CommandError, ErrorKind, status};
use super::setup::{LogOf, load, start_log};
use crate::config::{Additions, Checked, Loaded, LogLevel, LogSettings, Purpose, show};
use crate::observe::{complain, say};
use crate::run::{discover, owners::owners};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

pub fn check(file: Option<&Path>, connecting: bool, as_json: bool) -> Result<u8, CommandError> {
    let Loaded { checked, file } = load(file, &Additions::default(), Purpose::Check)?;
    let problems = unknown_users(&checked);
    if !problems.is_empty() {
        return Err(CommandError { kind: ErrorKind::Local, messages: problems.into_iter().collect() });
    }
    let config = &checked.config;
    let platform = &checked.platform;
    let warnings: Vec<&String> =
        checked.warnings.iter().chain(&platform.warning).chain(&platform.refusal).collect();
    let shown = show::show(config);
    if !as_json {
        warnings.iter().for_each(|warning| complain(warning));
        let source = file.as_ref().map(|file| format!("# from {}\n", file.display())).unwrap_or_default();
        say(&format!("{source}{shown}"));
    }
    let trials = if connecting {
        // Warnings of the stores belong to the answer, their progress does not.
        let quiet = LogSettings { level: LogLevel::Warn, ..config.log.clone() };
        start_log(&quiet, LogOf::OneShot { json: as_json });
        connect::connect(config, |trial| {
            if !as_json {
                say(&trial.text());
                trial.problems().for_each(|problem| complain(&problem));
            }
        })?
    } else {
        Vec::new()
    };
    let exit_status = status(trials.iter().flat_map(Trial::errors));
    if as_json {
        let effective: Value = toml::from_str(&shown)
            .map_err(|error| CommandError::new(ErrorKind::Internal, format!("cannot print JSON: {error}")))?;
        let replicas: Vec<Value> = trials.iter().map(Trial::json).collect();
        let file = file.as_ref().map(|file| file.to_string_lossy());
        let own = json!({ "file": file, "config": effective, "warnings": warnings, "replicas": replicas });
        document::print(&merged(outcome(exit_status, None), own));
    }
    Ok(exit_status)
}

/// Values of `user` and `owner` that this machine or image does not know.
fn unknown_users(checked: &Checked) -> BTreeSet<String> {
    let Checked { config, app_user, .. } = checked;
    let user = app_user.as_deref();
    let single = config.databases.iter().filter_map(|database| owners(database, user).err());
    let many = config.directories.iter().filter_map(|entry| discover::directory(entry.clone(), user).err());
    single.chain(many).map(|error| error.to_string()).collect()
}

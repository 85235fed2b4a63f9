//! What commands begin with: the configuration, the log, the runtime.

use super::error::{CommandError, ErrorKind};
use crate::config::{
    self, Additions, Checked, Config, ConfigError, Environment, Loaded, LogFormat, LogLevel, LogSettings,
    Purpose,
};
use crate::local_state::place::{self, Scope};
use crate::observe::{self, Format};
use crate::supervise;
use std::ffi::OsString;
use std::path::Path;

/// Decides about the log's format where the configuration leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOf {
    /// `run`, `replicate`, `follow`: text on a terminal, JSON otherwise.
    Service,
    /// A command that ends by itself: text, JSON with `--json`.
    OneShot { json: bool },
}

/// The process's own environment, as the configuration sees it.
pub fn with_environment<T>(
    use_it: impl FnOnce(Environment<'_>) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    // A working directory that was removed still has a name, and the error about a file in it shows that
    // name.
    let working_dir =
        std::env::current_dir().or_else(|_| std::fs::read_link("/proc/self/cwd")).map_err(|error| {
            ConfigError::single(
                config::Location::default(),
                format!("cannot determine the working directory: {error}"),
            )
        })?;
    use_it(Environment {
        variable: &env,
        read: &|path: &Path| std::fs::read(path),
        working_dir: &working_dir,
    })
}

pub fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Finds and checks the configuration.
pub fn load(file: Option<&Path>, additions: &Additions, purpose: Purpose) -> Result<Loaded, CommandError> {
    let loaded = with_environment(|environment| config::load(file, additions, purpose, environment))?;
    place_state(&loaded.checked.config);
    Ok(loaded)
}

/// Before anything of a database is read or locked.
fn place_state(config: &Config) {
    let single = config.databases.iter().map(|database| (database, Scope::Database));
    let directories = config.directories.iter().map(|entry| {
        let scope = if entry.recursive { Scope::Tree } else { Scope::Directory };
        (entry.each(), scope)
    });
    for (database, scope) in single.chain(directories) {
        if let Some(meta_dir) = &database.meta_dir {
            place::choose(database.path.as_path(), scope, meta_dir);
        }
    }
}

/// Loads the configuration and starts the log.
pub fn configured(
    file: Option<&Path>,
    additions: &Additions,
    purpose: Purpose,
    log: LogOf,
) -> Result<Checked, CommandError> {
    let Loaded { checked, .. } = load(file, additions, purpose)?;
    // Before the log starts its thread, the first of the process.
    supervise::keep_secrets(&checked.secret_variables);
    start_log(&checked.config.log, log);
    checked.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(checked)
}

/// One thread for everything that waits.
pub fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built
        .map_err(|error| CommandError::new(ErrorKind::Internal, format!("cannot start the runtime: {error}")))
}

pub fn start_log(settings: &LogSettings, log: LogOf) {
    let level = match settings.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    observe::init(level, format(settings.format, log), &env);
}

fn format(configured: LogFormat, log: LogOf) -> Format {
    match (configured, log) {
        (LogFormat::Json, _) | (_, LogOf::OneShot { json: true }) => Format::Json,
        (LogFormat::Text, _) | (LogFormat::Auto, LogOf::OneShot { json: false }) => Format::Text,
        (LogFormat::Auto, LogOf::Service) => Format::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shot_commands_log_text_unless_json_is_requested() {
        let (text, json) = (LogOf::OneShot { json: false }, LogOf::OneShot { json: true });
        for (configured, log, expected) in [
            (LogFormat::Auto, LogOf::Service, Format::Auto),
            (LogFormat::Text, LogOf::Service, Format::Text),
            (LogFormat::Json, LogOf::Service, Format::Json),
            (LogFormat::Auto, text, Format::Text),
            (LogFormat::Text, text, Format::Text),
            (LogFormat::Json, text, Format::Json),
            (LogFormat::Auto, json, Format::Json),
            (LogFormat::Text, json, Format::Json),
            (LogFormat::Json, json, Format::Json),
        ] {
            assert_eq!(format(configured, log), expected, "{configured:?} {log:?}");
        }
    }
}

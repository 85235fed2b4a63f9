//! One file per subcommand that is not `run`, and what all of them begin with: the configuration and the log.

mod ask;
pub mod check;
mod connect;
pub mod healthcheck;
pub mod import;
pub mod list;
mod places;
pub mod restore;
pub mod status;
pub mod sync;
pub mod verify;

use crate::config::{Additions, Checked, ConfigError, Loaded, LogFormat, LogLevel, LogSettings, Outside, Purpose};
use crate::observe::{self, Format, Log};
use crate::{config, exit};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The process's own environment, as the configuration sees it.
pub fn outside<T>(use_it: impl FnOnce(Outside<'_>) -> Result<T, ConfigError>) -> Result<T, ConfigError> {
    let working_dir = std::env::current_dir().map_err(|error| {
        ConfigError::one(config::Place::default(), format!("the working directory cannot be told: {error}"))
    })?;
    use_it(Outside { env: &env, read: &|path: &Path| std::fs::read(path), working_dir: &working_dir })
}

fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Finds and checks the configuration. Problems are told on stderr; the error is the exit code.
pub fn load(file: Option<&Path>, additions: &Additions, purpose: Purpose) -> Result<Loaded, u8> {
    outside(|outside| config::load(file, additions, purpose, outside)).map_err(refuse)
}

fn refuse(error: ConfigError) -> u8 {
    error.problems.iter().for_each(|problem| observe::complain(&problem.to_string()));
    exit::CONFIG
}

/// Starts the log, does the work, and waits a moment for the last lines.
pub fn logged(settings: &LogSettings, warnings: &[String], work: impl FnOnce() -> u8) -> u8 {
    let log = start_log(settings);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let code = work();
    log.finish();
    code
}

/// One thread for everything that waits. What is wrong is in the log.
fn runtime() -> Option<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.inspect_err(|error| tracing::error!("cannot start the runtime: {error}")).ok()
}

/// Loads the configuration and works on it with the log running.
pub fn configured(
    file: Option<PathBuf>,
    additions: &Additions,
    purpose: Purpose,
    work: impl FnOnce(Checked) -> u8,
) -> u8 {
    match load(file.as_deref(), additions, purpose) {
        Ok(Loaded { checked, .. }) => logged(&checked.config.log.clone(), &checked.warnings.clone(), || work(checked)),
        Err(code) => code,
    }
}

fn start_log(settings: &LogSettings) -> Log {
    let level = match settings.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    let format = match settings.format {
        LogFormat::Auto => Format::Auto,
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    observe::init(level, format, &env)
}

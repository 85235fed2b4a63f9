//! The commands that ask a running supervisor: their options. In: words. Out: an `Action`.

use super::Action;
use crate::config::units;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// How the running litevisor and its databases stand
#[derive(Args)]
#[command(after_help = "It is asked over its socket, which the configuration names ([status] socket).\n\
                  Exit: 0; 64 bad usage, 69 no litevisor answers, 78 bad configuration.\n\n\
                  Example:\n  litevisor status --json")]
pub struct Status {
    /// Ask on this socket; default: the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Return once everything committed so far is in the replica
#[derive(Args)]
#[command(after_help = "Exit: 0 it is; 64 bad usage, 69 no litevisor answers, or it is restoring,\n\
                  74 not in time (what is missing is named), 75 another instance has the\n\
                  replica, 78 bad configuration.\n\n\
                  Example:\n  litevisor sync /data/app.db --timeout 1m")]
pub struct Sync {
    /// A database; default: all
    #[arg(value_name = "DB")]
    db: Option<PathBuf>,
    /// Wait at most this long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    timeout: Duration,
    /// Ask on this socket; default: the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Exit 0 or 1: whether the app runs and its replica is ours
#[derive(Args)]
#[command(after_help = "For images without a shell. What is wrong is told on stderr. A store that is\n\
                  away is wrong only past [status] max_lag.\n\n\
                  Example:\n  HEALTHCHECK CMD [\"/usr/local/bin/litevisor\", \"healthcheck\"]")]
pub struct Healthcheck {
    /// Whether litevisor itself is alive, whatever the app does
    #[arg(long)]
    live: bool,
    /// Ask on this socket; default: the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

fn timeout(text: &str) -> Result<Duration, String> {
    match units::duration(text) {
        Ok(span) if span > Duration::ZERO && span <= crate::observe::query::LONGEST => Ok(span),
        Ok(_) => Err("it is more than 0s and at most 1h".into()),
        Err(told) => Err(format!("it {told}")),
    }
}

impl Status {
    pub fn action(self) -> Action {
        Action::Status { socket: self.socket, json: self.json }
    }
}

impl Sync {
    pub fn action(self) -> Action {
        Action::Sync { socket: self.socket, db: self.db, timeout: self.timeout }
    }
}

impl Healthcheck {
    pub fn action(self) -> Action {
        Action::Healthcheck { socket: self.socket, live: self.live }
    }
}

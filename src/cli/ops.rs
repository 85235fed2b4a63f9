//! The options of the commands that ask a running supervisor.

use super::Action;
use crate::config::units;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Show the state of the running litevisor and its databases
#[derive(Args)]
#[command(after_help = "Asks over the socket that the configuration names ([status] socket).\n\
                  Exit: 0; 64 bad usage, 69 no litevisor answers, 78 bad configuration.\n\n\
                  Example:\n  litevisor status --json")]
pub struct Status {
    /// Ask on this socket; default: the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Return once everything committed so far is in the replica
#[derive(Args)]
#[command(after_help = "Exit: 0 done; 64 bad usage, or a read-only copy, 66 a configured database does\n\
                  not exist, 69 no litevisor answers, or it replicates nothing now (restoring,\n\
                  waiting, standby), 74 not in time (what is missing is named), 75 another\n\
                  instance has the replica, 78 bad configuration.\n\n\
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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Take the replica over from its owner, on a standby
#[derive(Args)]
#[command(after_help = "Also on a retired instance. Asks the owner, which stops its app and uploads its\n\
                  last commits, and returns once this instance owns the replica. An owner that\n\
                  does not answer within handover.wait is fenced.\n\
                  Exit: 0 this instance owns the replica; 64 it did already, or is stopping,\n\
                  69 no litevisor answers, or it is restoring, 74 not in time (it goes on),\n\
                  78 [handover] is off.\n\n\
                  Example:\n  litevisor promote --config supervisor.toml")]
pub struct Promote {
    /// Fence the owner without waiting for its answer
    #[arg(long)]
    force: bool,
    /// Wait at most this long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    timeout: Duration,
    /// Ask on this socket; default: the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Release the replica for a standby or the next instance
#[derive(Args)]
#[command(after_help = "The owner stops its app, uploads its last commits, and stays without its app.\n\
                  If no instance takes over within handover.trial, it starts its app again.\n\
                  Exit: 0 released; 64 this instance does not own the replica, 69 no litevisor\n\
                  answers, or it is restoring, 74 not in time (it goes on), 78 [handover] is off.\n\n\
                  Example:\n  litevisor handover --config supervisor.toml")]
pub struct HandOver {
    /// Wait at most this long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    timeout: Duration,
    /// Ask on this socket; default: the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Exit 0 if this instance is ready, as GET /readyz says, else 1
#[derive(Args)]
#[command(after_help = "For images without a shell. The reason is on stderr. A store that cannot be\n\
                  reached counts only after [status] max_lag.\n\n\
                  Example:\n  HEALTHCHECK CMD [\"/usr/local/bin/litevisor\", \"healthcheck\"]")]
pub struct Healthcheck {
    /// Whether litevisor itself runs; the app does not count
    #[arg(long)]
    live: bool,
    /// Ask on this socket; default: the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn timeout(text: &str) -> Result<Duration, String> {
    match units::duration(text) {
        Ok(span) if span > Duration::ZERO && span <= crate::observe::query::LONGEST => Ok(span),
        Ok(_) => Err("it is more than 0s and at most 1h".into()),
        Err(told) => Err(format!("it {told}")),
    }
}

pub fn poll(text: &str) -> Result<Duration, String> {
    match units::duration(text) {
        Ok(span) if units::POLL.contains(&span) => Ok(span),
        Ok(_) => Err("it is at least 100ms and at most 1h".into()),
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
        Action::Sync { socket: self.socket, db: self.db, timeout: self.timeout, json: self.json }
    }
}

impl Promote {
    pub fn action(self) -> Action {
        Action::Promote { socket: self.socket, force: self.force, timeout: self.timeout, json: self.json }
    }
}

impl HandOver {
    pub fn action(self) -> Action {
        Action::HandOver { socket: self.socket, timeout: self.timeout, json: self.json }
    }
}

impl Healthcheck {
    pub fn action(self) -> Action {
        Action::Healthcheck { socket: self.socket, live: self.live, json: self.json }
    }
}

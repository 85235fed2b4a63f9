//! Requests of `status`, `sync`, `promote`, `handover` and `healthcheck` to the running supervisor, which
//! `--socket` or the configuration names. These commands keep no log: they write to stdout and stderr.

use super::error::CommandError;
use super::setup::load;
use crate::config::{Additions, Purpose};
use crate::observe::address::{Address, Key};
use crate::observe::client::{NoSupervisor, Reply, request};
use crate::run::status_service;
use std::path::PathBuf;
use std::time::Duration;

/// The running supervisor's addresses.
pub struct Supervisor {
    candidates: Vec<Address>,
    key: Option<Key>,
}

impl Supervisor {
    /// Without a configuration: the supervisor on the default socket.
    pub fn find(config: Option<PathBuf>, socket: Option<PathBuf>) -> Result<Supervisor, CommandError> {
        if let Some(path) = socket {
            // `@name` is an abstract socket, as the log and errors write it.
            let name = path
                .to_str()
                .and_then(|text| text.strip_prefix('@'))
                .map(|name| Address::Abstract(name.to_owned()));
            return Ok(Supervisor { candidates: vec![name.unwrap_or(Address::Path(path))], key: None });
        }
        let config = load(config.as_deref(), &Additions::default(), Purpose::Ask)?.checked.config;
        let (candidates, key) = status_service::addresses(&config);
        Ok(Supervisor { candidates, key: status_service::first_database(&config).map(|_| key) })
    }

    pub fn request(&self, method: &str, target: &str, limit: Duration) -> Result<Reply, NoSupervisor> {
        request(&self.candidates, self.key.as_ref(), method, target, limit)
    }
}

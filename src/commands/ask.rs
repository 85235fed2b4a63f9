//! What `status`, `sync` and `healthcheck` have in common: they find the running supervisor, by `--socket` or by the
//! configuration that it was started with, and ask it. They keep no log: what they say goes to stdout and stderr.

use super::load;
use crate::config::{Additions, Purpose};
use crate::observe::address::{Address, Key};
use crate::observe::client::{NobodyAnswers, Reply, ask};
use crate::run::ops;
use std::path::PathBuf;
use std::time::Duration;

/// Where to ask.
pub struct Supervisor {
    candidates: Vec<Address>,
    key: Option<Key>,
}

impl Supervisor {
    /// Without a configuration: whoever has the usual socket. The error is an exit code.
    pub fn find(config: Option<PathBuf>, socket: Option<PathBuf>) -> Result<Supervisor, u8> {
        if let Some(path) = socket {
            // Also `@name`, as the log and errors write a socket without a file.
            let name =
                path.to_str().and_then(|text| text.strip_prefix('@')).map(|name| Address::Abstract(name.to_owned()));
            return Ok(Supervisor { candidates: vec![name.unwrap_or(Address::Path(path))], key: None });
        }
        let config = load(config.as_deref(), &Additions::default(), Purpose::Ask)?.checked.config;
        let (candidates, key) = ops::addresses(&config);
        Ok(Supervisor { candidates, key: ops::first(&config).map(|_| key) })
    }

    pub fn ask(&self, method: &str, target: &str, limit: Duration) -> Result<Reply, NobodyAnswers> {
        ask(&self.candidates, self.key.as_ref(), method, target, limit)
    }
}

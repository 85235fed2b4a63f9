//! The databases of the configured directories that have a replica: the bucket's listing is the only list of
//! them.

use super::error::{CommandError, ErrorKind};
use super::setup::runtime;
use crate::config::{Config, DatabaseSettings};
use crate::run::discover;
use crate::store::Stores;

#[derive(Default)]
pub struct Listed {
    pub databases: Vec<DatabaseSettings>,
    /// `DIR/PATTERN in REPLICA` of the entries without a replica.
    pub empty: Vec<String>,
}

pub fn list(config: &Config) -> Result<Listed, CommandError> {
    let mut listed = Listed::default();
    if config.directories.is_empty() {
        return Ok(listed);
    }
    let runtime = runtime()?;
    let stores = Stores::default();
    for entry in &config.directories {
        let names = runtime.block_on(discover::in_replica(entry, &stores, &config.restore))?;
        if names.is_empty() {
            listed.empty.push(format!("{} in {}", entry.databases().display(), entry.each().replica.url));
        }
        listed.databases.extend(names.iter().map(|name| entry.database(name)));
    }
    Ok(listed)
}

/// Logs the entries without a replica. The exit status: `status`, unless that would pass for a success.
pub fn report_empty(empty: &[String], status: u8) -> u8 {
    empty.iter().for_each(|entry| tracing::error!("no database: nothing matches {entry}"));
    if status == 0 && !empty.is_empty() { ErrorKind::Empty.status() } else { status }
}

//! The databases of the configured directories that have a replica: the bucket's listing is the only list of
//! them.

use super::document::{Document, Place};
use super::error::{CommandError, ErrorKind};
use super::setup::runtime;
use crate::config::{Config, DatabaseSettings};
use crate::run::discover;
use crate::store::Stores;
use serde_json::Value;
use std::path::PathBuf;

#[derive(Default)]
pub struct Listed {
    pub databases: Vec<DatabaseSettings>,
    pub empty: Vec<EmptyEntry>,
}

/// A configured directory without a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyEntry {
    /// `DIR/PATTERN`.
    pub pattern: PathBuf,
    pub replica: String,
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
            let (pattern, replica) = (entry.databases(), entry.each().replica.url.clone());
            listed.empty.push(EmptyEntry { pattern, replica });
        }
        listed.databases.extend(names.iter().map(|name| entry.database(name)));
    }
    Ok(listed)
}

/// Reports the entries without a replica, which would pass for a success.
pub fn report_empty(empty: &[EmptyEntry], document: &mut Document) {
    for EmptyEntry { pattern, replica } in empty {
        let error = CommandError::new(ErrorKind::Empty, "no database: nothing matches");
        tracing::error!("no database: nothing matches {} in {replica}", pattern.display());
        document.failed(Place { database: Some(pattern), replica: Some(replica) }, &error, Value::Null);
    }
}

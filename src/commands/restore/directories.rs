//! Which databases the directory entries have in their replicas: the bucket is the only list.

use super::jobs::{Failure, FailureKind};
use crate::config::{Config, DatabaseSettings};
use crate::run::discover;
use crate::store::Stores;

pub fn find(config: &Config) -> Result<Vec<DatabaseSettings>, Failure> {
    if config.directories.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure { kind: FailureKind::Internal, told: error.to_string() })?;
    let stores = Stores::default();
    let mut databases = Vec::new();
    for entry in &config.directories {
        let names = runtime.block_on(discover::in_replica(entry, &stores, &config.restore))?;
        databases.extend(names.iter().map(|name| entry.database(name)));
    }
    Ok(databases)
}

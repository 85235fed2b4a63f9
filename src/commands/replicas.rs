//! The replicas that a command is about: one by its URL or directory, that of a configured database, or all.

use super::directories::{self, EmptyEntry, Listed};
use super::document::Place;
use super::error::{CommandError, ErrorKind};
use super::setup::{LogOf, configured, start_log, with_environment};
use crate::config::{
    Additions, Config, DatabaseSettings, DirectorySettings, LogSettings, Purpose, nearest, replica_from_url,
};
use crate::replicate::Retention;
use crate::restore::RestoreSettings;
use crate::store::StoreSettings;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedReplica {
    /// The configured database's file.
    pub db: Option<PathBuf>,
    pub settings: StoreSettings,
    /// None: nothing in it is deleted.
    pub retention: Option<Retention>,
}

impl NamedReplica {
    /// Its name in output.
    pub fn name(&self) -> String {
        match &self.db {
            Some(db) => format!("{} in {}", db.display(), self.settings.url),
            None => self.settings.url.clone(),
        }
    }

    pub fn place(&self) -> Place<'_> {
        Place { database: self.db.as_deref(), replica: Some(&self.settings.url) }
    }
}

pub struct Selected {
    pub replicas: Vec<NamedReplica>,
    pub empty: Vec<EmptyEntry>,
    pub restore: RestoreSettings,
}

/// The replicas that `subject` names, with the log running.
pub fn select(file: Option<&Path>, subject: Option<&OsStr>, log: LogOf) -> Result<Selected, CommandError> {
    if let Some(url) = subject.and_then(|subject| replica_url(subject, true)) {
        let settings = with_environment(|environment| replica_from_url(url, environment))?;
        start_log(&LogSettings::default(), log);
        let replicas = vec![NamedReplica { db: None, settings, retention: None }];
        return Ok(Selected { replicas, empty: Vec::new(), restore: RestoreSettings::default() });
    }
    let config = configured(file, &Additions::default(), Purpose::Databases, log)?.config;
    let Listed { databases, empty } = match subject {
        Some(subject) => {
            let working_dir = std::env::current_dir().unwrap_or_default();
            Listed { databases: vec![named(subject, &config, &working_dir)?], ..Listed::default() }
        }
        None => {
            let listed = directories::list(&config)?;
            Listed { databases: config.databases.iter().cloned().chain(listed.databases).collect(), ..listed }
        }
    };
    let replica = |database: DatabaseSettings| NamedReplica {
        db: Some(database.path.as_path().to_owned()),
        settings: database.replica,
        retention: database.replicate.retention,
    };
    Ok(Selected { replicas: databases.into_iter().map(replica).collect(), empty, restore: config.restore })
}

/// The replica's URL when the argument for the database is one. With `directories`, an existing directory is
/// one too.
pub fn replica_url(subject: &OsStr, directories: bool) -> Option<&str> {
    subject.to_str().filter(|text| text.contains("://") || directories && Path::new(text).is_dir())
}

/// The configured database of that path, by its own entry or in a configured directory.
pub fn named(subject: &OsStr, config: &Config, working_dir: &Path) -> Result<DatabaseSettings, CommandError> {
    let path: PathBuf = working_dir.join(subject).components().collect();
    if let Some(database) = config.databases.iter().find(|database| database.path.as_path() == path) {
        return Ok(database.clone());
    }
    let inside = |entry: &DirectorySettings| Some(entry.database(entry.name_of(&path)?));
    if let Some(database) = config.directories.iter().find_map(inside) {
        return Ok(database);
    }
    let mut known: Vec<String> = config.databases.iter().map(|database| database.path.to_string()).collect();
    known.extend(config.directories.iter().map(|entry| entry.databases().display().to_string()));
    let hint = nearest::hint(&path.to_string_lossy(), known.iter().map(String::as_str));
    let message =
        format!("{} is no configured database{hint} (configured: {})", path.display(), known.join(", "));
    Err(CommandError::new(ErrorKind::Usage, message))
}

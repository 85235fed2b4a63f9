//! What a command is about: a replica by its URL or directory, a configured database, or all of them.

use super::restore::{code, directories};
use super::{configured, logged, outside, refuse};
use crate::config::{
    Additions, Checked, Config, DatabaseSettings, DirectorySettings, LogSettings, Purpose, nearest, replica_from_url,
};
use crate::exit;
use crate::observe;
use crate::restore::RestoreSettings;
use crate::store::StoreSettings;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The configured database's file.
    pub db: Option<PathBuf>,
    pub replica: StoreSettings,
}

impl Place {
    /// What it is called in output.
    pub fn name(&self) -> String {
        match &self.db {
            Some(db) => format!("{} in {}", db.display(), self.replica.url),
            None => self.replica.url.clone(),
        }
    }
}

/// Works on the places that `subject` means, with the log running; the work's exit code, or that of the refusal.
pub fn places(
    file: Option<PathBuf>,
    subject: Option<&OsStr>,
    work: impl FnOnce(Vec<Place>, &RestoreSettings) -> u8,
) -> u8 {
    match subject.and_then(|subject| replica_url(subject, true)) {
        Some(url) => match outside(|outside| replica_from_url(url, outside)) {
            Ok(replica) => logged(&LogSettings::default(), &[], || {
                work(vec![Place { db: None, replica }], &RestoreSettings::default())
            }),
            Err(error) => refuse(error),
        },
        None => configured(file, &Additions::default(), Purpose::Databases, |Checked { config, .. }| {
            match meant(subject, &config) {
                Ok(databases) => {
                    let place = |database: DatabaseSettings| Place {
                        db: Some(database.path.as_path().to_owned()),
                        replica: database.replica,
                    };
                    work(databases.into_iter().map(place).collect(), &config.restore)
                }
                Err(code) => code,
            }
        }),
    }
}

/// The replica's URL when one was given in the database's place. A directory is one too, where no database can be.
pub fn replica_url(subject: &OsStr, directories: bool) -> Option<&str> {
    subject.to_str().filter(|text| text.contains("://") || directories && Path::new(text).is_dir())
}

/// The configured database of that path, by name or in a configured directory. The error is bad usage.
pub fn named(subject: &OsStr, config: &Config, working_dir: &Path) -> Result<DatabaseSettings, String> {
    let path: PathBuf = working_dir.join(subject).components().collect();
    if let Some(database) = config.databases.iter().find(|database| database.path.as_path() == path) {
        return Ok(database.clone());
    }
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let inside = |entry: &&DirectorySettings| path.parent() == Some(&*entry.dir) && entry.takes(name);
    if let Some(entry) = config.directories.iter().find(inside) {
        return Ok(entry.database(name));
    }
    let mut known: Vec<String> = config.databases.iter().map(|database| database.path.to_string()).collect();
    known.extend(config.directories.iter().map(|entry| format!("{}/{}", entry.dir.display(), entry.pattern.text())));
    let hint = nearest::hint(&path.to_string_lossy(), known.iter().map(String::as_str));
    Err(format!("{} is no configured database{hint} (configured: {})", path.display(), known.join(", ")))
}

/// All that are configured, and those that the configured directories have.
fn meant(subject: Option<&OsStr>, config: &Config) -> Result<Vec<DatabaseSettings>, u8> {
    let refused = |told: String| {
        observe::complain(&told);
        exit::USAGE
    };
    match subject {
        Some(subject) => {
            let working_dir = std::env::current_dir().unwrap_or_default();
            named(subject, config, &working_dir).map(|database| vec![database]).map_err(refused)
        }
        None => {
            let found = directories::find(config).map_err(|failure| {
                tracing::error!("{}", failure.told);
                code(std::iter::once(failure.kind), false)
            })?;
            Ok(config.databases.iter().cloned().chain(found).collect())
        }
    }
}

//! What a command is about: a replica by its URL or directory, a configured database, or all of them.

use super::{configured, logged, outside, refuse};
use crate::config::{Additions, Checked, Config, DatabaseSettings, LogSettings, Purpose, nearest, replica_from_url};
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
            match meant(subject, &config, &std::env::current_dir().unwrap_or_default()) {
                Ok(databases) => {
                    let place = |database: &DatabaseSettings| Place {
                        db: Some(database.path.as_path().to_owned()),
                        replica: database.replica.clone(),
                    };
                    work(databases.into_iter().map(place).collect(), &config.restore)
                }
                Err(told) => {
                    observe::complain(&told);
                    exit::USAGE
                }
            }
        }),
    }
}

/// The replica's URL when one was given in the database's place. A directory is one too, where no database can be.
pub fn replica_url(subject: &OsStr, directories: bool) -> Option<&str> {
    subject.to_str().filter(|text| text.contains("://") || directories && Path::new(text).is_dir())
}

/// The configured databases that are meant; all without a subject. The error is bad usage.
pub fn meant<'a>(
    subject: Option<&OsStr>,
    config: &'a Config,
    working_dir: &Path,
) -> Result<Vec<&'a DatabaseSettings>, String> {
    let Some(subject) = subject else { return Ok(config.databases.iter().collect()) };
    let path: PathBuf = working_dir.join(subject).components().collect();
    let found = config.databases.iter().find(|database| database.path.as_path() == path);
    found.map(|database| vec![database]).ok_or_else(|| {
        let known: Vec<String> = config.databases.iter().map(|database| database.path.to_string()).collect();
        let hint = nearest::hint(&path.to_string_lossy(), known.iter().map(String::as_str));
        format!("{} is no configured database{hint} (configured: {})", path.display(), known.join(", "))
    })
}

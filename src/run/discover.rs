//! Finds the databases of a directory entry: at the start on the disk and in the replica (on a disposable
//! disk only the bucket has the list), and while the app runs those that appear. Reads names and first bytes
//! only.
//!
//! A name is a path below the entry's directory, with `recursive` one of several parts.

mod names;
mod replica;
mod watch;

pub use replica::in_replica;
pub use watch::DirectoryWatch;

use super::owners::{Database, OwnersError};
use crate::config::DirectorySettings;
use crate::model::{DbPath, threads};
use crate::restore::{Owners, RestoreSettings};
use crate::rights::{self, Dir, Kind};
use crate::store::{StoreError, StoreErrorKind, Stores};
use names::Names;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A directory of databases, with the owners looked up.
#[derive(Clone, Debug)]
pub struct Directory {
    pub settings: DirectorySettings,
    pub owners: Owners,
}

/// Looks up the owners.
pub fn directory(settings: DirectorySettings, app_user: Option<&str>) -> Result<Directory, OwnersError> {
    let place = (settings.dir.as_path(), settings.recursive);
    let owners = super::owners::owners_at(place, settings.each(), app_user)?;
    Ok(Directory { settings, owners })
}

/// A database that cannot be replicated under its name, or a directory that is not searched. It is logged;
/// the others are not affected.
#[derive(Clone, Debug)]
pub struct Refused {
    pub db: DbPath,
    pub why: String,
}

/// The databases of a directory.
#[derive(Default)]
pub struct Discovery {
    pub databases: Vec<Discovered>,
    pub refused: Vec<Refused>,
}

/// A database of a directory.
pub struct Discovered {
    pub database: Database,
    /// The file exists. Otherwise only the replica has something of that name, which may not be a database.
    pub on_disk: bool,
}

/// Lists the directory and the replica.
pub async fn find(
    directory: &Directory,
    stores: &Stores,
    settings: &RestoreSettings,
) -> Result<Discovery, StoreError> {
    let entry = &directory.settings;
    let there = in_replica(entry, stores, settings).await?;
    let directory = directory.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let here = Names::read(&directory.settings);
        here.log_others(&directory.settings);
        all(&directory, &here, &there)
    });
    looking.await.map_err(|error| {
        let (dir, why) = (entry.dir.display().to_string(), threads::describe_task_failure(&error));
        StoreError::new(StoreErrorKind::Invalid, "list the databases in", dir, why)
    })
}

/// The databases on the disk alone, for a start without the replica.
pub fn on_disk(directory: &Directory) -> Discovery {
    let here = Names::read(&directory.settings);
    here.log_others(&directory.settings);
    all(directory, &here, &BTreeSet::new())
}

fn all(directory: &Directory, here: &Names, there: &BTreeSet<String>) -> Discovery {
    let entry = &directory.settings;
    let is_here = |name: &String| here.databases.contains(name) || here.empty.contains(name);
    let names: BTreeSet<&String> = here.databases.iter().chain(&here.empty).chain(there).collect();
    let mut discovery = Discovery { databases: Vec::new(), refused: here.refused(entry) };
    for name in names {
        let on_disk = is_here(name);
        // Only in the replica: `here.refused` has those on the disk.
        let problem = entry.problem(Path::new(name)).map(|problem| format!("{problem}; rename it"));
        match problem.or_else(|| obstacle(entry, name).filter(|_| !on_disk)) {
            Some(why) => discovery.refused.push(Refused { db: DbPath::new(entry.dir.join(name)), why }),
            None => {
                let database = Database { settings: entry.database(name), owners: directory.owners };
                discovery.databases.push(Discovered { database, on_disk });
            }
        }
    }
    discovery.refused.sort_by(|a, b| a.db.cmp(&b.db));
    discovery.refused.dedup_by(|a, b| a.db == b.db);
    discovery
}

/// What stands in the place of a subdirectory of a database that is in the replica alone. A missing
/// subdirectory is made.
fn obstacle(entry: &DirectorySettings, name: &str) -> Option<String> {
    let mut directories: Vec<PathBuf> =
        Path::new(name).ancestors().skip(1).map(|above| entry.dir.join(above)).collect();
    // The entry's own directory.
    directories.pop();
    for directory in directories.iter().rev() {
        let (above, name) = (directory.parent()?, directory.file_name()?);
        let found = rights::within_directory(above, None, || Dir::open(above)?.stat(name)).ok()??;
        let what = match found.kind {
            Kind::Directory => continue,
            Kind::Link => "a symbolic link, which is not followed",
            Kind::File | Kind::Other => "no directory",
        };
        return Some(format!(
            "it is in the replica and was not restored, because {} is {what}",
            directory.display()
        ));
    }
    None
}

#[cfg(test)]
mod tests;

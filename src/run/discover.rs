//! The databases of a directory entry. At the start: those that are there and those that the replica has, for on a disposable
//! disk the bucket is the only list. While the app runs: those that appear. Names and first bytes only; what happens to a
//! database is decided where every other one's is.

use super::owners::OwnersError;
use super::prepare::Database;
use crate::config::{DatabaseSettings, DirectorySettings};
use crate::model::{DbPath, Deadline};
use crate::restore::{Owners, RestoreSettings};
use crate::sqlite::files::{self, Kind};
use crate::store::{StoreError, Stores, retry};
use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A directory of databases, their owners looked up.
#[derive(Clone, Debug)]
pub struct Directory {
    pub settings: DirectorySettings,
    pub owners: Owners,
}

/// Looks the owners up, too.
pub fn directory(settings: DirectorySettings, app_user: Option<&str>) -> Result<Directory, OwnersError> {
    let owners = super::owners::owners(settings.each(), app_user)?;
    Ok(Directory { settings, owners })
}

/// One that a directory has.
pub struct Found {
    pub database: Database,
    /// There is a file. Otherwise the replica has something of that name, which may be no database.
    pub here: bool,
}

/// Asks the disk and the replica.
pub async fn find(
    directory: &Directory,
    stores: &Stores,
    settings: &RestoreSettings,
) -> Result<Vec<Found>, StoreError> {
    let entry = &directory.settings;
    let looking = entry.clone();
    let here = tokio::task::spawn_blocking(move || Names::of(&looking)).await.unwrap_or_default();
    for name in &here.others {
        say_other(&entry.dir, name);
    }
    let there = in_replica(entry, stores, settings).await?;
    Ok(all(directory, &here, &there))
}

/// The names under the replica's prefix that are the entry's. What has such a name may still be no replica.
pub async fn in_replica(
    entry: &DirectorySettings,
    stores: &Stores,
    settings: &RestoreSettings,
) -> Result<BTreeSet<String>, StoreError> {
    let store = stores.open(&entry.each().replica)?;
    let told = |error: &StoreError, _| tracing::warn!(dir = %entry.dir.display(), "{error}; trying again");
    let by = Deadline::after(settings.timeout);
    let there = retry::run(by, settings.timeout / 2, told, |by| store.directories(by)).await?;
    let (there, ignored): (BTreeSet<_>, BTreeSet<_>) = there.into_iter().partition(|name| entry.takes(name));
    if !ignored.is_empty() {
        let some = ignored.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let (count, pattern) = (ignored.len(), entry.pattern.text());
        tracing::info!(replica = store.url(), "{count} names do not match {pattern:?} and are left alone: {some}");
    }
    Ok(there)
}

/// Those that are there, when the replica cannot be asked and the app is started all the same.
pub fn here(directory: &Directory) -> Vec<Found> {
    all(directory, &Names::of(&directory.settings), &BTreeSet::new())
}

fn all(directory: &Directory, here: &Names, there: &BTreeSet<String>) -> Vec<Found> {
    let names: BTreeSet<&String> = here.databases.iter().chain(&here.empty).chain(there).collect();
    let found = |name: &String| {
        let database = Database { settings: directory.settings.database(name), owners: directory.owners };
        Found { database, here: here.databases.contains(name) || here.empty.contains(name) }
    };
    names.into_iter().map(found).collect()
}

fn say_other(dir: &Path, name: &str) {
    tracing::warn!("{} is not an SQLite database: it is not replicated", dir.join(name).display());
}

/// The files of a directory whose names are databases', by their first bytes.
#[derive(Default)]
struct Names {
    databases: BTreeSet<String>,
    /// Nothing is in them yet.
    empty: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl Names {
    fn of(entry: &DirectorySettings) -> Names {
        Names::beyond(entry, &HashSet::new())
    }

    /// Those that are not `known`. A directory that is not there has none.
    fn beyond(entry: &DirectorySettings, known: &HashSet<String>) -> Names {
        let mut names = Names::default();
        let entries = match std::fs::read_dir(&entry.dir) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return names,
            Err(error) => {
                tracing::warn!("cannot look for databases in {}: {error}", entry.dir.display());
                return names;
            }
        };
        for file in entries.flatten() {
            let Ok(name) = file.file_name().into_string() else { continue };
            // A killed restore has set it aside: the next one puts it back.
            if let Some(aside) =
                name.strip_suffix(DbPath::ASIDE).filter(|name| entry.takes(name) && !known.contains(*name))
            {
                names.databases.insert(aside.to_owned());
                continue;
            }
            if known.contains(&name) || !entry.takes(&name) || !file.path().is_file() {
                continue;
            }
            match files::kind(&file.path()) {
                Ok(Kind::Sqlite) => names.databases.insert(name),
                Ok(Kind::Empty) => names.empty.insert(name),
                Ok(Kind::Other) => names.others.insert(name),
                Err(error) => {
                    tracing::warn!("cannot look into {}: {error}", file.path().display());
                    false
                }
            };
        }
        names
    }
}

/// Databases that appear in watched directories.
#[derive(Default)]
pub struct Newcomers(Vec<Watched>);

struct Watched {
    entry: DirectorySettings,
    known: HashSet<String>,
    /// No databases; said once.
    said: HashSet<String>,
    /// The directory's time when its names were last read, if that was long enough after it to mean that it has not changed
    /// since. None: they are to be read again.
    read_at: Option<SystemTime>,
}

/// File systems keep times of this coarseness or better.
const COARSE: Duration = Duration::from_secs(2);

impl Newcomers {
    /// `prepared`: those that are taken care of.
    pub fn new<'a>(directories: &[Directory], prepared: impl Iterator<Item = &'a Path> + Clone) -> Newcomers {
        let watched = |directory: &Directory| {
            let entry = directory.settings.clone();
            let inside = prepared.clone().filter(|path| path.parent() == Some(&*entry.dir));
            let known = inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
            Watched { entry, known, said: HashSet::new(), read_at: None }
        };
        Newcomers(directories.iter().filter(|directory| directory.settings.watch).map(watched).collect())
    }

    pub fn expected(&self) -> bool {
        !self.0.is_empty()
    }

    /// Those that have appeared since the last look: one `stat` for each directory in which nothing has.
    pub fn look(&mut self) -> Vec<DatabaseSettings> {
        self.0.iter_mut().flat_map(Watched::look).collect()
    }
}

impl Watched {
    fn look(&mut self) -> Vec<DatabaseSettings> {
        let now = SystemTime::now();
        let Ok(changed) = std::fs::metadata(&self.entry.dir).and_then(|meta| meta.modified()) else {
            return Vec::new();
        };
        if self.read_at == Some(changed) {
            return Vec::new();
        }
        let names = Names::beyond(&self.entry, &self.known);
        let old = changed.checked_add(COARSE).is_some_and(|settled| settled < now);
        // What is empty becomes a database without a change of the directory.
        self.read_at = Some(changed).filter(|_| old && names.empty.is_empty());
        for name in names.others {
            if !self.said.contains(&name) {
                say_other(&self.entry.dir, &name);
                self.said.insert(name);
            }
        }
        let new: Vec<DatabaseSettings> = names.databases.iter().map(|name| self.entry.database(name)).collect();
        self.known.extend(names.databases);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Additions, Outside, Purpose, parse};
    use crate::model::DbPath;
    use std::fs;

    fn entry(dir: &Path) -> DirectorySettings {
        let text =
            format!("[[database]]\ndir = \"{}\"\nwatch = true\n[database.replica]\nurl = \"/r\"\n", dir.display());
        let read = |_: &Path| Ok(Vec::new());
        let outside = Outside { env: &|_| None, read: &read, working_dir: Path::new("/") };
        let checked = parse(Some((&text, Path::new("s.toml"))), &Additions::default(), Purpose::Databases, outside);
        checked.unwrap().config.directories.remove(0)
    }

    const DATABASE: &[u8] = b"SQLite format 3\0 and so on";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_by_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let entry = entry(dir.path());
        let file = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        for name in ["a.db", "a.db-wal", ".hidden.db", "b.sqlite", "c.db.litevisor-staged"] {
            file(name, DATABASE);
        }
        file("empty.db", b"");
        file("junk.db", b"junk");
        fs::create_dir(dir.path().join("dir.db")).unwrap();
        fs::create_dir(dir.path().join(".a.db-litevisor")).unwrap();
        fs::write(DbPath::new(dir.path().join("aside.db")).aside().as_path(), DATABASE).unwrap();
        let names = Names::of(&entry);
        assert_eq!(names.databases, set(&["a.db", "aside.db"]));
        assert_eq!((names.empty, names.others), (set(&["empty.db"]), set(&["junk.db"])));
    }

    #[test]
    fn newcomers_are_told_once() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("late");
        let directory = Directory { settings: entry(&dir), owners: Owners::default() };
        let known = dir.join("known.db");
        let mut newcomers = Newcomers::new(&[directory], [known.as_path()].into_iter());
        let mut look = || {
            let found = newcomers.look();
            found.into_iter().map(|one| one.path.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(look(), [""; 0], "there is no directory");
        fs::create_dir(&dir).unwrap();
        fs::write(&known, DATABASE).unwrap();
        fs::write(dir.join("b.db"), b"").unwrap();
        assert_eq!(look(), [""; 0]);
        // No change of the directory.
        fs::write(dir.join("b.db"), DATABASE).unwrap();
        fs::write(dir.join("a.db"), DATABASE).unwrap();
        assert_eq!(look(), ["a.db", "b.db"]);
        assert_eq!(look(), [""; 0]);
        fs::remove_file(dir.join("a.db")).unwrap();
        fs::write(dir.join("a.db"), DATABASE).unwrap();
        assert_eq!(look(), [""; 0], "its task waits for it");
        // A directory that has not changed for long is not read: its time is what tells.
        let old = SystemTime::now() - Duration::from_secs(60);
        let set_time = || fs::OpenOptions::new().read(true).open(&dir).unwrap().set_modified(old).unwrap();
        set_time();
        assert_eq!(look(), [""; 0]);
        fs::write(dir.join("c.db"), DATABASE).unwrap();
        assert_eq!(look(), ["c.db"]);
    }
}

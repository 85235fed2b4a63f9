//! Finds the databases of a directory entry: at the start on the disk and in the replica (on a disposable disk only the bucket
//! has the list), and while the app runs those that appear. Reads names and first bytes only.

use super::owners::{Database, OwnersError};
use crate::config::{DatabaseSettings, DirectorySettings};
use crate::model::{DbPath, Deadline, NameProblem};
use crate::restore::waiting_report::State;
use crate::restore::{Owners, RestoreSettings, WaitingReport};
use crate::rights::{self, Dir, FileInfo};
use crate::sqlite::files::{self, Kind};
use crate::store::{StoreError, Stores, retry};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A directory of databases, with the owners looked up.
#[derive(Clone, Debug)]
pub struct Directory {
    pub settings: DirectorySettings,
    pub owners: Owners,
}

/// Looks up the owners.
pub fn directory(settings: DirectorySettings, app_user: Option<&str>) -> Result<Directory, OwnersError> {
    let owners = super::owners::owners_at(&settings.dir, settings.each(), app_user)?;
    Ok(Directory { settings, owners })
}

/// A database that cannot be replicated under its name. It is logged; the others are not affected.
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
pub async fn find(directory: &Directory, stores: &Stores, settings: &RestoreSettings) -> Result<Discovery, StoreError> {
    let entry = &directory.settings;
    let looking = entry.clone();
    let here = tokio::task::spawn_blocking(move || Names::read(&looking)).await.unwrap_or_default();
    for name in &here.others {
        log_not_sqlite(&entry.dir, name);
    }
    let there = in_replica(entry, stores, settings).await?;
    Ok(all(directory, &here, &there))
}

/// The names under the replica's prefix that match the entry. What has such a name may still not be a replica.
pub async fn in_replica(
    entry: &DirectorySettings,
    stores: &Stores,
    settings: &RestoreSettings,
) -> Result<BTreeSet<String>, StoreError> {
    let store = stores.open(&entry.each().replica)?;
    let throttle = WaitingReport::default();
    let by = Deadline::after(settings.timeout);
    let told = |error: &StoreError, _| {
        if throttle.due(State::Failing(error.kind)) {
            tracing::warn!(dir = %entry.dir.display(), "{error}; trying again, for {} s more", by.left().as_secs());
        }
    };
    let there = retry::run(by, settings.timeout / 2, told, |by| store.directories(by)).await?;
    let (there, ignored): (BTreeSet<_>, BTreeSet<_>) = there.into_iter().partition(|name| entry.takes(name));
    if !ignored.is_empty() {
        let some = ignored.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let count = ignored.len();
        let pattern = entry.pattern.text();
        tracing::info!(
            replica = store.url(),
            "{count} names in the replica do not match {pattern:?} and are ignored: {some}"
        );
    }
    Ok(there)
}

/// The databases on the disk alone, for a start without the replica.
pub fn on_disk(directory: &Directory) -> Discovery {
    all(directory, &Names::read(&directory.settings), &BTreeSet::new())
}

fn all(directory: &Directory, here: &Names, there: &BTreeSet<String>) -> Discovery {
    let entry = &directory.settings;
    let names: BTreeSet<&String> = here.databases.iter().chain(&here.empty).chain(there).collect();
    let mut discovery = Discovery { databases: Vec::new(), refused: here.refused(entry) };
    for name in names {
        match entry.problem(OsStr::new(name)) {
            // Only in the replica: `here.refused` has those on the disk.
            Some(problem) => discovery.refused.push(refused(entry, OsStr::new(name), &problem)),
            None => {
                let database = Database { settings: entry.database(name), owners: directory.owners };
                let on_disk = here.databases.contains(name) || here.empty.contains(name);
                discovery.databases.push(Discovered { database, on_disk });
            }
        }
    }
    discovery.refused.sort_by(|a, b| a.db.cmp(&b.db));
    discovery.refused.dedup_by(|a, b| a.db == b.db);
    discovery
}

fn refused(entry: &DirectorySettings, name: &OsStr, problem: &NameProblem) -> Refused {
    Refused { db: DbPath::new(entry.dir.join(name)), why: format!("{problem}; rename it") }
}

fn log_not_sqlite(dir: &Path, name: &str) {
    tracing::warn!("{} is not an SQLite database: it is not replicated", dir.join(name).display());
}

/// The files of a directory that match the pattern, by their first bytes.
#[derive(Default)]
struct Names {
    databases: BTreeSet<String>,
    /// Files of 0 bytes, which may become databases.
    empty: BTreeSet<String>,
    others: BTreeSet<String>,
    /// Databases with names that cannot be replicated.
    unfit: BTreeMap<OsString, NameProblem>,
}

impl Names {
    fn read(entry: &DirectorySettings) -> Names {
        Names::read_except(entry, &HashSet::new())
    }

    /// Without those in `known`. A missing directory has no files.
    fn read_except(entry: &DirectorySettings, known: &HashSet<String>) -> Names {
        let mut names = Names::default();
        let entries = match files_in(&entry.dir) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return names,
            Err(error) => {
                tracing::warn!("cannot list the databases in {}: {error}", entry.dir.display());
                return names;
            }
        };
        for (name, is_file) in entries {
            // A killed restore has set it aside: the next one puts it back.
            let aside = name.to_str().and_then(|name| name.strip_suffix(DbPath::ASIDE));
            if let Some(aside) = aside.filter(|name| entry.takes(name) && !known.contains(*name)) {
                names.databases.insert(aside.to_owned());
                continue;
            }
            if let Some(problem) = entry.problem(&name) {
                if !is_file {
                    continue;
                }
                names.add_unfit(entry, &entry.dir.join(&name), name, problem);
                continue;
            }
            let Ok(name) = name.into_string() else { continue };
            if known.contains(&name) || !entry.takes(&name) || !is_file {
                continue;
            }
            let path = entry.dir.join(&name);
            match files::kind(&path) {
                Ok(Kind::Sqlite) => names.databases.insert(name),
                Ok(Kind::Empty) => names.empty.insert(name),
                Ok(Kind::Other) => names.others.insert(name),
                Err(error) => {
                    tracing::warn!("cannot read {}: {error}", path.display());
                    false
                }
            };
        }
        names
    }

    fn add_unfit(&mut self, entry: &DirectorySettings, path: &Path, name: OsString, problem: NameProblem) {
        let database = || matches!(files::kind(path), Ok(Kind::Sqlite | Kind::Empty));
        if entry.takes(&name.to_string_lossy()) && database() {
            self.unfit.insert(name, problem);
        }
    }

    fn refused(&self, entry: &DirectorySettings) -> Vec<Refused> {
        self.unfit.iter().map(|(name, problem)| refused(entry, name, problem)).collect()
    }
}

/// The databases that have appeared since the last poll.
#[derive(Default)]
pub struct NewDatabases {
    pub databases: Vec<DatabaseSettings>,
    pub refused: Vec<Refused>,
}

/// The names in a directory, and which of them are regular files. No link is followed.
fn files_in(directory: &Path) -> io::Result<Vec<(OsString, bool)>> {
    rights::within_directory(directory, None, || {
        let dir = Dir::open(directory)?;
        let is_file = |name: &OsString| matches!(dir.stat(name), Ok(Some(FileInfo { kind: rights::Kind::File, .. })));
        let names = dir.names()?.into_iter();
        Ok(names.map(|name| (name.clone(), is_file(&name))).collect())
    })
}

/// Watches directories for new databases.
#[derive(Default)]
pub struct DirectoryWatch(Vec<WatchedDirectory>);

struct WatchedDirectory {
    entry: DirectorySettings,
    known: HashSet<String>,
    /// Files that are not databases or cannot be replicated, and are in the log already.
    logged: HashSet<OsString>,
    /// The directory's mtime when its names were last read, if the mtime was old enough by then to show every later change.
    /// None: the names must be read again.
    read_at: Option<SystemTime>,
}

/// The coarsest mtime of a file system.
const COARSE: Duration = Duration::from_secs(2);

impl DirectoryWatch {
    /// Watches the directories whose `watch` has this value. `prepared`: databases that are known already.
    pub fn new<'a>(
        directories: &[Directory],
        watch: bool,
        prepared: impl Iterator<Item = &'a Path> + Clone,
        refused: &[Refused],
    ) -> DirectoryWatch {
        let watched = |directory: &Directory| {
            let entry = directory.settings.clone();
            let inside = prepared.clone().filter(|path| path.parent() == Some(&*entry.dir));
            let known = inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
            let inside = refused.iter().filter(|one| one.db.as_path().parent() == Some(&*entry.dir));
            let logged = inside.map(|one| one.db.file_name()).collect();
            WatchedDirectory { entry, known, logged, read_at: None }
        };
        DirectoryWatch(directories.iter().filter(|directory| directory.settings.watch == watch).map(watched).collect())
    }

    /// The databases that have appeared since the last poll. Costs one `stat` for each unchanged directory.
    pub fn poll(&mut self) -> NewDatabases {
        let mut all = NewDatabases::default();
        for appeared in self.0.iter_mut().map(WatchedDirectory::poll) {
            all.databases.extend(appeared.databases);
            all.refused.extend(appeared.refused);
        }
        all
    }
}

impl WatchedDirectory {
    fn poll(&mut self) -> NewDatabases {
        let now = SystemTime::now();
        let Ok(changed) = std::fs::metadata(&self.entry.dir).and_then(|meta| meta.modified()) else {
            return NewDatabases::default();
        };
        if self.read_at == Some(changed) {
            return NewDatabases::default();
        }
        let names = Names::read_except(&self.entry, &self.known);
        let old = changed.checked_add(COARSE).is_some_and(|settled| settled < now);
        // An empty file becomes a database without a change of the directory's mtime.
        self.read_at = Some(changed).filter(|_| old && names.empty.is_empty());
        let mut refused = names.refused(&self.entry);
        refused.retain(|one| self.logged.insert(one.db.file_name()));
        for name in names.others {
            if self.logged.insert(OsString::from(&name)) {
                log_not_sqlite(&self.entry.dir, &name);
            }
        }
        let new: Vec<DatabaseSettings> = names.databases.iter().map(|name| self.entry.database(name)).collect();
        self.known.extend(names.databases);
        NewDatabases { databases: new, refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Additions, Environment, Purpose, parse};
    use crate::model::DbPath;
    use std::fs;

    fn entry(dir: &Path) -> DirectorySettings {
        let text =
            format!("[[database]]\ndir = \"{}\"\nwatch = true\n[database.replica]\nurl = \"/r\"\n", dir.display());
        let read = |_: &Path| Ok(Vec::new());
        let environment = Environment { variable: &|_| None, read: &read, working_dir: Path::new("/") };
        let checked = parse(Some((&text, Path::new("s.toml"))), &Additions::default(), Purpose::Databases, environment);
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
        let names = Names::read(&entry);
        assert_eq!(names.databases, set(&["a.db", "aside.db"]));
        assert_eq!((names.empty, names.others), (set(&["empty.db"]), set(&["junk.db"])));
        assert_eq!(names.unfit, BTreeMap::new());
    }

    #[test]
    fn names_that_cannot_be_replicated_are_told_once_and_hinder_nobody() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory { settings: entry(dir.path()), owners: Owners::default() };
        let long = format!("{}.db", "n".repeat(240));
        for name in
            [OsStr::new("a.db"), OsStr::new(&long), OsStr::from_bytes(b"\xff.db"), OsStr::from_bytes(b"\xff.txt")]
        {
            fs::write(dir.path().join(name), DATABASE).unwrap();
        }
        let names = |refused: &[Refused]| refused.iter().map(|one| one.db.file_name()).collect::<Vec<_>>();
        let longer = "r".repeat(300);
        let there = set(&[&longer, "b.db"]);
        let discovery = all(&directory, &Names::read(&directory.settings), &there);
        let fit: Vec<_> = discovery.databases.iter().map(|one| one.database.settings.path.file_name()).collect();
        assert_eq!(fit, ["a.db", "b.db"]);
        let unfit = [OsStr::new(&long), OsStr::new(&longer), OsStr::from_bytes(b"\xff.db")];
        assert_eq!(names(&discovery.refused), unfit);
        let known = dir.path().join("a.db");
        let mut newcomers = DirectoryWatch::new(&[directory], true, [known.as_path()].into_iter(), &discovery.refused);
        assert_eq!(names(&newcomers.poll().refused), [""; 0], "told at the start");
        fs::write(dir.path().join(OsStr::from_bytes(b"\xfe.db")), DATABASE).unwrap();
        assert_eq!(names(&newcomers.poll().refused), [OsStr::from_bytes(b"\xfe.db")]);
        assert_eq!(names(&newcomers.poll().refused), [""; 0]);
    }

    #[test]
    fn newcomers_are_told_once() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("late");
        let directory = Directory { settings: entry(&dir), owners: Owners::default() };
        let known = dir.join("known.db");
        let mut newcomers = DirectoryWatch::new(&[directory], true, [known.as_path()].into_iter(), &[]);
        let mut look = || {
            let found = newcomers.poll();
            found.databases.into_iter().map(|one| one.path.file_name().into_string().unwrap()).collect::<Vec<_>>()
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

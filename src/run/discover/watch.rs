//! Watches the directories of entries for new databases. A changed directory is known by its modification
//! time: one `stat` for each directory and poll. So no event can be lost, and it works on file systems that
//! report none.

use super::names::{self, MOST_DIRECTORIES, Names};
use super::{Directory, Refused};
use crate::config::{DatabaseSettings, DirectorySettings};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The coarsest mtime of a file system.
const COARSE: Duration = Duration::from_secs(2);

/// The databases that have appeared since the last poll.
#[derive(Default)]
pub struct NewDatabases {
    pub databases: Vec<DatabaseSettings>,
    pub refused: Vec<Refused>,
}

#[derive(Default)]
pub struct DirectoryWatch(Vec<WatchedDirectory>);

struct WatchedDirectory {
    entry: DirectorySettings,
    known: HashSet<String>,
    /// What is not a database, cannot be replicated or is not followed, and is in the log already. Whole
    /// paths.
    logged: HashSet<PathBuf>,
    /// The directory, which is "", and its subdirectories.
    directories: BTreeMap<PathBuf, LastRead>,
}

/// A directory's inode, and its mtime when its names were last read, if the mtime was old enough by then to
/// show every later change. None: the names must be read again.
type LastRead = Option<(u64, SystemTime)>;

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
            let known = prepared.clone().filter_map(|path| entry.name_of(path).map(str::to_owned)).collect();
            let logged = refused.iter().map(|one| one.db.as_path().to_owned());
            let logged = logged.filter(|path| path.starts_with(&entry.dir)).collect();
            WatchedDirectory { entry, known, logged, directories: BTreeMap::new() }
        };
        DirectoryWatch(
            directories.iter().filter(|directory| directory.settings.watch == watch).map(watched).collect(),
        )
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
        let mut names = Names::default();
        self.directories.entry(PathBuf::new()).or_default();
        let mut look: VecDeque<PathBuf> = self.directories.keys().cloned().collect();
        while let Some(directory) = look.pop_front() {
            look.extend(self.look_into(&directory, &mut names));
        }
        let WatchedDirectory { entry, known, logged, .. } = self;
        let mut refused = names.refused(entry);
        refused.retain(|one| logged.insert(one.db.as_path().to_owned()));
        names.others.retain(|name| logged.insert(entry.dir.join(name)));
        names.links.retain(|name| logged.insert(entry.dir.join(name)));
        names.unreadable.retain(|name, _| logged.insert(entry.dir.join(name)));
        names.log_others(entry);
        let databases = names.databases.iter().map(|name| entry.database(name)).collect();
        known.extend(names.databases);
        NewDatabases { databases, refused }
    }

    /// Reads a directory that has changed. Returns the subdirectories that are new.
    fn look_into(&mut self, directory: &Path, names: &mut Names) -> Vec<PathBuf> {
        let now = SystemTime::now();
        let Some(read) = self.directories.get(directory).copied() else { return Vec::new() };
        let found = modified(&self.entry.dir.join(directory), directory.as_os_str().is_empty());
        let Some(found) = found else {
            self.forget_below(directory, &BTreeSet::new());
            if !directory.as_os_str().is_empty() {
                self.directories.remove(directory);
            }
            return Vec::new();
        };
        if read == Some(found) {
            return Vec::new();
        }
        let empty = names.empty.len();
        if !names.read_directory(&self.entry, directory, &self.known) {
            // The next poll tries again.
            self.directories.insert(directory.to_owned(), None);
            return Vec::new();
        }
        let old = found.1.checked_add(COARSE).is_some_and(|settled| settled < now);
        // An empty file becomes a database without a change of the directory's mtime.
        let read = Some(found).filter(|_| old && names.empty.len() == empty);
        self.directories.insert(directory.to_owned(), read);
        let there: BTreeSet<PathBuf> = names.directories.drain(..).collect();
        self.forget_below(directory, &there);
        let mut new = Vec::new();
        for subdirectory in there {
            if self.directories.contains_key(&subdirectory) {
                continue;
            }
            if self.directories.len() >= MOST_DIRECTORIES {
                names.unfit.insert(subdirectory, names::too_many());
                break;
            }
            self.directories.insert(subdirectory.clone(), None);
            new.push(subdirectory);
        }
        new
    }

    /// Forgets the subdirectories of `directory`, and all below them, that are not among `there`.
    fn forget_below(&mut self, directory: &Path, there: &BTreeSet<PathBuf>) {
        // Paths are ordered by their parts: what is below a directory follows it.
        let from = (Bound::Excluded(directory), Bound::Unbounded);
        let below = self.directories.range::<Path, _>(from).map(|(path, _)| path);
        let below = below.take_while(|path| path.starts_with(directory));
        let is_there = |path: &&PathBuf| {
            let child = path.ancestors().find(|above| above.parent() == Some(directory));
            child.is_some_and(|child| there.contains(child))
        };
        let gone: Vec<PathBuf> = below.filter(|path| !is_there(path)).cloned().collect();
        for path in gone {
            self.directories.remove(&path);
        }
    }
}

/// The entry's own directory may be behind a link of root's.
fn modified(path: &Path, is_entry: bool) -> Option<(u64, SystemTime)> {
    let meta = if is_entry { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) }.ok()?;
    Some((meta.ino(), meta.modified().ok()?)).filter(|_| meta.is_dir())
}

//! Notices when a database's files are replaced and when a database appears in a watched directory. The
//! kernel queues such an event before the call that causes it returns, so a look that drains the queue first
//! misses none. Commits cause no event here. What cannot be watched is looked at each time.

use crate::model::DbPath;
use crate::rights::{self, Dir};
use crate::sqlite::files::{self, Kind};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directories that are watched. More of them are reported as not replicated by the search for databases.
const MOST_DIRECTORIES: usize = 10_000;

/// What is looked for in a directory, by names.
pub struct Wanted {
    /// Whether a file of this name is a database.
    pub takes: Box<dyn Fn(&OsStr) -> bool + Send + Sync>,
    /// Whether a subdirectory of this name is watched, too.
    pub enters: Box<dyn Fn(&OsStr) -> bool + Send + Sync>,
}

struct Directory {
    wanted: Arc<Wanted>,
    watch: Option<WatchDescriptor>,
    /// It was found in another one.
    is_below: bool,
}

/// Which databases' files may have been replaced.
#[derive(Debug, PartialEq, Eq)]
pub enum Suspect {
    All,
    One(usize),
}

pub struct Changes {
    /// None: there is none to be had.
    inotify: Option<Inotify>,
    names: HashMap<(WatchDescriptor, OsString), usize>,
    directories: BTreeMap<PathBuf, Directory>,
    watched: HashMap<WatchDescriptor, PathBuf>,
    /// Directories that have come since the last look.
    unread: Vec<PathBuf>,
    /// Some are not watched.
    incomplete: bool,
    /// Files in the directories that may be databases.
    newcomers: Vec<PathBuf>,
}

impl Changes {
    pub fn new() -> Changes {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        let (names, watched) = (HashMap::new(), HashMap::new());
        Changes {
            inotify,
            names,
            directories: BTreeMap::new(),
            watched,
            unread: Vec::new(),
            incomplete: false,
            newcomers: Vec::new(),
        }
    }

    /// Watches the files of one database. False: they must be looked at each time.
    pub fn watch(&mut self, db: &DbPath, database: usize) -> bool {
        let Ok(watch) = add(self.inotify.as_ref(), db.directory(), false) else { return false };
        for file in [db.as_path(), &db.wal(), &db.shm()] {
            let name = file.file_name().map(OsString::from).unwrap_or_default();
            self.names.insert((watch, name), database);
        }
        true
    }

    /// Databases in this directory that are not known make `newcomer` true from now on.
    pub fn watch_directory(&mut self, path: PathBuf, wanted: Wanted) {
        self.directories.insert(path, Directory { wanted: Arc::new(wanted), watch: None, is_below: false });
        self.incomplete = true;
    }

    /// What has happened since the last call.
    pub fn drain(&mut self, mut suspect: impl FnMut(Suspect)) {
        loop {
            match self.inotify.as_ref().map(Inotify::read_events) {
                None | Some(Err(Errno::EAGAIN)) => break,
                Some(Ok(events)) => events.into_iter().for_each(|event| self.take(event, &mut suspect)),
                Some(Err(_)) => {
                    suspect(Suspect::All);
                    self.look_again();
                    break;
                }
            }
        }
        self.watch_missing();
    }

    fn take(&mut self, event: InotifyEvent, suspect: &mut impl FnMut(Suspect)) {
        let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF;
        if event.mask.intersects(gone | AddWatchFlags::IN_Q_OVERFLOW) {
            suspect(Suspect::All);
            self.lose(&event);
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.names.retain(|(watch, _), _| *watch != event.wd);
        }
        let Some(name) = event.name else { return };
        if let Some(directory) = self.watched.get(&event.wd).cloned() {
            let is_directory = event.mask.contains(AddWatchFlags::IN_ISDIR);
            if is_directory {
                // Another directory may have this name now.
                self.forget(&directory.join(&name));
            }
            if !is_directory || event.mask.intersects(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO) {
                self.note(&directory, &name, is_directory);
            }
        }
        if let Some(database) = self.names.get(&(event.wd, name)) {
            suspect(Suspect::One(*database));
        }
    }

    /// There is this name in a watched directory.
    fn note(&mut self, directory: &Path, name: &OsStr, is_directory: bool) {
        let Some(Directory { wanted, .. }) = self.directories.get(directory) else { return };
        let path = directory.join(name);
        if !is_directory {
            if (wanted.takes)(name) && !self.newcomers.contains(&path) {
                self.newcomers.push(path);
            }
        } else if (wanted.enters)(name)
            && self.directories.len() < MOST_DIRECTORIES
            && !self.directories.contains_key(&path)
        {
            let wanted = Arc::clone(wanted);
            self.unread.push(path.clone());
            self.incomplete = true;
            self.directories.insert(path, Directory { wanted, watch: None, is_below: true });
        }
    }

    /// A directory and those below it.
    fn tree(&self, path: &Path) -> Vec<PathBuf> {
        let below = self.directories.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
        below.map(|(below, _)| below).take_while(|below| below.starts_with(path)).cloned().collect()
    }

    /// Their watches may stay in the kernel: events of a watch without a directory are not looked at.
    fn forget(&mut self, path: &Path) {
        self.unwatch(path);
        self.tree(path).iter().for_each(|gone| drop(self.directories.remove(gone)));
    }

    fn unwatch(&mut self, path: &Path) {
        self.incomplete = true;
        for path in self.tree(path) {
            let watch = self.directories.get_mut(&path).and_then(|directory| directory.watch.take());
            watch.map(|watch| self.watched.remove(&watch));
        }
    }

    /// Events of a directory were lost, or it is elsewhere now: it is looked for again.
    fn lose(&mut self, event: &InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            self.look_again();
        } else if let Some(path) = self.watched.get(&event.wd).cloned() {
            self.unwatch(&path);
        }
    }

    /// Events were lost: all directories are read again.
    fn look_again(&mut self) {
        self.watched.clear();
        self.incomplete = true;
        self.directories.values_mut().for_each(|directory| directory.watch = None);
    }

    /// Watches the directories that have come meanwhile, and reads what is in them.
    fn watch_missing(&mut self) {
        if !self.incomplete {
            return;
        }
        let missing = self.directories.iter().filter(|(_, directory)| directory.watch.is_none());
        self.unread = missing.map(|(path, _)| path.clone()).collect();
        // Reading one may find another.
        while let Some(path) = self.unread.pop() {
            self.watch_one(&path);
        }
        self.incomplete = self.directories.values().any(|directory| directory.watch.is_none());
    }

    fn watch_one(&mut self, path: &Path) {
        let Some(directory) = self.directories.get_mut(path) else { return };
        match add(self.inotify.as_ref(), path, directory.is_below) {
            Ok(watch) => {
                directory.watch = Some(watch);
                self.watched.insert(watch, path.to_owned());
            }
            Err(_) if directory.is_below && !is_directory(path) => return self.forget(path),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return,
            Err(_) => {}
        }
        match names_in(path) {
            Ok(names) => names.iter().for_each(|(name, is_directory)| self.note(path, name, *is_directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // The next look tries again.
            Err(_) => self.unwatch(path),
        }
    }

    /// The first file that may be a database of a watched directory and is not known.
    pub fn newcomer(&mut self, is_known: impl Fn(&Path) -> bool) -> Option<&Path> {
        self.newcomers.retain(|path| !is_known(path) && may_be_database(path));
        self.newcomers.iter().map(PathBuf::as_path).find(|path| !files::is_empty(path))
    }
}

/// Not what is gone, and not what is something else. An empty file may become a database.
fn may_be_database(path: &Path) -> bool {
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    is_file && (files::is_empty(path) || !matches!(files::kind(path), Ok(Kind::Other)))
}

fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// The names in a directory, and which of them are directories.
fn names_in(path: &Path) -> io::Result<Vec<(OsString, bool)>> {
    rights::within_directory(path, None, || {
        let dir = Dir::open(path)?;
        let is_directory =
            |name: &OsStr| matches!(dir.stat(name), Ok(Some(found)) if found.kind == rights::Kind::Directory);
        let names = dir.names()?.into_iter();
        Ok(names
            .map(|name| (is_directory(&name), name))
            .map(|(is_directory, name)| (name, is_directory))
            .collect())
    })
}

/// `is_below`: a link is not followed.
fn add(inotify: Option<&Inotify>, directory: &Path, is_below: bool) -> Result<WatchDescriptor, Errno> {
    let names = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
    let own = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ONLYDIR;
    let link = if is_below { AddWatchFlags::IN_DONT_FOLLOW } else { AddWatchFlags::empty() };
    inotify.ok_or(Errno::ENOSYS)?.add_watch(directory, names | own | link)
}

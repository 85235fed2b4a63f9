//! Notices when a database's files are replaced and when a database appears in a watched directory. The kernel queues such an event
//! before the call that causes it returns, so a look that drains the queue first misses none. Commits cause no event here. What
//! cannot be watched is looked at each time.

use crate::model::DbPath;
use crate::rights::{self, Dir};
use crate::sqlite::files::{self, Kind};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Whether a file of this name is a database of the directory.
pub type Takes = Box<dyn Fn(&OsStr) -> bool + Send>;

struct Directory {
    path: PathBuf,
    takes: Takes,
    watch: Option<WatchDescriptor>,
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
    directories: Vec<Directory>,
    /// Files in the directories that may be databases.
    newcomers: Vec<PathBuf>,
}

impl Changes {
    pub fn new() -> Changes {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        Changes { inotify, names: HashMap::new(), directories: Vec::new(), newcomers: Vec::new() }
    }

    /// Watches the files of one database. False: they must be looked at each time.
    pub fn watch(&mut self, db: &DbPath, database: usize) -> bool {
        let Ok(watch) = add(self.inotify.as_ref(), db.directory()) else { return false };
        for file in [db.as_path(), &db.wal(), &db.shm()] {
            let name = file.file_name().map(OsString::from).unwrap_or_default();
            self.names.insert((watch, name), database);
        }
        true
    }

    /// Databases in this directory that are not known make `newcomer` true from now on.
    pub fn watch_directory(&mut self, path: PathBuf, takes: Takes) {
        self.directories.push(Directory { path, takes, watch: None });
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
            self.look_again();
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.names.retain(|(watch, _), _| *watch != event.wd);
        }
        let Some(name) = event.name else { return };
        for directory in self.directories.iter().filter(|directory| directory.watch == Some(event.wd)) {
            let path = directory.path.join(&name);
            if (directory.takes)(&name) && !self.newcomers.contains(&path) {
                self.newcomers.push(path);
            }
        }
        if let Some(database) = self.names.get(&(event.wd, name)) {
            suspect(Suspect::One(*database));
        }
    }

    /// Events were lost: all directories are read again.
    fn look_again(&mut self) {
        self.directories.iter_mut().for_each(|directory| directory.watch = None);
    }

    /// Watches the directories that have come meanwhile, and reads what is in them.
    fn watch_missing(&mut self) {
        let Changes { inotify, directories, newcomers, .. } = self;
        for directory in directories.iter_mut().filter(|directory| directory.watch.is_none()) {
            match add(inotify.as_ref(), &directory.path) {
                Ok(watch) => directory.watch = Some(watch),
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                Err(_) => {}
            }
            let names = rights::within_directory(&directory.path, None, || Dir::open(&directory.path)?.names());
            let taken = names.unwrap_or_default().into_iter().filter(|name| (directory.takes)(name));
            let paths = taken.map(|name| directory.path.join(name));
            newcomers.extend(paths.filter(|path| !newcomers.contains(path)).collect::<Vec<_>>());
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

fn add(inotify: Option<&Inotify>, directory: &Path) -> Result<WatchDescriptor, Errno> {
    let names = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
    let own = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ONLYDIR;
    inotify.ok_or(Errno::ENOSYS)?.add_watch(directory, names | own)
}

//! The files of a directory entry that match its pattern, by their first bytes, in one directory and in its
//! subdirectories. No symbolic link is followed.

use super::Refused;
use crate::config::{DirectorySettings, MOST_DEPTH};
use crate::model::DbPath;
use crate::rights::{self, Dir};
use crate::sqlite::files::{self, Kind};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Directories of one entry that are searched.
pub(super) const MOST_DIRECTORIES: usize = 10_000;

/// All paths are below the entry's directory, which is "".
#[derive(Default)]
pub(super) struct Names {
    pub databases: BTreeSet<String>,
    /// Files of 0 bytes, which may become databases.
    pub empty: BTreeSet<String>,
    pub others: BTreeSet<PathBuf>,
    /// Databases that cannot be replicated under their names, and directories that are not searched.
    pub unfit: BTreeMap<PathBuf, String>,
    /// Subdirectories that were found and not read yet.
    pub directories: VecDeque<PathBuf>,
    /// Symbolic links that may lead to directories.
    pub links: BTreeSet<PathBuf>,
    /// Directories that cannot be read, and why.
    pub unreadable: BTreeMap<PathBuf, String>,
}

impl Names {
    /// A missing directory has no files.
    pub fn read(entry: &DirectorySettings) -> Names {
        let mut names = Names::default();
        names.directories.push_back(PathBuf::new());
        let mut count = 0;
        while let Some(directory) = names.directories.pop_front() {
            count += 1;
            if count > MOST_DIRECTORIES {
                names.unfit.insert(directory, too_many());
                break;
            }
            names.read_directory(entry, &directory, &HashSet::new());
        }
        names
    }

    /// One directory, without the databases in `known`. False: it cannot be read now.
    pub fn read_directory(
        &mut self,
        entry: &DirectorySettings,
        directory: &Path,
        known: &HashSet<String>,
    ) -> bool {
        let path = entry.dir.join(directory);
        let files = match files_in(&path) {
            Ok(files) => files,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return true;
            }
            Err(error) => {
                self.unreadable.insert(directory.to_owned(), error.to_string());
                return false;
            }
        };
        for (name, kind) in files {
            let relative = directory.join(&name);
            match kind {
                rights::Kind::Directory if entry.enters(&name) => self.add_directory(relative),
                rights::Kind::Link if entry.enters(&name) => drop(self.links.insert(relative)),
                _ => self.add(entry, (relative, &name), kind == rights::Kind::File, known),
            }
        }
        true
    }

    fn add_directory(&mut self, directory: PathBuf) {
        if directory.components().count() > MOST_DEPTH {
            let why = format!("directories more than {MOST_DEPTH} levels below `dir` are not searched");
            self.unfit.insert(directory, why);
        } else {
            self.directories.push_back(directory);
        }
    }

    fn add(
        &mut self,
        entry: &DirectorySettings,
        (relative, name): (PathBuf, &OsStr),
        is_file: bool,
        known: &HashSet<String>,
    ) {
        // A killed restore has set it aside: the next one puts it back.
        let aside = relative.to_str().and_then(|name| name.strip_suffix(DbPath::ASIDE));
        let aside = aside.filter(|name| entry.takes(name) && entry.problem(Path::new(name)).is_none());
        if let Some(aside) = aside.filter(|name| !known.contains(*name)) {
            self.databases.insert(aside.to_owned());
            return;
        }
        if !is_file || !entry.matches(&name.to_string_lossy()) {
            return;
        }
        let path = entry.dir.join(&relative);
        if let Some(problem) = entry.problem(&relative) {
            if matches!(files::kind(&path), Ok(Kind::Sqlite | Kind::Empty)) {
                self.unfit.insert(relative, format!("{problem}; rename it"));
            }
            return;
        }
        let Some(name) = relative.to_str().filter(|name| !known.contains(*name)) else { return };
        match files::kind(&path) {
            Ok(Kind::Sqlite) => drop(self.databases.insert(name.to_owned())),
            Ok(Kind::Empty) => drop(self.empty.insert(name.to_owned())),
            Ok(Kind::Other) => drop(self.others.insert(relative)),
            Err(error) => tracing::warn!("cannot read {}: {error}", path.display()),
        }
    }

    pub fn refused(&self, entry: &DirectorySettings) -> Vec<Refused> {
        let refused = |(name, why): (&PathBuf, &String)| Refused {
            db: DbPath::new(entry.dir.join(name)),
            why: why.clone(),
        };
        self.unfit.iter().map(refused).collect()
    }

    /// What a user could take for replicated.
    pub fn log_others(&self, entry: &DirectorySettings) {
        self.others.iter().for_each(|name| log_not_sqlite(&entry.dir, name));
        self.links.iter().for_each(|name| log_link(&entry.dir, name));
        for (directory, error) in &self.unreadable {
            tracing::warn!("cannot list the databases in {}: {error}", entry.dir.join(directory).display());
        }
    }
}

pub(super) fn too_many() -> String {
    format!(
        "directories beyond the {MOST_DIRECTORIES} first ones are not searched: give `dir` fewer \
         subdirectories"
    )
}

fn log_not_sqlite(dir: &Path, name: &Path) {
    tracing::warn!("{} is not an SQLite database: it is not replicated", dir.join(name).display());
}

fn log_link(dir: &Path, name: &Path) {
    let link = dir.join(name);
    let above = link.parent().unwrap_or(dir);
    // With the rights of the user who may have made it.
    if rights::within_directory(above, None, || link.is_dir()) {
        tracing::warn!(
            "{} is a symbolic link: it is not followed, and databases behind it are not replicated",
            link.display()
        );
    }
}

/// The names in a directory, with their kinds. No link is followed.
fn files_in(directory: &Path) -> io::Result<Vec<(OsString, rights::Kind)>> {
    rights::within_directory(directory, None, || {
        let dir = Dir::open(directory)?;
        let kind =
            |name: OsString| Some((dir.stat(&name).ok()??.kind, name)).map(|(kind, name)| (name, kind));
        Ok(dir.names()?.into_iter().filter_map(kind).collect())
    })
}

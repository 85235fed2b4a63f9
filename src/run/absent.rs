//! Warns about configured databases that do not exist while the app runs: nothing of them is replicated, and
//! a wrong path looks just like an app that has not created its database yet. `Schedule` (pure) decides when,
//! `describe` (pure) words the warning, `inspect` finds the SQLite files that may be meant.

use crate::config::DirectorySettings;
use crate::model::DbPath;
use crate::model::db_path::SIDE_SUFFIXES;
use crate::observe::StatusRegistry;
use crate::sqlite::files::{self, Kind};
use crate::supervise::open_files;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// If the app has other SQLite databases open by now, it probably uses another path than the configured one.
const EARLY: Duration = Duration::from_secs(10);
/// Apps create their database in the first seconds; slow ones (a JVM, migrations) within half a minute. To
/// create it later is no error, so this is a warning, and it ends when the database appears.
const LATE: Duration = Duration::from_secs(30);
/// The longest pause between two warnings.
const RARELY: Duration = Duration::from_secs(3600);
/// An inspection that takes longer (a dead network file system) is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many directory entries are read, and how many files are named.
const ENTRIES: usize = 1000;
const NAMED: usize = 5;

/// When absent databases are reported. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    begun: Instant,
    due: Instant,
}

impl Schedule {
    /// `begun`: shortly before the start of the app.
    pub fn new(begun: Instant) -> Schedule {
        Schedule { begun, due: begun + EARLY }
    }

    pub fn due(&self) -> Instant {
        self.due
    }

    /// The report that is due now, and the schedule of the next one.
    pub fn take(self, now: Instant) -> (ReportIf, Schedule) {
        let age = now.saturating_duration_since(self.begun);
        let report_if = if age < LATE { ReportIf::SuspectsFound } else { ReportIf::Always { age } };
        let pause = if age < LATE { LATE - age } else { age.min(RARELY) };
        (report_if, Schedule { due: now + pause, ..self })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportIf {
    /// Only if the app has other SQLite databases open.
    SuspectsFound,
    Always {
        age: Duration,
    },
}

/// What is configured and does not exist.
#[derive(Clone, Debug)]
pub enum Absent {
    Database {
        db: DbPath,
        replica: String,
    },
    /// No file of the directory matches.
    Directory(Box<DirectorySettings>),
}

impl Absent {
    /// The database's path, or the directory with its pattern, as in the status.
    pub fn subject(&self) -> DbPath {
        match self {
            Absent::Database { db, .. } => db.clone(),
            Absent::Directory(entry) => pattern(entry),
        }
    }

    fn replica(&self) -> &str {
        match self {
            Absent::Database { replica, .. } => replica,
            Absent::Directory(entry) => &entry.each().replica.url,
        }
    }

    fn directory(&self) -> &Path {
        match self {
            Absent::Database { db, .. } => db.directory(),
            Absent::Directory(entry) => &entry.dir,
        }
    }
}

/// The name of a directory entry, where a database has its path.
pub fn pattern(entry: &DirectorySettings) -> DbPath {
    DbPath::new(entry.databases())
}

/// Who starts the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppKind {
    /// litevisor: its open files are known.
    Managed,
    /// Another program (`litevisor replicate`).
    External,
}

/// SQLite files that may be the configured ones under another name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Files that the app has open.
    pub open: BTreeSet<PathBuf>,
    /// Files in the configured directory.
    pub beside: BTreeSet<PathBuf>,
    /// The configured directory exists.
    pub directory: bool,
}

/// The text of the warning. Pure.
pub fn describe(absent: &Absent, app: AppKind, suspects: &Suspects) -> String {
    let what = match absent {
        Absent::Database { db, .. } => format!("there is no database at {db}"),
        Absent::Directory(entry) => {
            let below = if entry.recursive { " or below it" } else { "" };
            format!("no database in {}{below} matches {:?}", entry.dir.display(), entry.pattern.text())
        }
    };
    let mut text = format!("NOT REPLICATED: {what}");
    if !suspects.directory {
        text += &format!("; the directory {} does not exist", absent.directory().display());
    }
    if !suspects.open.is_empty() {
        text += &format!("; SQLite files that the app has open: {}", list(&suspects.open));
    }
    let beside: BTreeSet<PathBuf> = suspects.beside.difference(&suspects.open).cloned().collect();
    if !beside.is_empty() {
        text += &format!("; SQLite files in that directory: {}", list(&beside));
    }
    let key = match absent {
        Absent::Database { .. } => "`path`",
        Absent::Directory(_) => "`dir` and `pattern`",
    };
    let named = !suspects.open.is_empty() || !beside.is_empty();
    text += &match (absent, named) {
        (Absent::Directory(entry), _) if !entry.watch => {
            format!(". Correct {key}, or set `watch = true` if the app creates databases while it runs")
        }
        (_, true) => format!(". Did you mean one of them? Then correct {key}"),
        (_, false) if app == AppKind::Managed => {
            format!(
                ". Replication begins when the app creates it; if the app stores its data elsewhere, correct \
                 {key}"
            )
        }
        (_, false) => format!(". Replication begins when it is created; otherwise correct {key}"),
    };
    text
}

fn list(paths: &BTreeSet<PathBuf>) -> String {
    let named: Vec<String> = paths.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    let more = paths.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

/// The database of a file: `app.db` for `app.db-wal`. Pure.
fn database_of(path: &Path) -> PathBuf {
    let name = path.as_os_str().as_bytes();
    let main = SIDE_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix.as_bytes()));
    main.map_or_else(|| path.to_owned(), |main| PathBuf::from(OsStr::from_bytes(main)))
}

/// By the file's first bytes. Opens regular files only, and no database that litevisor has open.
fn is_sqlite(path: &Path) -> bool {
    let regular = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    let db = database_of(path);
    regular(&db)
        && (regular(DbPath::new(&*db).wal().as_path()) || matches!(files::kind(&db), Ok(Kind::Sqlite)))
}

/// Blocks. `known`: databases that are replicated.
fn suspects(absent: &Absent, open: &BTreeSet<PathBuf>, known: &BTreeSet<PathBuf>) -> Suspects {
    let directory = absent.directory();
    let mut beside = BTreeSet::new();
    let entries = std::fs::read_dir(directory);
    let there = entries.is_ok();
    for entry in entries.into_iter().flatten().flatten().take(ENTRIES) {
        let path = directory.join(entry.file_name());
        let ours =
            entry.file_name().as_bytes().starts_with(b".") || entry.file_name().as_bytes().ends_with(b"-shm");
        if !ours && is_sqlite(&path) {
            beside.insert(database_of(&path));
        }
    }
    // It may have been created meanwhile.
    let subject = absent.subject();
    let others = |found: &BTreeSet<PathBuf>| {
        found.difference(known).filter(|path| path.as_path() != subject.as_path()).cloned().collect()
    };
    Suspects { open: others(open), beside: others(&beside), directory: there }
}

/// The suspects for each absent database. Blocks.
fn inspect(absent: Vec<Absent>, app: AppKind, known: &BTreeSet<PathBuf>) -> Vec<(Absent, Suspects)> {
    let open: BTreeSet<PathBuf> = match app {
        AppKind::Managed => open_files::find(is_sqlite).iter().map(|path| database_of(path)).collect(),
        AppKind::External => BTreeSet::new(),
    };
    absent
        .into_iter()
        .map(|one| (suspects(&one, &open, known), one))
        .map(|(found, one)| (one, found))
        .collect()
}

/// Reports each absent database in the log and in the status registry.
pub async fn report(
    absent: Vec<Absent>,
    app: AppKind,
    known: BTreeSet<PathBuf>,
    report_if: ReportIf,
    registry: Arc<StatusRegistry>,
) {
    let all = absent.clone();
    let looking = tokio::task::spawn_blocking(move || inspect(all, app, &known));
    let found = match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(found)) => found,
        _ => {
            absent.into_iter().map(|one| (one, Suspects { directory: true, ..Suspects::default() })).collect()
        }
    };
    for (one, suspects) in found {
        let age = match report_if {
            ReportIf::SuspectsFound if suspects.open.is_empty() => continue,
            ReportIf::SuspectsFound => EARLY,
            ReportIf::Always { age } => age,
        };
        let text = describe(&one, app, &suspects);
        let subject = one.subject();
        tracing::warn!(db = %subject, replica = one.replica(), since_seconds = age.as_secs(), "{text}");
        registry.absent(&subject, text.trim_start_matches("NOT REPLICATED: ").to_owned());
    }
}

#[cfg(test)]
#[path = "absent/tests.rs"]
mod tests;

//! `[[database]]`, or a `--db`/`--replica` pair → `DatabaseSettings`.

use super::directory::{self, Many};
use super::problem::{ConfigError, Place};
use super::reader::Outside;
use super::replica::{self, ReadReplica};
use super::section::{At, Section};
use super::{DatabaseSettings, units, url};
use crate::model::DbPath;
use crate::replicate::{OnConflict, ReplicateSettings, Retention};
use crate::restore::OnRestoreFailure;
use crate::store::StoreSettings;
use std::path::Path;
use std::time::Duration;

/// One database, with what only the checks across databases need.
pub struct Parsed {
    pub settings: DatabaseSettings,
    /// The path is a directory, the replica a prefix.
    pub many: Option<Many>,
    /// Where its path and its replica's URL were written.
    pub path_place: Place,
    pub url_place: Place,
    /// The variables that its replica's credentials were expanded from.
    pub secret_variables: Vec<String>,
}

/// A year: longer spans are slips of the pen.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
const SHORTEST: Duration = Duration::from_millis(100);

pub fn read(mut section: Section<'_, '_>, outside: Outside<'_>) -> Option<Parsed> {
    let path = directory::place(&mut section, outside.working_dir);
    let mode = section.parsed("mode", units::mode).map(|at| at.value);
    let owner = section.parsed("owner", units::user).map(|at| at.value);
    let choices = [("abort", OnRestoreFailure::Abort), ("start", OnRestoreFailure::Start)];
    let on_restore_failure = section.choice("on_restore_failure", &choices).unwrap_or_default();
    let mut replicate = ReplicateSettings::default();
    read_replicate(&mut section, &mut replicate);
    let replica = match section.table("replica") {
        Some(replica) => replica::read(replica, outside, &mut replicate),
        None => {
            if section.written("replica").is_none() {
                section.complain(&section.place, "has no replica: add [database.replica] with a url");
            }
            None
        }
    };
    section.finish(&[
        ("sync_interval", "belongs into [database.replica]"),
        ("url", "belongs into [database.replica]"),
        ("recursive", "does not exist: add an entry for each directory"),
    ]);
    let ((At { value: path, place: path_place }, many), replica) = (path?, replica?);
    let ReadReplica { store, url_place, secret_variables } = replica;
    let settings = DatabaseSettings { path, owner, mode, on_restore_failure, replicate, replica: store };
    Some(Parsed { settings, many, path_place, url_place, secret_variables })
}

pub(super) fn database_path(text: &str, working_dir: &Path) -> Result<DbPath, String> {
    let path = url::absolute(Path::new(text), working_dir);
    if text.contains("://") {
        return Err("is no file: give the database's path".into());
    }
    if text.ends_with('/') || path.file_name().is_none() {
        return Err(format!("names a directory ({text}), not a database file"));
    }
    Ok(DbPath::new(path))
}

fn read_replicate(section: &mut Section<'_, '_>, replicate: &mut ReplicateSettings) {
    if let Some(checkpoint) = section.table("checkpoint") {
        read_checkpoint(checkpoint, replicate);
    }
    replicate.wal_limit = section.size("wal_limit", 1 << 20..=64 << 30).unwrap_or(replicate.wal_limit);
    replicate.spill_limit = section.size("spill_limit", 0..=1 << 40).unwrap_or(replicate.spill_limit);
    if let Some(levels) = section.durations("levels", SHORTEST..=LONGEST) {
        let rising = levels.value.is_sorted_by(|shorter, longer| shorter < longer);
        if levels.value.len() > 8 || !rising {
            section.complain(&levels.place, "must hold at most 8 spans, each longer than the one before");
        }
        replicate.levels = levels.value;
    }
    if let Some(mut snapshot) = section.table("snapshot") {
        let interval = snapshot.duration("interval", SHORTEST..=LONGEST).map(|at| at.value);
        replicate.snapshot_interval = interval.unwrap_or(replicate.snapshot_interval);
        snapshot.finish(&[("retention", "is written as retention = { snapshots = \"24h\" }")]);
    }
    if let Some(retention) = section.table("retention") {
        replicate.retention = read_retention(retention);
    }
    let choices = [("exit", OnConflict::Exit), ("continue", OnConflict::Continue)];
    replicate.on_conflict = section.choice("on_conflict", &choices).unwrap_or_default();
}

fn read_retention(mut section: Section<'_, '_>) -> Option<Retention> {
    let default = Retention::default();
    let mut span = |key: &str, default| section.duration(key, SHORTEST..=LONGEST).map_or(default, |at| at.value);
    let retention = Retention { snapshots: span("snapshots", default.snapshots), raw: span("l0", default.raw) };
    let enabled = section.flag("enabled").unwrap_or(true);
    section.finish(&[]);
    enabled.then_some(retention)
}

fn read_checkpoint(mut section: Section<'_, '_>, replicate: &mut ReplicateSettings) {
    replicate.checkpoint_bytes = section.size("bytes", 64 << 10..=16 << 30).unwrap_or(replicate.checkpoint_bytes);
    let interval = section.duration("interval", Duration::from_secs(1)..=Duration::from_secs(86_400));
    replicate.checkpoint_interval = interval.map_or(replicate.checkpoint_interval, |at| at.value);
    section.finish(&[]);
}

pub fn from_pair(path: &Path, url: &str, outside: Outside<'_>) -> Result<Parsed, ConfigError> {
    let (path_place, url_place) = (Place::option("--db"), Place::option("--replica"));
    let shown = path.to_str().ok_or_else(|| ConfigError::one(path_place.clone(), "is not valid UTF-8"))?;
    let path =
        database_path(shown, outside.working_dir).map_err(|message| ConfigError::one(path_place.clone(), message))?;
    let settings = DatabaseSettings {
        path,
        owner: None,
        mode: None,
        on_restore_failure: OnRestoreFailure::default(),
        replicate: ReplicateSettings::default(),
        replica: replica::from_url_alone(&url_place, url, outside)?,
    };
    Ok(Parsed { settings, many: None, path_place, url_place, secret_variables: Vec::new() })
}

/// Two databases on one replica, or one database twice. Two writers on one replica would fence each other off.
pub fn doubles(databases: &[Parsed]) -> Vec<(Place, String)> {
    let mut found = directory::overlaps(databases);
    for (index, later) in databases.iter().enumerate() {
        let both_single = |earlier: &&Parsed| earlier.many.is_none() && later.many.is_none();
        for earlier in databases.iter().take(index).filter(both_single) {
            if earlier.settings.path == later.settings.path {
                let told = format!("is configured twice: {} ({})", later.settings.path, earlier.path_place.short());
                found.push((later.path_place.clone(), told));
            }
            if same_place(&earlier.settings.replica, &later.settings.replica) {
                let told = format!(
                    "is the replica of {} already ({}): every database needs a path of its own",
                    earlier.settings.path,
                    earlier.url_place.short()
                );
                found.push((later.url_place.clone(), told));
            }
        }
        if Path::new(&later.settings.replica.path) == later.settings.path.as_path() {
            found.push((later.url_place.clone(), "is the database's own path: name another directory".into()));
        }
    }
    found
}

fn same_place(a: &StoreSettings, b: &StoreSettings) -> bool {
    a.same_service(b) && a.path == b.path
}

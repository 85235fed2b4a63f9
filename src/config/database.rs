//! `[[database]]`, or a `--db`/`--replica` pair → `DatabaseSettings`.

use super::directory::{Directory, Pattern};
use super::document::Document;
use super::environment::Environment;
use super::problem::{ConfigError, Location};
use super::replica::{self, ReadReplica, ReplicaSection};
use super::settings::DatabaseSettings;
use super::units;
use super::values::{Count, DAY, GIB, KIB, Key, MIB, Size, Span, Spans};
use crate::model::{DbPath, name_problem};
use crate::replicate::{LockingMode, OnConflict, ReplicateSettings, Retention, Tiers};
use crate::restore::OnRestoreFailure;
use serde::Deserialize;
use std::path::{Component, Path, PathBuf};

/// A year, in milliseconds: longer spans are mistakes.
const YEAR: u64 = 366 * DAY;
type Interval = Span<100, YEAR>;

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct DatabaseSection {
    path: Key<String>,
    dir: Key<String>,
    pattern: Key<String>,
    watch: Key<bool>,
    recursive: Key<bool>,
    owner: Key<String>,
    mode: Key<String>,
    meta_dir: Key<String>,
    on_restore_failure: Key<OnRestoreFailure>,
    checkpoint: Key<Checkpoint>,
    wal_limit: Key<Size<MIB, { 64 * GIB }>>,
    spill_limit: Key<Size<0, { 1024 * GIB }>>,
    levels: Key<Spans<100, YEAR>>,
    snapshot: Key<Snapshot>,
    retention: Key<RetentionSection>,
    on_conflict: Key<OnConflict>,
    locking_mode: Key<LockingMode>,
    replica: Key<ReplicaSection>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Checkpoint {
    bytes: Key<Size<{ 64 * KIB }, { 16 * GIB }>>,
    interval: Key<Span<1_000, DAY>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Snapshot {
    interval: Key<Interval>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RetentionSection {
    snapshots: Key<Interval>,
    l0: Key<Interval>,
    hourly: Key<Count<0, 1000>>,
    daily: Key<Count<0, 1000>>,
    weekly: Key<Count<0, 1000>>,
    monthly: Key<Count<0, 1000>>,
    enabled: Key<bool>,
}

/// An entry, with what the checks across all entries need.
pub struct Parsed {
    pub settings: DatabaseSettings,
    /// The path is a directory, the replica a prefix.
    pub directory: Option<Directory>,
    pub path_location: Location,
    pub meta_location: Option<Location>,
    pub url_location: Location,
    /// The variables that the replica's credentials were made of.
    pub secret_variables: Vec<String>,
}

pub fn read(section: Key<DatabaseSection>, document: &Document<'_>) -> Option<Parsed> {
    let location = section.location?;
    let section = section.value?;
    let path = database_path(&section, &location, document);
    let mode = document.parsed(&section.mode, units::mode);
    let owner = document.parsed(&section.owner, units::user);
    let meta_dir = document.parsed(&section.meta_dir, |text| meta_dir(text, document.environment));
    let meta_location = section.meta_dir.location.clone();
    let on_restore_failure = section.on_restore_failure.or(OnRestoreFailure::default());
    if !section.replica.is_written() {
        document.complain(&location, "has no replica: add [database.replica] with a url");
    }
    let sync_interval = section.replica.value.as_ref().and_then(|replica| replica.sync_interval.value);
    let replica = replica::read(section.replica, document);
    let mut replicate = ReplicateSettings::default();
    if let Some(levels) = section.levels.value.as_ref() {
        replicate.levels = levels.0.iter().map(|span| span.0).collect();
        if replicate.levels.len() > 8 || !replicate.levels.is_sorted_by(|shorter, longer| shorter < longer) {
            let message = "must hold at most 8 spans, each longer than the one before";
            document.complain_if_written(&section.levels, message);
        }
    }
    let Checkpoint { bytes, interval } = section.checkpoint.or(Checkpoint::default());
    replicate.sync_interval = sync_interval.map_or(replicate.sync_interval, |span| span.0);
    replicate.checkpoint_bytes = bytes.value.map_or(replicate.checkpoint_bytes, |size| size.0);
    replicate.checkpoint_interval = interval.value.map_or(replicate.checkpoint_interval, |span| span.0);
    replicate.wal_limit = section.wal_limit.value.map_or(replicate.wal_limit, |size| size.0);
    replicate.spill_limit = section.spill_limit.value.map_or(replicate.spill_limit, |size| size.0);
    let snapshot = section.snapshot.or(Snapshot::default()).interval.value;
    replicate.snapshot_interval = snapshot.map_or(replicate.snapshot_interval, |span| span.0);
    replicate.retention = retention(section.retention.or(RetentionSection::default()));
    replicate.on_conflict = section.on_conflict.or(OnConflict::default());
    replicate.locking_mode = section.locking_mode.or(LockingMode::default());
    let unclear = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    let paths = [path.as_ref().map(|(path, ..)| path.as_path()), meta_dir.as_deref()];
    if meta_dir.is_some() && paths.into_iter().flatten().any(unclear) {
        let message = "needs paths without \"..\": the database's own path names its files there";
        document.complain_if_written(&section.meta_dir, message);
    }
    let ((path, path_location, directory), ReadReplica { store, url_location, secret_variables }) =
        (path?, replica?);
    let settings =
        DatabaseSettings { path, owner, mode, meta_dir, on_restore_failure, replicate, replica: store };
    Some(Parsed { settings, directory, path_location, meta_location, url_location, secret_variables })
}

fn retention(section: RetentionSection) -> Option<Retention> {
    let default = Retention::default();
    let snapshots = section.snapshots.value.map_or(default.snapshots, |span| span.0);
    let raw = section.l0.value.map_or(default.raw, |span| span.0);
    let count = |key: Key<Count<0, 1000>>| {
        key.value.and_then(|count| u32::try_from(count.0).ok()).unwrap_or_default()
    };
    let RetentionSection { hourly, daily, weekly, monthly, .. } = section;
    let tiers =
        Tiers { hourly: count(hourly), daily: count(daily), weekly: count(weekly), monthly: count(monthly) };
    section.enabled.or(true).then_some(Retention { snapshots, raw, tiers })
}

/// `path`, or `dir` with `pattern`, `watch` and `recursive`, and the location of the former.
fn database_path(
    section: &DatabaseSection,
    location: &Location,
    document: &Document<'_>,
) -> Option<(DbPath, Location, Option<Directory>)> {
    let DatabaseSection { path, dir, pattern, watch, recursive, .. } = section;
    let parsed_pattern = document.parsed(pattern, Pattern::parse);
    if path.is_written() && dir.is_written() {
        let message = "cannot be given together with path: dir is for all databases of a directory";
        document.complain_if_written(dir, message);
        return None;
    }
    if dir.is_written() {
        let parsed = document.parsed(dir, |text| match text.contains("://") {
            true => Err("is no directory of this machine".into()),
            false => Ok(DbPath::new(document.environment.absolute(text))),
        })?;
        let default = || Pattern::parse("*.db").ok().filter(|_| !pattern.is_written());
        let pattern = parsed_pattern.or_else(default)?;
        let watch = watch.value.unwrap_or(true);
        let recursive = recursive.value.unwrap_or(false);
        if recursive && pattern.text() == "*" {
            let message = "matches every subdirectory, too, and a prefix in the replica is a database's or a \
                subdirectory's: with recursive = true, give a pattern that no subdirectory matches, such as \
                \"*.db\"";
            document.complain_if_written(&section.pattern, message);
        }
        let directory = Directory { pattern, watch, recursive };
        return Some((parsed, dir.location.clone()?, Some(directory)));
    }
    for location in [&pattern.location, &watch.location, &recursive.location].into_iter().flatten() {
        document.complain(location, "belongs to dir, which names a directory of databases");
    }
    if !path.is_written() {
        document.complain(
            location,
            "has no path: give the database's file, or dir for all databases of a directory",
        );
    }
    let parsed = document.parsed(path, |text| file_path(text, document.environment))?;
    Some((parsed, path.location.clone()?, None))
}

fn meta_dir(text: &str, environment: Environment<'_>) -> Result<PathBuf, String> {
    if text.contains("://") {
        Err("is no directory of this machine".into())
    } else {
        Ok(environment.absolute(text))
    }
}

fn file_path(text: &str, environment: Environment<'_>) -> Result<DbPath, String> {
    let path = environment.absolute(text);
    if text.contains("://") {
        return Err("is no file: give the database's path".into());
    }
    if text.ends_with('/') || path.file_name().is_none() {
        return Err(format!("names a directory ({text}), not a database file"));
    }
    if let Some(problem) = path.file_name().and_then(|name| name_problem(name, false)) {
        return Err(format!("cannot be replicated: {problem}"));
    }
    Ok(DbPath::new(path))
}

pub fn from_pair(path: &Path, url: &str, environment: Environment<'_>) -> Result<Parsed, ConfigError> {
    let path_location = Location::option("--db");
    let url_location = Location::option("--replica");
    let path = path.to_str().ok_or_else(|| "is not valid UTF-8".to_owned());
    let path = path.and_then(|path| file_path(path, environment));
    let settings = DatabaseSettings {
        path: path.map_err(|message| ConfigError::single(path_location.clone(), message))?,
        owner: None,
        mode: None,
        meta_dir: None,
        on_restore_failure: OnRestoreFailure::default(),
        replicate: ReplicateSettings::default(),
        replica: replica::from_url_alone(&url_location, url, environment)?,
    };
    Ok(Parsed {
        settings,
        directory: None,
        path_location,
        meta_location: None,
        url_location,
        secret_variables: Vec::new(),
    })
}

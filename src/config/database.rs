//! `[[database]]` and `[database.replica]`, or a `--db`/`--replica` pair → `DatabaseSettings`.

use super::problem::{ConfigError, Place};
use super::section::{Outside, SecretText, Section};
use super::url::{self, ReplicaUrl};
use super::{DatabaseSettings, units};
use crate::model::{DbPath, Secret};
use crate::replicate::ReplicateSettings;
use crate::restore::OnRestoreFailure;
use crate::store::{Scheme, StoreSettings};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One database, with what only the checks across databases need.
pub struct Parsed {
    pub settings: DatabaseSettings,
    /// Where its path and its replica's URL were written.
    pub path_place: Place,
    pub url_place: Place,
    /// The variables that its replica's credentials were expanded from.
    pub secret_variables: Vec<String>,
}

const LATER: &str = "is not available in this version: remove the key";
const OTHER_STORES: [(&str, &str); 8] = [
    ("credentials_file", "belongs to gs:// replicas, which are not available in this version"),
    ("account_key", "belongs to abs:// replicas, which are not available in this version"),
    ("sas_token", "belongs to abs:// replicas, which are not available in this version"),
    ("password", "belongs to sftp:// replicas, which are not available in this version"),
    ("key_file", "belongs to sftp:// replicas, which are not available in this version"),
    ("host_key", "belongs to sftp:// replicas, which are not available in this version"),
    ("known_hosts_file", "belongs to sftp:// replicas, which are not available in this version"),
    ("skip_verify", "does not exist: certificates are always verified; name your own CA with ca_file"),
];
/// Keys that say nothing about a directory.
const S3_ONLY: [&str; 17] = [
    "endpoint",
    "region",
    "force_path_style",
    "access_key_id",
    "access_key_id_file",
    "secret_access_key",
    "secret_access_key_file",
    "session_token",
    "session_token_file",
    "profile",
    "storage_class",
    "sse_kms_key_id",
    "sse_c_key",
    "sse_c_key_file",
    "ca_file",
    "part_size",
    "concurrency",
];

pub fn read(mut section: Section<'_, '_>, outside: Outside<'_>) -> Option<Parsed> {
    let path = section.text("path");
    if path.is_none() && section.written("path").is_none() {
        section.complain(&section.place, "has no path: give the database's file");
    }
    let mode = section.parsed("mode", units::mode).map(|at| at.value);
    let owner = section.parsed("owner", units::user).map(|at| at.value);
    let choices = [("abort", OnRestoreFailure::Abort), ("start", OnRestoreFailure::Start)];
    let on_restore_failure = section.choice("on_restore_failure", &choices).unwrap_or_default();
    let mut replicate = ReplicateSettings::default();
    if let Some(checkpoint) = section.table("checkpoint") {
        read_checkpoint(checkpoint, &mut replicate);
    }
    let replica = match section.table("replica") {
        Some(replica) => read_replica(replica, outside, &mut replicate),
        None => {
            if section.written("replica").is_none() {
                section.complain(&section.place, "has no replica: add [database.replica] with a url");
            }
            None
        }
    };
    let path = path.and_then(|path| match database_path(&path.value.text, outside.working_dir) {
        Ok(db) => Some((db, path.place)),
        Err(message) => {
            section.complain(&path.place, message);
            None
        }
    });
    section.finish(&[
        ("snapshot", LATER),
        ("retention", LATER),
        ("levels", LATER),
        ("wal_limit", LATER),
        ("sync_interval", "belongs into [database.replica]"),
        ("url", "belongs into [database.replica]"),
    ]);
    let ((path, path_place), replica) = (path?, replica?);
    let ReadReplica { store, url_place, secret_variables } = replica;
    let settings = DatabaseSettings { path, owner, mode, on_restore_failure, replicate, replica: store };
    Some(Parsed { settings, path_place, url_place, secret_variables })
}

fn database_path(text: &str, working_dir: &Path) -> Result<DbPath, String> {
    let path = url::absolute(Path::new(text), working_dir);
    if text.contains("://") {
        return Err("is no file: give the database's path".into());
    }
    if text.ends_with('/') || path.file_name().is_none() {
        return Err(format!("names a directory ({text}), not a database file"));
    }
    Ok(DbPath::new(path))
}

fn read_checkpoint(mut section: Section<'_, '_>, replicate: &mut ReplicateSettings) {
    replicate.checkpoint_bytes = section.size("bytes", 64 << 10..=16 << 30).unwrap_or(replicate.checkpoint_bytes);
    let interval = section.duration("interval", Duration::from_secs(1)..=Duration::from_secs(86_400));
    replicate.checkpoint_interval = interval.map_or(replicate.checkpoint_interval, |at| at.value);
    section.finish(&[]);
}

struct ReadReplica {
    store: StoreSettings,
    url_place: Place,
    secret_variables: Vec<String>,
}

fn read_replica(
    mut section: Section<'_, '_>,
    outside: Outside<'_>,
    replicate: &mut ReplicateSettings,
) -> Option<ReadReplica> {
    if section.written("url").is_none() {
        section.complain(&section.place, "has no url: write for example s3://bucket/prefix or file:///directory");
    }
    let url = section.parsed("url", |text| url::parse(text, outside.working_dir));
    let interval = section.duration("sync_interval", Duration::from_millis(10)..=Duration::from_secs(86_400));
    replicate.sync_interval = interval.map_or(replicate.sync_interval, |at| at.value);
    if url.as_ref().is_some_and(|url| url.value.scheme == Scheme::File) {
        for place in S3_ONLY.iter().filter_map(|key| section.written(key)) {
            section.complain(&place, "belongs to s3:// replicas; this one is a directory");
        }
    }
    let secrets = read_secrets(&mut section);
    let options = read_options(&mut section, url.as_ref().map(|url| &url.value), outside);
    section.finish(&OTHER_STORES);
    let (url, secrets) = (url?, secrets?);
    let mut store = from_url(url.value);
    options.apply(&mut store);
    let mut secret_variables = Vec::new();
    let mut keep = |secret: Option<SecretText>| {
        let secret = secret?;
        secret_variables.extend(secret.variables);
        Some(secret.secret)
    };
    store.access_key_id = keep(secrets.access_key_id).map(|secret| secret.reveal().to_owned());
    store.secret_access_key = keep(secrets.secret_access_key);
    store.session_token = keep(secrets.session_token);
    store.sse_c_key = keep(secrets.sse_c_key);
    litestream_fallback(&mut store, outside);
    Some(ReadReplica { store, url_place: url.place, secret_variables })
}

struct Secrets {
    access_key_id: Option<SecretText>,
    secret_access_key: Option<SecretText>,
    session_token: Option<SecretText>,
    sse_c_key: Option<SecretText>,
}

/// None when a key without its partner was given.
fn read_secrets(section: &mut Section<'_, '_>) -> Option<Secrets> {
    let id = section.secret("access_key_id");
    let secret = section.secret("secret_access_key");
    let token = section.secret("session_token");
    let sse_c_key = section.secret("sse_c_key").map(|at| at.value);
    let given =
        |section: &Section<'_, '_>, key: &str| section.written(key).or_else(|| section.written(&format!("{key}_file")));
    let pairs = [("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")];
    for (one, other) in pairs.into_iter().chain([("session_token", "secret_access_key")]) {
        if let (Some(place), None) = (given(section, one), given(section, other)) {
            section.complain(&place, format!("needs {other} beside it"));
            return None;
        }
    }
    let profile = section.written("profile");
    if let (Some(place), Some(_)) = (profile, &id) {
        section.complain(&place, "cannot be given together with access_key_id: keep one of the two");
        return None;
    }
    Some(Secrets {
        access_key_id: id.map(|at| at.value),
        secret_access_key: secret.map(|at| at.value),
        session_token: token.map(|at| at.value),
        sse_c_key,
    })
}

#[derive(Default)]
struct Options {
    endpoint: Option<String>,
    region: Option<String>,
    force_path_style: Option<bool>,
    profile: Option<String>,
    storage_class: Option<String>,
    sse_kms_key_id: Option<String>,
    ca_file: Option<PathBuf>,
    part_size: Option<u64>,
    concurrency: Option<usize>,
}

fn read_options(section: &mut Section<'_, '_>, url: Option<&ReplicaUrl>, outside: Outside<'_>) -> Options {
    let twice = [
        ("endpoint", url.is_some_and(|url| url.endpoint.is_some())),
        ("region", url.is_some_and(|url| url.region.is_some())),
        ("force_path_style", url.is_some_and(|url| url.force_path_style.is_some())),
    ];
    for (key, _) in twice.iter().filter(|(_, in_url)| *in_url) {
        if let Some(place) = section.written(key) {
            section.complain(&place, "is given in the url too: keep one of the two");
        }
    }
    let part = 5 << 20..=5 << 30;
    let mut text = |key: &str| section.text(key).map(|at| at.value.text);
    let (region, profile) = (text("region"), text("profile"));
    let (storage_class, sse_kms_key_id, ca_file) = (text("storage_class"), text("sse_kms_key_id"), text("ca_file"));
    Options {
        endpoint: section.parsed("endpoint", url::check_endpoint).map(|at| at.value),
        region,
        force_path_style: section.flag("force_path_style"),
        profile,
        storage_class,
        sse_kms_key_id,
        ca_file: ca_file.map(|file| url::absolute(Path::new(&file), outside.working_dir)),
        part_size: section.size("part_size", part),
        concurrency: section.count("concurrency", 1..=64).and_then(|count| usize::try_from(count).ok()),
    }
}

impl Options {
    fn apply(self, store: &mut StoreSettings) {
        store.endpoint = self.endpoint.or(store.endpoint.take());
        store.region = self.region.or(store.region.take());
        store.force_path_style = self.force_path_style.or(store.force_path_style);
        store.profile = self.profile;
        store.storage_class = self.storage_class;
        store.sse_kms_key_id = self.sse_kms_key_id;
        store.ca_file = self.ca_file;
        store.part_size = self.part_size;
        store.concurrency = self.concurrency;
    }
}

fn from_url(url: ReplicaUrl) -> StoreSettings {
    StoreSettings {
        scheme: url.scheme,
        url: url.shown,
        bucket: url.bucket,
        path: url.path,
        endpoint: url.endpoint,
        region: url.region,
        force_path_style: url.force_path_style,
        access_key_id: None,
        secret_access_key: None,
        session_token: None,
        profile: None,
        storage_class: None,
        sse_kms_key_id: None,
        sse_c_key: None,
        ca_file: None,
        part_size: None,
        concurrency: None,
    }
}

/// Litestream's own variables, where it looks at them: below the configuration and the AWS variables.
fn litestream_fallback(store: &mut StoreSettings, outside: Outside<'_>) {
    let env = |name: &str| (outside.env)(name)?.into_string().ok().filter(|value| !value.is_empty());
    let configured = store.access_key_id.is_some() || store.profile.is_some() || env("AWS_ACCESS_KEY_ID").is_some();
    if store.scheme != Scheme::S3 || configured {
        return;
    }
    if let (Some(id), Some(secret)) = (env("LITESTREAM_ACCESS_KEY_ID"), env("LITESTREAM_SECRET_ACCESS_KEY")) {
        store.access_key_id = Some(id);
        store.secret_access_key = Some(Secret::new(secret));
    }
}

pub fn replica_from_url(place: &Place, url: &str, outside: Outside<'_>) -> Result<StoreSettings, ConfigError> {
    let parsed = url::parse(url, outside.working_dir).map_err(|message| ConfigError::one(place.clone(), message))?;
    let mut store = from_url(parsed);
    litestream_fallback(&mut store, outside);
    Ok(store)
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
        replica: replica_from_url(&url_place, url, outside)?,
    };
    Ok(Parsed { settings, path_place, url_place, secret_variables: Vec::new() })
}

/// Two databases on one replica, or one database twice. Two writers on one replica would fence each other off.
pub fn doubles(databases: &[Parsed]) -> Vec<(Place, String)> {
    let mut found = Vec::new();
    for (index, later) in databases.iter().enumerate() {
        for earlier in databases.iter().take(index) {
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
    (a.scheme, &a.endpoint, &a.bucket, &a.path) == (b.scheme, &b.endpoint, &b.bucket, &b.path)
}

//! `[database.replica]`, or a replica's URL alone → `StoreSettings`.

use super::problem::{ConfigError, Place};
use super::reader::Outside;
use super::section::{SecretText, Section};
use super::url::{self, ReplicaUrl};
use crate::model::Secret;
use crate::replicate::ReplicateSettings;
use crate::store::{Scheme, StoreSettings};
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// One replica, with what only the checks across databases need.
pub struct ReadReplica {
    pub store: StoreSettings,
    pub url_place: Place,
    /// The variables that its credentials were expanded from.
    pub secret_variables: Vec<String>,
}

pub fn read(
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
    from_environment(&mut store, outside);
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
        endpoint: url.endpoint,
        region: url.region,
        force_path_style: url.force_path_style,
        ..StoreSettings::new(url.scheme, url.shown, url.bucket, url.path)
    }
}

/// What the configuration leaves open: the endpoint from the variables that the AWS tools read, the keys from
/// Litestream's, where it looks at them: below the AWS variables (which the SDK reads itself).
fn from_environment(store: &mut StoreSettings, outside: Outside<'_>) {
    let env = |name: &str| (outside.env)(name)?.into_string().ok().filter(|value| !value.is_empty());
    if store.scheme != Scheme::S3 {
        return;
    }
    let endpoint = || env("AWS_ENDPOINT_URL_S3").or_else(|| env("AWS_ENDPOINT_URL"));
    store.endpoint = store.endpoint.take().or_else(endpoint);
    if store.access_key_id.is_some() || store.profile.is_some() || env("AWS_ACCESS_KEY_ID").is_some() {
        return;
    }
    if let (Some(id), Some(secret)) = (env("LITESTREAM_ACCESS_KEY_ID"), env("LITESTREAM_SECRET_ACCESS_KEY")) {
        store.access_key_id = Some(id);
        store.secret_access_key = Some(Secret::new(secret));
    }
}

pub fn from_url_alone(place: &Place, url: &str, outside: Outside<'_>) -> Result<StoreSettings, ConfigError> {
    let parsed = url::parse(url, outside.working_dir).map_err(|message| ConfigError::one(place.clone(), message))?;
    let mut store = from_url(parsed);
    from_environment(&mut store, outside);
    Ok(store)
}

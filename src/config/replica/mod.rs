//! `[database.replica]`, or a replica's URL alone → `StoreSettings`. What all stores have; what one has is in its file.

mod abs;
mod gs;
mod s3;
mod sftp;

use super::problem::{ConfigError, Place};
use super::reader::Outside;
use super::section::{At, Section};
use super::url;
use crate::model::Secret;
use crate::replicate::ReplicateSettings;
use crate::store::{Scheme, StoreSettings};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keys that make no sense for every store, and the stores that have them.
const KEYS: [(&str, &[Scheme]); 29] = [
    ("endpoint", &[Scheme::S3, Scheme::Gs, Scheme::Abs]),
    ("ca_file", &[Scheme::S3, Scheme::Gs, Scheme::Abs]),
    ("part_size", &[Scheme::S3, Scheme::Gs, Scheme::Abs]),
    ("concurrency", &[Scheme::S3, Scheme::Gs, Scheme::Abs]),
    ("region", &[Scheme::S3]),
    ("force_path_style", &[Scheme::S3]),
    ("access_key_id", &[Scheme::S3]),
    ("access_key_id_file", &[Scheme::S3]),
    ("secret_access_key", &[Scheme::S3]),
    ("secret_access_key_file", &[Scheme::S3]),
    ("session_token", &[Scheme::S3]),
    ("session_token_file", &[Scheme::S3]),
    ("profile", &[Scheme::S3]),
    ("storage_class", &[Scheme::S3]),
    ("sse_kms_key_id", &[Scheme::S3]),
    ("sse_c_key", &[Scheme::S3]),
    ("sse_c_key_file", &[Scheme::S3]),
    ("credentials_file", &[Scheme::Gs]),
    ("account_key", &[Scheme::Abs]),
    ("account_key_file", &[Scheme::Abs]),
    ("sas_token", &[Scheme::Abs]),
    ("sas_token_file", &[Scheme::Abs]),
    ("password", &[Scheme::Sftp]),
    ("password_file", &[Scheme::Sftp]),
    ("key_file", &[Scheme::Sftp]),
    ("key_passphrase", &[Scheme::Sftp]),
    ("key_passphrase_file", &[Scheme::Sftp]),
    ("host_key", &[Scheme::Sftp]),
    ("known_hosts_file", &[Scheme::Sftp]),
];

/// One replica, with what only the checks across databases need.
pub struct ReadReplica {
    pub store: StoreSettings,
    pub url_place: Place,
    /// The variables that its credentials were expanded from.
    pub secret_variables: Vec<String>,
}

/// What each store's reader works on: the settings so far (its URL is in them), and the variables that secrets came from.
struct Reading<'a> {
    store: StoreSettings,
    variables: Vec<String>,
    outside: Outside<'a>,
}

pub fn read(
    mut section: Section<'_, '_>,
    outside: Outside<'_>,
    replicate: &mut ReplicateSettings,
) -> Option<ReadReplica> {
    if section.written("url").is_none() {
        section.complain(&section.place, "has no url: write for example s3://bucket/prefix or file:///directory");
    }
    let url =
        section.text("url").and_then(|At { value: text, place }| match url::parse(&text.text, outside.working_dir) {
            Ok(store) => Some((At { value: store, place }, text.variables)),
            Err(message) => {
                section.complain(&place, message);
                None
            }
        });
    let (url, mut variables) = url.map_or((None, Vec::new()), |(url, variables)| (Some(url), variables));
    let interval = section.duration("sync_interval", Duration::from_millis(10)..=Duration::from_secs(86_400));
    replicate.sync_interval = interval.map_or(replicate.sync_interval, |at| at.value);
    if let Some(url) = &url {
        refuse_foreign_keys(&section, url.value.scheme);
    }
    let store = url.as_ref().map(|url| url.value.clone()).unwrap_or_default();
    if store.sftp.password.is_none() {
        // Only a password makes the URL's variables secret ones.
        variables.clear();
    }
    let mut reading = Reading { store, variables, outside };
    reading.common(&mut section);
    s3::read(&mut section, &mut reading);
    gs::read(&mut section, &mut reading);
    abs::read(&mut section, &mut reading);
    sftp::read(&mut section, &mut reading);
    section.finish(&[
        ("skip_verify", "does not exist: certificates are always verified; name your own CA with ca_file"),
        ("account_name", "does not exist: the account stands in the url, abs://ACCOUNT@container/prefix"),
    ]);
    let Reading { mut store, variables, .. } = reading;
    from_environment(&mut store, outside);
    Some(ReadReplica { store, url_place: url?.place, secret_variables: variables })
}

fn refuse_foreign_keys(section: &Section<'_, '_>, scheme: Scheme) {
    for (key, stores) in KEYS.iter().filter(|(_, stores)| !stores.contains(&scheme)) {
        if let Some(place) = section.written(key) {
            let names: Vec<String> = stores.iter().map(|store| format!("{}://", name(*store))).collect();
            let told = format!("belongs to {} replicas; this one is {}://", names.join(" and "), name(scheme));
            section.complain(&place, told);
        }
    }
}

fn name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::File => "file",
        Scheme::S3 => "s3",
        Scheme::Gs => "gs",
        Scheme::Abs => "abs",
        Scheme::Sftp => "sftp",
    }
}

impl Reading<'_> {
    fn common(&mut self, section: &mut Section<'_, '_>) {
        if let (true, Some(place)) = (self.store.endpoint.is_some(), section.written("endpoint")) {
            section.complain(&place, "is given in the url too: keep one of the two");
        }
        let endpoint = section.parsed("endpoint", url::check_endpoint).map(|at| at.value);
        self.store.endpoint = endpoint.or(self.store.endpoint.take());
        self.store.ca_file = self.file(section, "ca_file");
        self.store.part_size = section.size("part_size", 5 << 20..=5 << 30);
        self.store.concurrency = section.count("concurrency", 1..=64).and_then(|count| usize::try_from(count).ok());
    }

    /// A file's absolute path.
    fn file(&self, section: &mut Section<'_, '_>, key: &str) -> Option<PathBuf> {
        let text = section.text(key)?.value.text;
        Some(url::absolute(Path::new(&text), self.outside.working_dir))
    }

    /// `key` or `key_file`; remembers the variables that it came from.
    fn secret(&mut self, section: &mut Section<'_, '_>, key: &str) -> Option<Secret> {
        self.secret_and_file(section, key).0
    }

    /// The same, and the file that it was in.
    fn secret_and_file(&mut self, section: &mut Section<'_, '_>, key: &str) -> (Option<Secret>, Option<PathBuf>) {
        let Some(found) = section.secret(key) else { return (None, None) };
        self.variables.extend(found.value.variables);
        (Some(found.value.secret), found.value.file)
    }
}

/// Where `key`, or the file that holds it, was written.
fn given(section: &Section<'_, '_>, key: &str) -> Option<Place> {
    section.written(key).or_else(|| section.written(&format!("{key}_file")))
}

/// What the configuration leaves open.
fn from_environment(store: &mut StoreSettings, outside: Outside<'_>) {
    let env = |name: &str| (outside.env)(name)?.into_string().ok().filter(|value| !value.is_empty());
    match store.scheme {
        Scheme::S3 => s3::from_environment(store, &env),
        Scheme::Gs => gs::from_environment(store, &env),
        Scheme::Abs => abs::from_environment(store, &env),
        Scheme::Sftp | Scheme::File => {}
    }
}

/// Names of the environment that carry this store's credentials: they are ours, not the app's.
pub fn credential_variables(scheme: Scheme) -> &'static [&'static str] {
    match scheme {
        Scheme::S3 => &s3::CREDENTIALS,
        Scheme::Gs => &gs::CREDENTIALS,
        Scheme::Abs => &abs::CREDENTIALS,
        Scheme::Sftp | Scheme::File => &[],
    }
}

pub fn from_url_alone(place: &Place, url: &str, outside: Outside<'_>) -> Result<StoreSettings, ConfigError> {
    let mut store = url::parse(url, outside.working_dir).map_err(|message| ConfigError::one(place.clone(), message))?;
    from_environment(&mut store, outside);
    Ok(store)
}

//! `[database.replica]`, or a replica's URL alone → `StoreSettings`. Each store's keys are in its file.

mod abs;
mod age;
mod gs;
mod s3;
mod sftp;

use super::document::Document;
use super::environment::Environment;
use super::expand::Expanded;
use super::problem::{ConfigError, Location};
use super::url;
use super::values::{Count, DAY, GIB, Key, MIB, SecretText, Size, Span};
use crate::store::{Scheme, StoreSettings};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct ReplicaSection {
    url: Key<Expanded>,
    pub sync_interval: Key<Span<10, DAY>>,
    endpoint: Key<String>,
    ca_file: Key<String>,
    part_size: Key<Size<{ 5 * MIB }, { 5 * GIB }>>,
    concurrency: Key<Count<1, 64>>,
    region: Key<String>,
    force_path_style: Key<bool>,
    access_key_id: Key<Expanded>,
    access_key_id_file: Key<String>,
    secret_access_key: Key<Expanded>,
    secret_access_key_file: Key<String>,
    session_token: Key<Expanded>,
    session_token_file: Key<String>,
    profile: Key<String>,
    storage_class: Key<String>,
    sse_kms_key_id: Key<String>,
    sse_c_key: Key<Expanded>,
    sse_c_key_file: Key<String>,
    credentials_file: Key<String>,
    account_key: Key<Expanded>,
    account_key_file: Key<String>,
    sas_token: Key<Expanded>,
    sas_token_file: Key<String>,
    password: Key<Expanded>,
    password_file: Key<String>,
    key_file: Key<String>,
    key_passphrase: Key<Expanded>,
    key_passphrase_file: Key<String>,
    host_key: Key<String>,
    known_hosts_file: Key<String>,
    age_identities: Key<Expanded>,
    age_identities_file: Key<String>,
    age_recipients: Key<Expanded>,
    age_recipients_file: Key<String>,
}

/// A replica, with what the checks across databases need.
pub struct ReadReplica {
    pub store: StoreSettings,
    pub url_location: Location,
    /// The variables that its credentials were made of.
    pub secret_variables: Vec<String>,
}

/// What each store's keys are added to.
struct Reading<'d> {
    document: &'d Document<'d>,
    /// What the URL says, and the keys that were read.
    store: StoreSettings,
    /// The variables that its credentials were made of.
    variables: Vec<String>,
}

pub fn read(section: Key<ReplicaSection>, document: &Document<'_>) -> Option<ReadReplica> {
    let location = section.location?;
    let section = section.value?;
    if !section.url.is_written() {
        document.complain(&location, "has no url: write for example s3://bucket/prefix or file:///directory");
    }
    let url = section.url.value.as_ref();
    let parsed = url.and_then(|url| match url::parse(&url.text, document.environment.working_dir) {
        Ok(store) => Some(store),
        Err(message) => {
            document.complain_if_written(&section.url, message);
            None
        }
    });
    for (location, stores) in parsed.iter().flat_map(|store| section.foreign(store.scheme)) {
        let names: Vec<String> = stores.iter().map(|store| format!("{}://", name(*store))).collect();
        let scheme = name(parsed.as_ref().map_or(Scheme::File, |store| store.scheme));
        document.complain(
            location,
            format!("belongs to {} replicas; this one is {scheme}://", names.join(" and ")),
        );
    }
    let is_valid = parsed.is_some();
    let store = parsed.unwrap_or_default();
    // Without a secret in the URL, its variables are not secret.
    let url_variables = url.filter(|_| secret_in_url(&store).is_some()).map(|url| url.variables.clone());
    let mut reading = Reading { document, store, variables: url_variables.unwrap_or_default() };
    common(&section, &mut reading);
    s3::read(&section, &mut reading);
    abs::read(&section, &mut reading);
    reading.store.gs.credentials_file = document.path(&section.credentials_file);
    sftp::read(&section, &mut reading);
    age::read(&section, &mut reading);
    let Reading { mut store, variables, .. } = reading;
    from_environment(&mut store, document.environment);
    let url_location = section.url.location.filter(|_| is_valid)?;
    Some(ReadReplica { store, url_location, secret_variables: variables })
}

/// The keys of all stores that speak HTTP.
fn common(section: &ReplicaSection, reading: &mut Reading<'_>) {
    let document = reading.document;
    let store = &mut reading.store;
    document.refuse_twice(&section.endpoint, store.endpoint.is_some());
    document.refuse_twice(&section.part_size, store.part_size.is_some());
    document.refuse_twice(&section.concurrency, store.concurrency.is_some());
    store.endpoint = document.parsed(&section.endpoint, url::check_endpoint).or(store.endpoint.take());
    store.ca_file = document.path(&section.ca_file);
    store.part_size = section.part_size.value.map(|size| size.0).or(store.part_size);
    let concurrency = section.concurrency.value.and_then(|count| usize::try_from(count.0).ok());
    store.concurrency = concurrency.or(store.concurrency);
}

impl Document<'_> {
    /// A key that the URL has as a parameter.
    fn refuse_twice<T>(&self, key: &Key<T>, is_in_url: bool) {
        if is_in_url {
            self.complain_if_written(key, "is given in the url too: keep one of the two");
        }
    }
}

impl ReplicaSection {
    /// The keys that are written and belong to other stores, with these.
    fn foreign(&self, scheme: Scheme) -> Vec<(&Location, &'static [Scheme])> {
        fn at<T>(key: &Key<T>) -> Option<&Location> {
            key.location.as_ref()
        }
        let http = [at(&self.endpoint), at(&self.ca_file), at(&self.part_size), at(&self.concurrency)];
        let s3 = [
            at(&self.region),
            at(&self.force_path_style),
            either(&self.access_key_id, &self.access_key_id_file),
            either(&self.secret_access_key, &self.secret_access_key_file),
            either(&self.session_token, &self.session_token_file),
            at(&self.profile),
            at(&self.storage_class),
            at(&self.sse_kms_key_id),
            either(&self.sse_c_key, &self.sse_c_key_file),
        ];
        let abs = [
            either(&self.account_key, &self.account_key_file),
            either(&self.sas_token, &self.sas_token_file),
        ];
        let sftp = [
            either(&self.password, &self.password_file),
            at(&self.key_file),
            either(&self.key_passphrase, &self.key_passphrase_file),
            at(&self.host_key),
            at(&self.known_hosts_file),
        ];
        let stores: [(&[Option<&Location>], &'static [Scheme]); 5] = [
            (&http, &[Scheme::S3, Scheme::Gs, Scheme::Abs]),
            (&s3, &[Scheme::S3]),
            (&[at(&self.credentials_file)], &[Scheme::Gs]),
            (&abs, &[Scheme::Abs]),
            (&sftp, &[Scheme::Sftp]),
        ];
        let others = stores.into_iter().filter(|(_, stores)| !stores.contains(&scheme));
        others.flat_map(|(keys, stores)| keys.iter().flatten().map(move |key| (*key, stores))).collect()
    }
}

/// Where `NAME`, or the file that holds it, is written.
fn either<'k>(direct: &'k Key<Expanded>, file: &'k Key<String>) -> Option<&'k Location> {
    direct.location.as_ref().or(file.location.as_ref())
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
    /// `NAME` or `NAME_file`; remembers the variables that it was made of.
    fn secret(&mut self, direct: &Key<Expanded>, file: &Key<String>) -> SecretText {
        let mut text = self.document.secret(direct, file);
        self.variables.append(&mut text.variables);
        text
    }
}

/// What the configuration leaves open.
fn from_environment(store: &mut StoreSettings, environment: Environment<'_>) {
    let variable = |name: &str| environment.text(name);
    age::from_environment(store, &variable);
    match store.scheme {
        Scheme::S3 => s3::from_environment(store, &variable),
        Scheme::Gs => gs::from_environment(store, &variable),
        Scheme::Abs => abs::from_environment(store, &variable),
        Scheme::Sftp | Scheme::File => {}
    }
}

/// Names of variables that carry keys of encrypted replicas.
pub const KEY_VARIABLES: [&str; 2] = [age::IDENTITIES, age::RECIPIENTS];

/// Names of variables that carry this store's credentials: they are litevisor's, not the app's.
pub fn credential_variables(scheme: Scheme) -> &'static [&'static str] {
    match scheme {
        Scheme::S3 => &s3::CREDENTIALS,
        Scheme::Gs => &gs::CREDENTIALS,
        Scheme::Abs => &abs::CREDENTIALS,
        Scheme::Sftp | Scheme::File => &[],
    }
}

/// A replica of the command line: its URL, and what the environment says.
pub fn from_url_alone(
    location: &Location,
    url: &str,
    environment: Environment<'_>,
) -> Result<StoreSettings, ConfigError> {
    let fail = |message| ConfigError::single(location.clone(), message);
    let mut store = url::parse(url, environment.working_dir).map_err(fail)?;
    if let Some(what) = secret_in_url(&store) {
        return Err(fail(format!(
            "holds {what}, which every user of this machine can read in the list of processes: write it into \
             a configuration file (--config)"
        )));
    }
    from_environment(&mut store, environment);
    crate::store::check_keys(&store.age).map_err(fail)?;
    Ok(store)
}

/// A place for objects beside a replica's. If it is in the same service as `replica`, the keys of that one
/// hold for it, too.
pub fn of_url(
    text: &str,
    replica: Option<&StoreSettings>,
    environment: Environment<'_>,
) -> Result<StoreSettings, String> {
    let mut own = url::parse(text, environment.working_dir)?;
    if let Some(what) = secret_in_url(&own) {
        return Err(format!(
            "holds {what}: the credentials are those of the first database's replica, or the environment's"
        ));
    }
    let Some(replica) = replica.filter(|replica| is_same_server(&own, replica)) else {
        from_environment(&mut own, environment);
        return Ok(own);
    };
    let mut store = StoreSettings { url: own.url, bucket: own.bucket, path: own.path, ..replica.clone() };
    store.endpoint = own.endpoint.or(store.endpoint);
    store.s3.region = own.s3.region.or(store.s3.region);
    Ok(store)
}

/// The credentials of the one are good for the other.
fn is_same_server(own: &StoreSettings, replica: &StoreSettings) -> bool {
    let sftp = |store: &StoreSettings| (store.sftp.user.clone(), store.sftp.host.clone(), store.sftp.port);
    own.scheme == replica.scheme
        && (own.endpoint.is_none() || own.endpoint == replica.endpoint)
        && own.abs.account == replica.abs.account
        && sftp(own) == sftp(replica)
}

/// What must not be on a command line.
fn secret_in_url(store: &StoreSettings) -> Option<&'static str> {
    match (&store.sftp.password, &store.s3.sse_c_key) {
        (Some(_), _) => Some("a password"),
        (_, Some(_)) => Some("a key (sseCustomerKey)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Every user of the machine sees the command line.
    #[test]
    fn no_secret_is_taken_from_the_command_line() {
        let (env, read) = (|_: &str| None, |_: &Path| Err(std::io::ErrorKind::NotFound.into()));
        let environment = Environment { variable: &env, read: &read, working_dir: Path::new("/srv") };
        for url in ["sftp://u:hunter2@h/x", "s3://b/x?sseCustomerKey=hunter2"] {
            let told =
                from_url_alone(&Location::option("--replica"), url, environment).unwrap_err().to_string();
            assert!(told.contains("list of processes") && !told.contains("hunter2"), "{told}");
        }
        for url in ["sftp://u@h/x", "s3://b/x"] {
            assert!(from_url_alone(&Location::option("--replica"), url, environment).is_ok(), "{url}");
        }
    }
}

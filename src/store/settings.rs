//! The settings of a replica's store. `config` fills them in.

use crate::model::Secret;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    File,
    S3,
    Gs,
    Abs,
    Sftp,
}

/// One replica. Values are already expanded and read from files where `NAME_file` was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreSettings {
    pub scheme: Scheme,
    /// The URL as given, without user info: what logs and errors call the replica.
    pub url: String,
    /// The bucket or container. Empty for a directory, here or behind SFTP.
    pub bucket: String,
    /// Prefix inside the bucket without leading and trailing slash; for a directory its absolute path.
    pub path: String,
    /// Of S3, Google Cloud Storage and Azure: where the service is, when it is not the provider's own.
    pub endpoint: Option<String>,
    /// Certificate authorities (PEM) for https.
    pub ca_file: Option<PathBuf>,
    /// Bytes of one part of an upload in parts.
    pub part_size: Option<u64>,
    /// Parallel requests of one transfer.
    pub concurrency: Option<usize>,
    pub s3: S3Settings,
    pub gs: GsSettings,
    pub abs: AbsSettings,
    pub sftp: SftpSettings,
    pub age: AgeSettings,
}

/// The keys of an encrypted replica, as text: words in any number of lines, with comments behind `#`.
/// Neither: it is plain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgeSettings {
    pub identities: Option<Secret>,
    /// None: those of the identities. Public, but whose the replica is concerns only its owner.
    pub recipients: Option<Secret>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Settings {
    pub region: Option<String>,
    /// None: as the provider wants it (path style at most endpoints, virtual-hosted style at AWS).
    pub force_path_style: Option<bool>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
    pub session_token: Option<Secret>,
    pub profile: Option<String>,
    pub storage_class: Option<String>,
    pub sse_kms_key_id: Option<String>,
    pub sse_c_key: Option<Secret>,
    pub key_files: KeyFiles,
}

/// The files that keys were read from: they are read again while the program runs, so that replaced keys are
/// picked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFiles {
    pub access_key_id: Option<PathBuf>,
    pub secret_access_key: Option<PathBuf>,
    pub session_token: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GsSettings {
    /// A service account's JSON file, from the configuration or the environment.
    pub credentials_file: Option<PathBuf>,
    /// Where Google's tools keep the user's credentials; used if there is such a file.
    pub default_file: Option<PathBuf>,
    /// `host:port` of a metadata server that is not at the usual address.
    pub metadata_host: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AbsSettings {
    pub account: String,
    pub account_key: Option<Secret>,
    /// A shared access signature.
    pub sas_token: Option<Secret>,
    /// Where they were read from, and are again: they may be rotated while we run.
    pub account_key_file: Option<PathBuf>,
    pub sas_token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SftpSettings {
    pub user: String,
    pub host: String,
    pub port: u16,
    pub password: Option<Secret>,
    pub key_file: Option<PathBuf>,
    pub key_passphrase: Option<Secret>,
    /// What the host must show: a line of a public key, or its SHA256 fingerprint. `any` asks for no proof.
    pub host_key: Option<String>,
    pub known_hosts_file: Option<PathBuf>,
}

impl StoreSettings {
    /// A replica of which only the place is said.
    pub fn new(scheme: Scheme, url: String, bucket: String, path: String) -> StoreSettings {
        StoreSettings { scheme, url, bucket, path, ..StoreSettings::default() }
    }

    /// Whether both are in the same bucket of the same service, so that their paths can meet.
    pub fn same_service(&self, other: &StoreSettings) -> bool {
        let place = |of: &StoreSettings| {
            let server = (of.abs.account.clone(), of.sftp.host.clone(), of.sftp.port);
            (of.scheme, of.endpoint.clone(), of.bucket.clone(), server)
        };
        place(self) == place(other)
    }
}

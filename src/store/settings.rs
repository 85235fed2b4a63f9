//! What a replica's configuration says; filled in by `config`, used by the stores.

use crate::model::Secret;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    File,
    S3,
}

/// One replica. Values are already expanded and read from files where `NAME_file` was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    pub scheme: Scheme,
    /// The URL as given, without user info: what logs and errors call the replica.
    pub url: String,
    /// S3: the bucket. Empty for a directory.
    pub bucket: String,
    /// Prefix inside the bucket without leading and trailing slash; for a directory its absolute path.
    pub path: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// None: path style when an endpoint is given, virtual-hosted style otherwise.
    pub force_path_style: Option<bool>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
    pub session_token: Option<Secret>,
    pub profile: Option<String>,
    pub storage_class: Option<String>,
    pub sse_kms_key_id: Option<String>,
    pub sse_c_key: Option<Secret>,
    pub ca_file: Option<PathBuf>,
    /// Bytes of one multipart part; S3's minimum is 5 MiB.
    pub part_size: Option<u64>,
    /// Parallel requests of one transfer.
    pub concurrency: Option<usize>,
}

impl StoreSettings {
    /// A replica of which only the place is said.
    pub fn new(scheme: Scheme, url: String, bucket: String, path: String) -> StoreSettings {
        StoreSettings {
            scheme,
            url,
            bucket,
            path,
            endpoint: None,
            region: None,
            force_path_style: None,
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
}

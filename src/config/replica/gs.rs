//! The keys of gs:// replicas, and what the environment adds.

use super::Reading;
use crate::config::section::Section;
use crate::store::StoreSettings;
use std::path::PathBuf;

/// What gs:// replicas are commonly given through the environment.
pub const CREDENTIALS: [&str; 1] = ["GOOGLE_APPLICATION_CREDENTIALS"];

pub fn read(section: &mut Section<'_, '_>, reading: &mut Reading<'_>) {
    reading.store.gs.credentials_file = reading.file(section, "credentials_file");
}

/// The emulator, the account's file and the metadata server, from the variables that Google's tools read.
pub fn from_environment(store: &mut StoreSettings, env: &dyn Fn(&str) -> Option<String>) {
    let emulator = || {
        let host = env("STORAGE_EMULATOR_HOST")?;
        Some(if host.contains("://") { host } else { format!("http://{host}") })
    };
    store.endpoint = store.endpoint.take().or_else(emulator);
    let file = || env("GOOGLE_APPLICATION_CREDENTIALS").map(Into::into);
    store.gs.credentials_file = store.gs.credentials_file.take().or_else(file);
    let directory = || env("HOME").map(|home| PathBuf::from(home).join(".config/gcloud"));
    let directory = env("CLOUDSDK_CONFIG").map(PathBuf::from).or_else(directory);
    store.gs.default_file = directory.map(|directory| directory.join("application_default_credentials.json"));
    store.gs.metadata_host = env("GCE_METADATA_HOST");
}

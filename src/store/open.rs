//! From settings to a store. In: the settings of one replica. Out: the store for its scheme. Never: does I/O; the first
//! request does.

use super::{Scheme, Store, StoreError, StoreErrorKind, StoreSettings, file::FileStore};
use std::sync::Arc;

/// Settings that contradict themselves are refused here, before anything is sent.
pub fn open(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    match settings.scheme {
        Scheme::File if settings.path.is_empty() => {
            Err(invalid(settings, "the directory is missing: give an absolute path, as in file:///var/backup/app"))
        }
        Scheme::File => Ok(Arc::new(FileStore::new(settings))),
        Scheme::S3 => s3(settings),
    }
}

#[cfg(feature = "s3")]
fn s3(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    match super::s3::S3Store::new(settings) {
        Ok(store) => Ok(Arc::new(store)),
        Err(detail) => Err(invalid(settings, detail)),
    }
}

#[cfg(not(feature = "s3"))]
fn s3(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    Err(invalid(settings, "this litevisor was built without S3 (cargo feature `s3`); use a full build"))
}

fn invalid(settings: &StoreSettings, detail: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, "open", settings.url.as_str(), detail)
}

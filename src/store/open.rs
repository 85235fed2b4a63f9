//! From settings to a store. In: the settings of one replica. Out: the store for its scheme. Never: does I/O; the first
//! request does.

use super::{Scheme, Store, StoreError, StoreErrorKind, StoreSettings, file::FileStore};
use std::sync::Arc;

/// Opens the stores of many databases: those that differ in nothing but their place share connections and credentials.
/// To be used on one runtime.
#[derive(Default)]
pub struct Stores {
    #[cfg(feature = "s3")]
    s3: super::s3::Links,
}

/// One store on its own.
pub fn open(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    Stores::default().open(settings)
}

impl Stores {
    /// Settings that contradict themselves are refused here, before anything is sent.
    pub fn open(&self, settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
        match settings.scheme {
            Scheme::File if settings.path.is_empty() => {
                Err(invalid(settings, "the directory is missing: give an absolute path, as in file:///var/backup/app"))
            }
            Scheme::File => Ok(Arc::new(FileStore::new(settings))),
            Scheme::S3 => self.s3(settings),
        }
    }

    #[cfg(feature = "s3")]
    fn s3(&self, settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
        match super::s3::S3Store::new(settings, &self.s3) {
            Ok(store) => Ok(Arc::new(store)),
            Err(detail) => Err(invalid(settings, detail)),
        }
    }

    #[cfg(not(feature = "s3"))]
    fn s3(&self, settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
        Err(invalid(settings, "this litevisor was built without S3 (cargo feature `s3`); use a full build"))
    }
}

fn invalid(settings: &StoreSettings, detail: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, "open", settings.url.as_str(), detail)
}

//! From settings to a store. No I/O: the first request connects.

use super::bucket::{Bucket, Dialect};
use super::link::Links;
use super::{AgeSettings, Scheme, Store, StoreError, StoreErrorKind, StoreSettings, file::Directory};
use std::sync::Arc;

/// Opens the stores of many databases: those that differ in bucket and path alone share connections and
/// credentials. To be used on one runtime.
#[derive(Default)]
pub struct Stores {
    directory: Links<()>,
    #[cfg(feature = "s3")]
    s3: Links<super::s3::Service>,
    #[cfg(feature = "gcs")]
    gs: Links<super::gs::Client>,
    #[cfg(feature = "azure")]
    abs: Links<super::abs::Service>,
    #[cfg(feature = "sftp")]
    sftp: Links<super::sftp::Connection>,
}

/// One store on its own.
pub fn open(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    Stores::default().open(settings)
}

impl Stores {
    /// Refuses settings that contradict themselves.
    pub fn open(&self, settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
        let opened = match settings.scheme {
            Scheme::File => bucket::<Directory>(settings, &self.directory),
            #[cfg(feature = "s3")]
            Scheme::S3 => bucket::<super::s3::S3>(settings, &self.s3),
            #[cfg(feature = "gcs")]
            Scheme::Gs => bucket::<super::gs::Gs>(settings, &self.gs),
            #[cfg(feature = "azure")]
            Scheme::Abs => bucket::<super::abs::Abs>(settings, &self.abs),
            #[cfg(feature = "sftp")]
            Scheme::Sftp => bucket::<super::sftp::Sftp>(settings, &self.sftp),
            #[cfg(not(feature = "s3"))]
            Scheme::S3 => Err(lacking("S3", "s3")),
            #[cfg(not(feature = "gcs"))]
            Scheme::Gs => Err(lacking("Google Cloud Storage", "gcs")),
            #[cfg(not(feature = "azure"))]
            Scheme::Abs => Err(lacking("Azure", "azure")),
            #[cfg(not(feature = "sftp"))]
            Scheme::Sftp => Err(lacking("SFTP", "sftp")),
        };
        opened
            .and_then(|store| sealed(store, &settings.age))
            .map_err(|detail| StoreError::new(StoreErrorKind::Invalid, "open", settings.url.as_str(), detail))
    }
}

/// Whether keys are what they should be. The error is a text for the user.
pub fn check_keys(settings: &AgeSettings) -> Result<(), String> {
    #[cfg(feature = "age")]
    return super::sealed::Keys::of(settings).map(drop);
    #[cfg(not(feature = "age"))]
    sealed((), settings)
}

#[cfg(feature = "age")]
fn sealed(store: Arc<dyn Store>, keys: &AgeSettings) -> Result<Arc<dyn Store>, String> {
    Ok(Arc::new(super::sealed::Sealed::new(store, super::sealed::Keys::of(keys)?)))
}

#[cfg(not(feature = "age"))]
fn sealed<T>(store: T, keys: &AgeSettings) -> Result<T, String> {
    if *keys == AgeSettings::default() { Ok(store) } else { Err(lacking("encryption", "age")) }
}

fn bucket<D: Dialect>(settings: &StoreSettings, links: &Links<D::Client>) -> Result<Arc<dyn Store>, String> {
    Ok(Arc::new(Bucket::<D>::new(settings, links)?))
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure", feature = "sftp", feature = "age")))]
fn lacking(service: &str, feature: &str) -> String {
    format!("this litevisor was built without {service} (cargo feature `{feature}`); use a full build")
}

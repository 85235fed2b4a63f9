//! From settings to a store. In: the settings of one replica. Out: the store for its scheme. Never: does I/O; the first
//! request does.

use super::counted::Counted;
use super::{Scheme, Store, StoreError, StoreErrorKind, StoreSettings, file::FileStore};
use std::sync::Arc;

/// Opens the stores of many databases: those that differ in nothing but their place share connections and credentials.
/// To be used on one runtime.
#[derive(Default)]
pub struct Stores {
    #[cfg(feature = "s3")]
    s3: super::s3::Links,
    #[cfg(feature = "gcs")]
    gs: super::gs::Links,
    #[cfg(feature = "azure")]
    abs: super::abs::Links,
    #[cfg(feature = "sftp")]
    sftp: super::sftp::Links,
}

type Opened = Result<Arc<dyn Store>, String>;

/// One store on its own.
pub fn open(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    Stores::default().open(settings)
}

impl Stores {
    /// Settings that contradict themselves are refused here, before anything is sent.
    pub fn open(&self, settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
        let opened = match settings.scheme {
            Scheme::File if settings.path.is_empty() => {
                Err("the directory is missing: give an absolute path, as in file:///var/backup/app".to_owned())
            }
            Scheme::File => Ok(Arc::new(FileStore::new(settings)) as Arc<dyn Store>),
            Scheme::S3 => self.s3(settings),
            Scheme::Gs => self.gs(settings),
            Scheme::Abs => self.abs(settings),
            Scheme::Sftp => self.sftp(settings),
        };
        let opened =
            opened.map_err(|detail| StoreError::new(StoreErrorKind::Invalid, "open", settings.url.as_str(), detail))?;
        Ok(Arc::new(Counted::new(opened)))
    }

    #[cfg(feature = "s3")]
    fn s3(&self, settings: &StoreSettings) -> Opened {
        super::s3::S3Store::new(settings, &self.s3).map(|store| Arc::new(store) as Arc<dyn Store>)
    }

    #[cfg(feature = "gcs")]
    fn gs(&self, settings: &StoreSettings) -> Opened {
        super::gs::GsStore::new(settings, &self.gs).map(|store| Arc::new(store) as Arc<dyn Store>)
    }

    #[cfg(feature = "azure")]
    fn abs(&self, settings: &StoreSettings) -> Opened {
        super::abs::AbsStore::new(settings, &self.abs).map(|store| Arc::new(store) as Arc<dyn Store>)
    }

    #[cfg(feature = "sftp")]
    fn sftp(&self, settings: &StoreSettings) -> Opened {
        super::sftp::SftpStore::new(settings, &self.sftp).map(|store| Arc::new(store) as Arc<dyn Store>)
    }

    #[cfg(not(feature = "s3"))]
    fn s3(&self, _: &StoreSettings) -> Opened {
        Err(lacking("S3", "s3"))
    }

    #[cfg(not(feature = "gcs"))]
    fn gs(&self, _: &StoreSettings) -> Opened {
        Err(lacking("Google Cloud Storage", "gcs"))
    }

    #[cfg(not(feature = "azure"))]
    fn abs(&self, _: &StoreSettings) -> Opened {
        Err(lacking("Azure", "azure"))
    }

    #[cfg(not(feature = "sftp"))]
    fn sftp(&self, _: &StoreSettings) -> Opened {
        Err(lacking("SFTP", "sftp"))
    }
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure", feature = "sftp")))]
fn lacking(service: &str, feature: &str) -> String {
    format!("this litevisor was built without {service} (cargo feature `{feature}`); use a full build")
}

//! The way to one S3 service: its client, built once at the first request, and how many requests may be on it at once.
//! Stores with the same settings but for their place in it share one. Never: sends a request itself.

use super::client;
use crate::store::StoreSettings;
use aws_sdk_s3::Client;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

/// Requests of all databases together: more would only be sockets and memory, and stores answer a storm with 503.
const REQUESTS: usize = 64;

pub(in crate::store) struct Link {
    settings: StoreSettings,
    client: OnceCell<Client>,
    requests: Semaphore,
}

/// Those that are in use.
#[derive(Default)]
pub(in crate::store) struct Links(Mutex<Vec<Arc<Link>>>);

impl Links {
    pub(super) fn to(&self, settings: &StoreSettings) -> Arc<Link> {
        let settings = without_place(settings);
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.iter().find(|link| link.settings == settings) {
            return Arc::clone(link);
        }
        let link = Arc::new(Link { settings, client: OnceCell::new(), requests: Semaphore::const_new(REQUESTS) });
        links.push(Arc::clone(&link));
        link
    }
}

impl Link {
    /// The error is a text for the user.
    pub(super) async fn client(&self) -> Result<&Client, String> {
        self.client.get_or_try_init(|| client::build(&self.settings)).await
    }

    /// Waits for its turn; first come, first served. None: never, as nobody closes the semaphore.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.requests.acquire().await.ok()
    }
}

/// What makes no difference to the client: where in the service, and how transfers are cut.
fn without_place(settings: &StoreSettings) -> StoreSettings {
    StoreSettings {
        url: String::new(),
        bucket: String::new(),
        path: String::new(),
        storage_class: None,
        sse_kms_key_id: None,
        sse_c_key: None,
        part_size: None,
        concurrency: None,
        ..settings.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;
    use crate::store::Scheme;

    #[test]
    fn shared_by_those_that_differ_in_their_place_alone() {
        let at = |bucket: &str, path: &str| {
            let settings = StoreSettings::new(Scheme::S3, format!("s3://{bucket}/{path}"), bucket.into(), path.into());
            StoreSettings { endpoint: Some("http://x".into()), ..settings }
        };
        let links = Links::default();
        let first = links.to(&at("b", "one"));
        for same in [at("b", "two"), at("c", "one"), StoreSettings { part_size: Some(9 << 20), ..at("b", "one") }] {
            assert!(Arc::ptr_eq(&first, &links.to(&same)), "{same:?}");
        }
        for other in [
            StoreSettings { endpoint: None, ..at("b", "one") },
            StoreSettings { region: Some("eu".into()), ..at("b", "one") },
            StoreSettings { access_key_id: Some("k".into()), ..at("b", "one") },
            StoreSettings { secret_access_key: Some(Secret::new("k")), ..at("b", "one") },
            StoreSettings { ca_file: Some("/ca".into()), ..at("b", "one") },
        ] {
            assert!(!Arc::ptr_eq(&first, &links.to(&other)), "{other:?}");
        }
    }
}

//! What the stores of one service share: its client, built at the first request, and the number of requests
//! at once. Stores share a link if their settings differ in bucket, path and how transfers are cut alone.

use super::{S3Settings, StoreClock, StoreSettings};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, Semaphore};

/// Requests of all databases together: more would only be sockets and memory, and stores answer a storm with
/// 503.
const REQUESTS: usize = 64;

pub(super) struct Link<C> {
    pub settings: StoreSettings,
    client: OnceCell<Arc<C>>,
    pub clock: Arc<StoreClock>,
    requests: Semaphore,
}

pub(super) struct Links<C>(Mutex<Vec<Arc<Link<C>>>>);

impl<C> Default for Links<C> {
    fn default() -> Self {
        Links(Mutex::default())
    }
}

impl<C> Links<C> {
    pub(super) fn to(&self, settings: &StoreSettings) -> Arc<Link<C>> {
        let settings = of_service(settings);
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.iter().find(|link| link.settings == settings) {
            return Arc::clone(link);
        }
        let link = Arc::new(Link {
            settings,
            client: OnceCell::new(),
            clock: Arc::default(),
            requests: Semaphore::const_new(REQUESTS),
        });
        links.push(Arc::clone(&link));
        link
    }
}

impl<C> Link<C> {
    /// Builds the client if there is none yet.
    pub(super) async fn client<E>(&self, build: impl AsyncFnOnce() -> Result<C, E>) -> Result<&Arc<C>, E> {
        self.client.get_or_try_init(|| async { build().await.map(Arc::new) }).await
    }

    /// The client, if a request has built it.
    pub(super) fn built_client(&self) -> Option<&Arc<C>> {
        self.client.get()
    }

    /// Runs `request` when fewer than `REQUESTS` are running; first come, first served. `request` must not
    /// call this again: requests that hold a permit and wait for another one could wait for each other.
    pub(super) async fn with_permit<T>(&self, request: impl Future<Output = T>) -> T {
        // The semaphore is never closed, so there is always a permit.
        let _permit = self.requests.acquire().await;
        request.await
    }
}

/// The settings without those that make no difference to the client.
fn of_service(settings: &StoreSettings) -> StoreSettings {
    StoreSettings {
        url: String::new(),
        bucket: String::new(),
        path: String::new(),
        part_size: None,
        concurrency: None,
        s3: S3Settings { storage_class: None, sse_kms_key_id: None, sse_c_key: None, ..settings.s3.clone() },
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
            let settings =
                StoreSettings::new(Scheme::S3, format!("s3://{bucket}/{path}"), bucket.into(), path.into());
            StoreSettings { endpoint: Some("http://x".into()), ..settings }
        };
        let with = |s3| StoreSettings { s3, ..at("b", "one") };
        let links = Links::<()>::default();
        let first = links.to(&at("b", "one"));
        for same in
            [at("b", "two"), at("c", "one"), StoreSettings { part_size: Some(9 << 20), ..at("b", "one") }]
        {
            assert!(Arc::ptr_eq(&first, &links.to(&same)), "{same:?}");
        }
        for other in [
            StoreSettings { endpoint: None, ..at("b", "one") },
            with(S3Settings { region: Some("eu".into()), ..S3Settings::default() }),
            with(S3Settings { access_key_id: Some("k".into()), ..S3Settings::default() }),
            with(S3Settings { secret_access_key: Some(Secret::new("k")), ..S3Settings::default() }),
            StoreSettings { ca_file: Some("/ca".into()), ..at("b", "one") },
        ] {
            assert!(!Arc::ptr_eq(&first, &links.to(&other)), "{other:?}");
        }
    }
}

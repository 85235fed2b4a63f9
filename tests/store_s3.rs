//! S3 as other servers speak it: moto, and s3rver, which ignores conditional writes; and what litevisor sends to each.
#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/moto.rs"]
mod moto;
#[path = "support/s3rver.rs"]
mod s3rver;
#[path = "support/seaweed.rs"]
mod seaweed;
#[path = "support/server.rs"]
mod server;
#[path = "store_suite/mod.rs"]
mod suite;

use litevisor::model::Secret;
use litevisor::store::{self, Store, StoreSettings};
use seaweed::{REGION, Seaweed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const BUCKET: &str = "store-tests";

fn open(settings: &StoreSettings) -> Arc<dyn Store> {
    store::open(settings).unwrap()
}

fn fresh(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{name}/{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The SDK itself, for what our own store does not show.
fn client(endpoint: &str, key: &str) -> aws_sdk_s3::Client {
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(key, key, None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

fn moto_settings(path: &str) -> StoreSettings {
    let endpoint = moto::shared().endpoint();
    let client = client(&endpoint, "any");
    // One that is there already is fine.
    let _ = seaweed::block_on(async { client.create_bucket().bucket(BUCKET).send().await });
    Seaweed::settings_for(&endpoint, BUCKET, path)
}

fn s3rver_settings(path: &str) -> StoreSettings {
    let mut settings = Seaweed::settings_for(&s3rver::shared().endpoint(), s3rver::BUCKET, path);
    settings.s3.access_key_id = Some(s3rver::KEY.to_owned());
    settings.s3.secret_access_key = Some(Secret::new(s3rver::KEY));
    settings
}

mod on_moto {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $(#[tokio::test]
            async fn $check() {
                let settings = crate::moto_settings(&crate::fresh(stringify!($check)));
                crate::suite::$check(crate::open(&settings)).await;
            })*
        };
    }
    crate::suite::every_check!(run);
}

mod on_s3rver {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $(#[tokio::test]
            async fn $check() {
                // Without conditional writes nobody can promise that: see `two_creators_at_once_are_told_apart_mostly`.
                if stringify!($check) == "one_of_sixteen_creators_wins" {
                    return;
                }
                let settings = crate::s3rver_settings(&crate::fresh(stringify!($check)));
                crate::suite::$check(crate::open(&settings)).await;
            })*
        };
    }
    crate::suite::every_check!(run);
}

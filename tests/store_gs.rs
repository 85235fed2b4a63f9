//! Google Cloud Storage: the suite of all stores on a real fake-gcs-server, and what is special to it. Who we are to Google
//! is in gs_suite/credentials.rs; pieces that go astray are in gs_suite/pieces.rs.
#![cfg(feature = "gcs")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/fake_gcs.rs"]
mod fake_gcs;
#[path = "store_suite/mod.rs"]
mod suite;

use fake_gcs::FakeGcs;
use litevisor::store::{self, Store, StoreSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const BUCKET: &str = "store-tests";

macro_rules! conformance {
    ($($check:ident),* $(,)?) => {
        mod conformance {
            $(#[tokio::test]
            async fn $check() {
                super::suite::$check(super::open(&super::settings(stringify!($check)))).await;
            })*
        }
    };
}

conformance!(
    a_new_root_is_empty,
    what_was_created_can_be_read,
    the_names_under_the_root_are_told,
    create_leaves_an_existing_object_alone,
    one_of_sixteen_creators_wins,
    put_replaces,
    ranges_are_cut_at_the_end,
    a_missing_object_is_not_found,
    a_prefix_selects,
    a_long_listing_is_complete,
    delete_removes_and_forgives,
    a_stream_becomes_one_object,
    a_stream_leaves_an_existing_object_alone,
    an_abandoned_stream_leaves_nothing,
    a_silent_producer_is_held_to_the_deadline,
    a_deadline_in_the_past_is_refused,
    keys_stay_inside_the_root,
);

fn open(settings: &StoreSettings) -> Arc<dyn Store> {
    store::open(settings).unwrap()
}

/// A root of its own in the shared server's bucket.
fn settings(name: &str) -> StoreSettings {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    FakeGcs::shared().create_bucket(BUCKET);
    FakeGcs::shared().settings(BUCKET, &format!("{name}/{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

//! Everything that works against litevisor: the app's user, stores that lie, kills, storms of signals,
//! malformed bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod boundary;
mod fuzz_replay;
#[cfg(all(feature = "s3", feature = "gcs", feature = "azure"))]
mod lying;
mod storm;
mod stress;
#[path = "../support/mod.rs"]
mod support;

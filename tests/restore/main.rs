//! Restores: by the library from made-up replicas, and by the shipped binary from real stores.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod disk;
#[cfg(feature = "age")]
mod encrypted;
mod engine;
mod latency;
mod moment;
mod owner;
mod rollback;
mod slow;
mod stopped;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod v3;

//! Replication by the shipped binary while an app writes: checkpoints, outages, spilled segments, levels,
//! many databases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod checkpoint;
mod levels;
mod many;
mod outage;
mod pause;
mod poor_disk;
mod recursive;
mod sidecar;
mod spill;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod tiers;

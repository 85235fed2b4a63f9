//! Restores of real and of made-up replicas, through the public interface, from a directory that can misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "restore/support.rs"]
mod support;

#[path = "restore/damage.rs"]
mod damage;
#[path = "restore/moment.rs"]
mod moment;
#[path = "restore/output.rs"]
mod output;
#[path = "restore/start.rs"]
mod start;
#[path = "restore/store.rs"]
mod store;
#[path = "restore/v3.rs"]
mod v3;

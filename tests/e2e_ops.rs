//! A running litevisor asked from outside: `status`, `sync`, `healthcheck`, HTTP, metrics, the socket, the log of a healthy run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod support;

#[path = "e2e_ops/asking.rs"]
mod asking;
#[path = "e2e_ops/crowd.rs"]
mod crowd;
#[path = "e2e_ops/life.rs"]
mod life;
#[path = "e2e_ops/metrics.rs"]
mod metrics;
#[path = "e2e_ops/socket.rs"]
mod socket;
#[path = "e2e_ops/story.rs"]
mod story;
#[path = "e2e_ops/sync.rs"]
mod sync;

//! Litestream as the judge: each program restores what the other wrote, on all kinds of replica.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod follow;
mod handover;
mod litestream;
mod s3;
#[path = "../support/mod.rs"]
mod support;

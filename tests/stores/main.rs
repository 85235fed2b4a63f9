//! Every store against one suite, each on a real server; and what is special to each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

#[cfg(feature = "azure")]
mod abs;
#[cfg(feature = "s3")]
mod common;
#[cfg(feature = "s3")]
mod credentials;
#[cfg(feature = "gcs")]
mod gs;
mod handover;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "sftp")]
mod sftp;
mod suite;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "s3")]
mod tiny;

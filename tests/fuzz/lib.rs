//! The targets, for the fuzzers beside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod targets;
pub use targets::*;

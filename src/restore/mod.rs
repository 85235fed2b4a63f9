//! Restore: survey → decide → plan → fetch → verify → steps → install.

pub mod decide;
pub mod error;
pub mod lineage;
pub mod listing;
pub mod plan;
pub mod settings;
pub mod steps;
mod wal_proof;

pub use settings::{OnRestoreFailure, Owner, RestoreSettings};

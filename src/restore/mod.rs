//! Restore: survey → decide → plan → fetch → verify → steps → install.

pub mod settings;
pub use settings::{OnRestoreFailure, Owner, RestoreSettings};

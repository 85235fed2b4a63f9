//! Replication: one task per database, and the handle to it.

pub mod settings;
pub use settings::ReplicateSettings;

//! Replication: one task per database and the handle to it. Owns everything from the wake-up to the store's
//! acknowledgement. Never touches the app, never decides when the program ends.

mod capture;
mod checkpoint;
mod lineage;
mod segment;
mod settings;
mod status;
mod sums;
mod upload;
pub mod watch;

pub use settings::ReplicateSettings;

//! Litestream 0.3's format, only read: its file names, which files lead to a state, how large the database
//! may be, and whether a local file continues such a replica. `restore/v3.rs` brings a state of it into a
//! file.

pub mod name;
pub mod plan;
pub mod shadow;
pub mod size;

pub use name::{Generation, Part, parse};
pub use plan::{V3File, V3Generation, V3Plan, V3PlanError};

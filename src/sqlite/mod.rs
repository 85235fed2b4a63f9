//! SQLite itself: the only user of rusqlite. Owns: our connections, the hold on the WAL, checkpoints, and the rule about
//! descriptors (`files`). Out: pages, WAL bytes, checkpoint results. Never: writes a row or a table into a user's
//! database, or decides when to checkpoint.

mod connection;
pub mod error;
pub mod files;
pub mod hold;
pub mod integrity;

pub use error::SqliteError;
pub use hold::{Backfill, Missing, ReadHold, check};

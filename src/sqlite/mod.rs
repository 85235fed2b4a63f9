//! The only user of rusqlite: litevisor's connections, the hold on the WAL, checkpoints, and the rule about
//! descriptors (`files`). It writes no row and no table to a user's database, and does not decide when to
//! checkpoint. Pages are written (`pages`) to a copy that follows a replica only.

pub mod alone;
mod connection;
pub mod error;
pub mod exclusive;
pub mod files;
mod follow;
pub mod hold;
pub mod index_header;
pub mod integrity;
pub mod pages;
mod stamp;
pub mod users;
pub mod wal_index;
pub mod wal_standing;
pub mod wal_view;

pub use error::SqliteError;
pub use follow::follow_owner;
pub use hold::{Missing, ReadHold, Writers, check};
pub use stamp::FileStamp;
pub use wal_standing::{WalPlace, WalStanding, wal_standing};
pub use wal_view::{Room, WalView};

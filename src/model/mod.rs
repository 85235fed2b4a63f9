//! The basic types of all modules. Values only: nothing here opens a file, waits or logs.

pub mod checksum;
pub mod db_path;
pub mod deadline;
pub mod durability;
pub mod ending;
pub mod line;
pub mod log_throttle;
pub mod moment;
pub mod page;
pub mod position;
pub mod process;
pub mod proof;
#[cfg(test)]
pub mod random;
pub mod restart;
pub mod secret;
pub mod threads;
pub mod txid;

pub use checksum::{Crc64, DbChecksum, FileChecksum, page_checksum};
pub use db_path::{DbPath, NameProblem, name_problem};
pub use deadline::Deadline;
pub use durability::{Durability, DurabilityLedger, Fenced, Ticket};
pub use ending::{Ending, NotStarted, ReleaseReason};
pub use line::one_line;
pub use moment::Moment;
pub use page::{DB_MAGIC, PageNo, PageSize};
pub use position::{Captured, Uploaded};
pub use process::{AppExit, Signal, SignalMap};
pub use restart::{Restart, RestartSettings, SuccessCodes};
pub use secret::Secret;
pub use txid::{Txid, TxidRange};

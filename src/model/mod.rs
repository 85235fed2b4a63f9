//! The nouns every other module speaks in. Values only: nothing here opens, waits, logs or reads a clock
//! (`Deadline` is handed one).

pub mod checksum;
pub mod db_path;
pub mod deadline;
pub mod ending;
pub mod lineage;
pub mod moment;
pub mod page;
pub mod position;
pub mod process;
pub mod proof;
pub mod restart;
pub mod secret;
pub mod txid;

pub use checksum::{Crc64, DbChecksum, FileChecksum, page_checksum};
pub use db_path::DbPath;
pub use deadline::Deadline;
pub use ending::{Ending, NotStarted};
pub use moment::Moment;
pub use page::{DB_MAGIC, PageNo, PageSize};
pub use position::{Captured, Uploaded};
pub use process::{AppExit, Signal, SignalMap};
pub use restart::{Restart, RestartSettings, SuccessCodes};
pub use secret::Secret;
pub use txid::{Txid, TxidRange};

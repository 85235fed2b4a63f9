//! May this local file continue that replica? The record beside a database, the evidence on the disk and in
//! the replica, and the decision for a restore and for the begin of a session.

pub mod check;
pub mod decide;
pub mod evidence;
mod file_content;
mod file_times;
pub mod following;
mod legacy;
pub mod record;
pub mod resume;
pub mod rollback;
pub mod setup_mark;
pub mod spilled;
pub mod state_file;
pub mod v3_marker;
pub mod wal_frame;

pub use check::LineageCheck;
pub use decide::{Decision, FileAccess, Kept, Refusal, Why, decide, relate};
pub use evidence::Evidence;
pub use file_times::{FileTimes, file_times};
pub use following::{CommitFields, FollowMark, FollowStep};
pub use record::{LocalState, Origin, SpillEnd, WalPosition};
pub use spilled::Spilled;

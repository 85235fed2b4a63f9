//! SQLite's write-ahead log as bytes (SQLite file format, section 4). Pure: bytes in, committed transactions
//! out. Only what the salts and the running checksum prove counts.

pub mod cursor;
pub mod format;
pub mod scan;
pub mod walk;

pub use cursor::{Cursor, CursorState, Mark};
pub use format::{FRAME_HEADER, FrameHeader, HEADER, Salts, WalHeader, frame_size};
pub use scan::{Committed, Fed, Open, Scanner, Version};
pub use walk::{up_to, walk};

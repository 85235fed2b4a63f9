//! SQLite's write-ahead log as bytes (SQLite file format, section 4). Pure: bytes in, committed transactions out.
//! Never opens a file and never trusts one: only what the salts and the running checksum prove counts.

pub mod cursor;
pub mod format;
pub mod scan;

pub use cursor::{Cursor, Place};
pub use format::{FRAME_HEADER, FrameHeader, HEADER, Salts, WalHeader, frame_size};
pub use scan::{Committed, Fed, Scanner};

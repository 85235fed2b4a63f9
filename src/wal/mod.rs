//! SQLite's write-ahead log as bytes (SQLite file format, section 4). Pure: bytes in, committed transactions out.
//! Never opens a file and never trusts one: only what the salts and the running checksum prove counts.

pub mod cursor;
pub mod format;
pub mod scan;
pub mod walk;

pub use cursor::{Cursor, Mark, Place};
pub use format::{FRAME_HEADER, FrameHeader, HEADER, Salts, WalHeader, frame_size};
pub use scan::{Committed, Fed, Open, Scanner};
pub use walk::{up_to, walk};

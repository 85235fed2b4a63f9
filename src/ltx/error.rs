//! Errors in an LTX file, or in the input of the encoder. They name the field or the page; the caller adds
//! the file's name.

use crate::model::PageNo;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LtxError {
    #[error("not an LTX file (magic {0:02x?})")]
    Magic([u8; 4]),
    #[error("header flags {0:#010x} are unknown")]
    Flags(u32),
    #[error("page size {0} is not one of SQLite's")]
    PageSize(u32),
    #[error("header field {field} is invalid: {why}")]
    Header { field: &'static str, why: &'static str },
    #[error("page {} is out of order (after page {})", .page.0, .after.0)]
    Order { page: PageNo, after: PageNo },
    #[error("page {} is beyond the database's {commit} pages", .page.0)]
    BeyondCommit { page: PageNo, commit: u32 },
    #[error("page {} is the lock page, which holds no data", .0.0)]
    LockPage(PageNo),
    #[error("page flags {flags:#06x} of page {} are unknown", .page.0)]
    PageFlags { page: PageNo, flags: u16 },
    #[error("page {} does not unpack to one page", .0.0)]
    PageData(PageNo),
    #[error("page {} has {got} bytes instead of the page size", .page.0)]
    PageBytes { page: PageNo, got: usize },
    #[error("a full image must hold {want} pages, this one holds {got}")]
    Incomplete { want: u32, got: u32 },
    #[error("the page index does not describe the pages")]
    Index,
    #[error("trailer field {field} is invalid: {why}")]
    Trailer { field: &'static str, why: &'static str },
    #[error("file checksum is {got:016x}, the trailer says {want:016x}")]
    FileChecksum { got: u64, want: u64 },
    #[error("database checksum is {got:016x}, the trailer says {want:016x}")]
    PostApply { got: u64, want: u64 },
    #[error("the file ends too early, after {bytes} bytes")]
    Truncated { bytes: u64 },
    #[error("there is data after the trailer")]
    TrailingData,
}

//! The LTX file format (replica files of Litestream 0.5), and the LZ4 streams of Litestream 0.3's files.
//! Pure. A file is: header (100 bytes), pages, an index of the pages, trailer (16 bytes).

pub mod decode;
pub mod encode;
pub mod error;
pub mod header;
mod index;
mod lz4_frame;
pub mod lz4_stream;
pub mod merge;
pub mod trailer;

pub use decode::{Decoder, Event};
pub use encode::Encoder;
pub use error::LtxError;
pub use header::Header;
pub use lz4_stream::{FrameDecoder, FrameError};
pub use merge::{Merge, MergeError};
pub use trailer::Trailer;

/// Bytes of the header.
pub const HEADER_BYTES: usize = header::BYTES;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = trailer::BYTES;

/// Page flag: a 4-byte length follows, and the data is one LZ4 block.
const SIZED_BLOCK: u16 = 1;
/// Bytes of a page header: number and flags. Six zero bytes end the pages.
const PAGE_HEADER_BYTES: usize = 6;

#[cfg(test)]
mod tests;

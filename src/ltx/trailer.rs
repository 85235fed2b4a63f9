//! The 16 bytes that close an LTX file.

use super::LtxError;
use crate::model::FileChecksum;

pub const BYTES: usize = 16;
const CHECKSUM_FLAG: u64 = 1 << 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Checksum of the database after this file; 0 in files without LTX's own checksums.
    pub post_apply: u64,
    pub file: FileChecksum,
}

impl Trailer {
    /// From the last bytes of a file, however many stand before.
    pub fn from_end(file: &[u8]) -> Result<Trailer, LtxError> {
        match file.last_chunk() {
            Some(bytes) => Trailer::decode(bytes),
            None => Err(LtxError::Truncated { bytes: file.len() as u64 }),
        }
    }

    pub fn decode(bytes: &[u8; BYTES]) -> Result<Trailer, LtxError> {
        let all = u128::from_be_bytes(*bytes);
        let post_apply = (all >> 64) as u64;
        let file = all as u64;
        if file & CHECKSUM_FLAG == 0 {
            return Err(LtxError::Trailer { field: "file checksum", why: "missing" });
        }
        Ok(Trailer { post_apply, file: FileChecksum(file) })
    }

    /// Whether the post-apply checksum fits what the header announced.
    pub(super) fn check(&self, has_checksums: bool) -> Result<(), LtxError> {
        let wrong = |why| Err(LtxError::Trailer { field: "post-apply checksum", why });
        match (has_checksums, self.post_apply) {
            (false, 0) => Ok(()),
            (false, _) => wrong("set in a file without checksums"),
            (true, value) if value & CHECKSUM_FLAG == 0 => wrong("missing"),
            (true, _) => Ok(()),
        }
    }
}

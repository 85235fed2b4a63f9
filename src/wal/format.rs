//! Layout and checksums of a WAL file: the 32-byte header, then frames of 24 bytes and one page each.
//! Integers are big-endian; only the word order inside the checksum follows the header's magic.

use crate::model::{PageNo, PageSize};

/// Bytes of the WAL header.
pub const HEADER: u64 = 32;
/// Bytes of a frame's header, before its page.
pub const FRAME_HEADER: usize = 24;

const MAGIC_LITTLE: u32 = 0x377f_0682;
const MAGIC_BIG: u32 = 0x377f_0683;
const VERSION: u32 = 3_007_000;

/// Bytes of one frame.
pub fn frame_size(page_size: PageSize) -> u64 {
    FRAME_HEADER as u64 + u64::from(page_size.get())
}

/// Changed with every restart of the WAL: the first one counts up, the second is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salts(pub u32, pub u32);

/// The two running sums. Each frame continues those of the frame before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums(pub u32, pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalHeader {
    pub big_endian_sums: bool,
    pub page_size: PageSize,
    pub salts: Salts,
    /// Sums over the header: where the first frame's begin.
    pub sums: Sums,
}

impl WalHeader {
    /// None when the bytes are no complete and sound header (a WAL that was never written, or is being
    /// written).
    pub fn parse(bytes: &[u8]) -> Option<WalHeader> {
        let words = Words(bytes.get(..HEADER as usize)?);
        let big_endian_sums = match words.at(0)? {
            MAGIC_LITTLE => false,
            MAGIC_BIG => true,
            _ => return None,
        };
        let page_size = PageSize::new(words.at(2)?)?;
        let sums = Sums(0, 0).over(bytes.get(..24)?, big_endian_sums);
        let sound = words.at(1)? == VERSION && Sums(words.at(6)?, words.at(7)?) == sums;
        sound.then_some(WalHeader {
            big_endian_sums,
            page_size,
            salts: Salts(words.at(4)?, words.at(5)?),
            sums,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub page: PageNo,
    /// Database size in pages after the transaction that this frame closes; 0 inside a transaction.
    pub commit: u32,
    pub salts: Salts,
    pub sums: Sums,
}

impl FrameHeader {
    pub fn parse(bytes: &[u8]) -> Option<FrameHeader> {
        let words = Words(bytes.get(..FRAME_HEADER)?);
        Some(FrameHeader {
            page: PageNo(words.at(0)?),
            commit: words.at(1)?,
            salts: Salts(words.at(2)?, words.at(3)?),
            sums: Sums(words.at(4)?, words.at(5)?),
        })
    }
}

impl Sums {
    /// Continues the sums over `bytes`, whose length is a multiple of eight.
    pub fn over(self, bytes: &[u8], big_endian: bool) -> Sums {
        let Sums(mut first, mut second) = self;
        let (pairs, _) = bytes.as_chunks::<8>();
        for &[a, b, c, d, e, f, g, h] in pairs {
            let (x, y) = if big_endian {
                (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
            } else {
                (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
            };
            first = first.wrapping_add(x).wrapping_add(second);
            second = second.wrapping_add(y).wrapping_add(first);
        }
        Sums(first, second)
    }
}

struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn at(&self, index: usize) -> Option<u32> {
        let bytes = self.0.get(index * 4..index * 4 + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

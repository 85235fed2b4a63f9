//! An LZ4 frame of any length, decoded as its bytes arrive: Litestream 0.3's files. Verifies the frame's own
//! checksums. Memory is one block (at most 4 MiB) and its packed form for any input; no input makes it panic.

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// How a file that was encrypted by Litestream's `age` setting begins.
const AGE: &[u8] = b"age-encryption.org/";

const FLG_DICTIONARY: u8 = 0x01;
const FLG_CONTENT_CHECKSUM: u8 = 0x04;
const FLG_CONTENT_SIZE: u8 = 0x08;
const FLG_BLOCK_CHECKSUM: u8 = 0x10;
const FLG_INDEPENDENT: u8 = 0x20;
const BLOCK_STORED: u32 = 1 << 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error(
        "it is encrypted with age (an `age:` setting of Litestream 0.3), which this litevisor was built \
         without (cargo feature `age`)"
    )]
    Encrypted,
    #[error("it is not an LZ4 frame")]
    Magic,
    #[error("its LZ4 frame header is damaged")]
    Header,
    #[error("its LZ4 frame uses {0}, which Litestream never writes")]
    Unsupported(&'static str),
    #[error("block {0} of its LZ4 frame is damaged")]
    Block(u32),
    #[error("the checksum of its LZ4 frame does not match")]
    Checksum,
    #[error("it is cut short")]
    Truncated,
    #[error("something follows the end of its LZ4 frame")]
    TrailingData,
}

pub struct FrameDecoder {
    expect: Expect,
    /// Bytes of the part that is expected, as far as they have come.
    partial: Vec<u8>,
    flags: u8,
    block: Vec<u8>,
    block_max: usize,
    blocks: u32,
    sum: Xxh32,
}

#[derive(Clone, Copy)]
enum Expect {
    Start,
    /// The whole frame header, of this length.
    Header(usize),
    BlockSize,
    Block {
        stored: bool,
        size: usize,
    },
    ContentChecksum,
    Nothing,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        FrameDecoder {
            expect: Expect::Start,
            partial: Vec::new(),
            flags: 0,
            block: Vec::new(),
            block_max: 0,
            blocks: 0,
            sum: Xxh32::default(),
        }
    }
}

impl FrameDecoder {
    /// Takes all of `bytes`; `sink` gets what they expand to. The output is not verified before `finish`.
    pub fn push<E: From<FrameError>>(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let want = self.want()?;
            let missing = want.saturating_sub(self.partial.len());
            let (part, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
            self.partial.extend_from_slice(part);
            bytes = rest;
            if self.partial.len() < want {
                break;
            }
            let whole = std::mem::take(&mut self.partial);
            if let Some(length) = self.part(&whole)? {
                let out = self.block.get(..length).unwrap_or_default();
                self.sum.update(out);
                sink(out)?;
            }
            // The allocation is used again; a header goes on being gathered.
            self.partial = whole;
            if !matches!(self.expect, Expect::Header(_)) {
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// Nothing has been pushed yet.
    pub fn is_fresh(&self) -> bool {
        matches!(self.expect, Expect::Start) && self.partial.is_empty()
    }

    /// To be called when the file's bytes are over.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.expect {
            Expect::Nothing => Ok(()),
            _ => Err(FrameError::Truncated),
        }
    }

    /// How many bytes the expected part has.
    fn want(&self) -> Result<usize, FrameError> {
        match self.expect {
            Expect::Start => Ok(6),
            Expect::Header(length) => Ok(length),
            Expect::BlockSize | Expect::ContentChecksum => Ok(4),
            Expect::Block { size, .. } => Ok(size + if self.flags & FLG_BLOCK_CHECKSUM != 0 { 4 } else { 0 }),
            Expect::Nothing => Err(FrameError::TrailingData),
        }
    }

    /// A whole part; the length of the block that it expands to, if it does.
    fn part(&mut self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        match self.expect {
            Expect::Start => self.start(bytes)?,
            Expect::Header(_) => self.header(bytes)?,
            Expect::BlockSize => self.block_size(word(bytes))?,
            Expect::Block { stored, size } => return self.unpack(bytes, stored, size).map(Some),
            Expect::ContentChecksum if word(bytes) == self.sum.value() => self.expect = Expect::Nothing,
            Expect::ContentChecksum => return Err(FrameError::Checksum),
            Expect::Nothing => return Err(FrameError::TrailingData),
        }
        Ok(None)
    }

    fn start(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if AGE.starts_with(bytes) {
            return Err(FrameError::Encrypted);
        }
        let [magic @ .., flags, descriptor] = bytes else { return Err(FrameError::Header) };
        if *magic != MAGIC {
            return Err(FrameError::Magic);
        }
        let block_max = match (descriptor >> 4) & 7 {
            size @ 4..=7 => 1usize << (8 + 2 * u32::from(size)),
            _ => return Err(FrameError::Header),
        };
        if flags >> 6 != 1 {
            return Err(FrameError::Header);
        }
        if flags & FLG_DICTIONARY != 0 {
            return Err(FrameError::Unsupported("a dictionary"));
        }
        if flags & FLG_INDEPENDENT == 0 {
            return Err(FrameError::Unsupported("linked blocks"));
        }
        (self.flags, self.block_max) = (*flags, block_max);
        self.expect = Expect::Header(if flags & FLG_CONTENT_SIZE != 0 { 15 } else { 7 });
        Ok(())
    }

    fn header(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        let Some((check, described)) = bytes.get(4..).and_then(|bytes| bytes.split_last()) else {
            return Err(FrameError::Header);
        };
        if (Xxh32::of(described) >> 8) as u8 != *check {
            return Err(FrameError::Header);
        }
        self.expect = Expect::BlockSize;
        Ok(())
    }

    fn block_size(&mut self, word: u32) -> Result<(), FrameError> {
        let stored = word & BLOCK_STORED != 0;
        let size = (word & !BLOCK_STORED) as usize;
        self.expect = match size {
            0 if self.flags & FLG_CONTENT_CHECKSUM != 0 => Expect::ContentChecksum,
            0 => Expect::Nothing,
            size if size > self.block_max => return Err(FrameError::Block(self.blocks)),
            size => Expect::Block { stored, size },
        };
        Ok(())
    }

    fn unpack(&mut self, bytes: &[u8], stored: bool, size: usize) -> Result<usize, FrameError> {
        let damaged = FrameError::Block(self.blocks);
        let (packed, check) = bytes.split_at_checked(size).ok_or(damaged)?;
        if !check.is_empty() && word(check) != Xxh32::of(packed) {
            return Err(damaged);
        }
        self.block.resize(self.block_max, 0);
        let length = if stored {
            self.block.get_mut(..size).ok_or(damaged)?.copy_from_slice(packed);
            size
        } else {
            lz4_flex::block::decompress_into(packed, &mut self.block).map_err(|_| damaged)?
        };
        self.blocks = self.blocks.saturating_add(1);
        self.expect = Expect::BlockSize;
        Ok(length)
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

const P1: u32 = 0x9e37_79b1;
const P2: u32 = 0x85eb_ca77;
const P3: u32 = 0xc2b2_ae3d;
const P4: u32 = 0x27d4_eb2f;
const P5: u32 = 0x1656_67b1;

/// xxHash, 32 bits, seed 0: the checksum of LZ4 frames.
struct Xxh32 {
    lanes: [u32; 4],
    /// Bytes that do not fill a stripe of 16 yet.
    rest: Vec<u8>,
    total: u64,
}

impl Default for Xxh32 {
    fn default() -> Self {
        let lanes = [P1.wrapping_add(P2), P2, 0, 0u32.wrapping_sub(P1)];
        Xxh32 { lanes, rest: Vec::with_capacity(16), total: 0 }
    }
}

impl Xxh32 {
    fn of(bytes: &[u8]) -> u32 {
        let mut sum = Xxh32::default();
        sum.update(bytes);
        sum.value()
    }

    fn update(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        if !self.rest.is_empty() {
            let (part, more) = bytes.split_at_checked(16 - self.rest.len()).unwrap_or((bytes, &[]));
            self.rest.extend_from_slice(part);
            bytes = more;
            if let Some(stripe) = self.rest.first_chunk().copied() {
                self.stripe(&stripe);
                self.rest.clear();
            }
        }
        let (stripes, rest) = bytes.as_chunks::<16>();
        stripes.iter().for_each(|stripe| self.stripe(stripe));
        self.rest.extend_from_slice(rest);
    }

    fn stripe(&mut self, stripe: &[u8; 16]) {
        let (words, _) = stripe.as_chunks::<4>();
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            let mixed = lane.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(P2));
            *lane = mixed.rotate_left(13).wrapping_mul(P1);
        }
    }

    fn value(&self) -> u32 {
        let [a, b, c, d] = self.lanes;
        let mut sum = if self.total >= 16 {
            let low = a.rotate_left(1).wrapping_add(b.rotate_left(7));
            low.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18))
        } else {
            P5
        };
        sum = sum.wrapping_add(self.total as u32);
        let (words, bytes) = self.rest.as_chunks::<4>();
        for word in words {
            sum =
                sum.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(P3)).rotate_left(17).wrapping_mul(P4);
        }
        for byte in bytes {
            sum = sum.wrapping_add(u32::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
        }
        sum = (sum ^ (sum >> 15)).wrapping_mul(P2);
        sum = (sum ^ (sum >> 13)).wrapping_mul(P3);
        sum ^ (sum >> 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;

    fn pack(data: &[u8], info: FrameInfo) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// As Litestream 0.3 writes them.
    fn usual() -> FrameInfo {
        FrameInfo::new()
            .block_mode(BlockMode::Independent)
            .block_size(BlockSize::Max4MB)
            .content_checksum(true)
    }

    fn unpack(bytes: &[u8], chunk: usize) -> Result<Vec<u8>, FrameError> {
        let (mut decoder, mut out) = (FrameDecoder::default(), Vec::new());
        for part in bytes.chunks(chunk) {
            decoder.push(part, |data| {
                out.extend_from_slice(data);
                Ok::<(), FrameError>(())
            })?;
        }
        decoder.finish().map(|()| out)
    }

    fn data(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let noise = (0..length).map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 5000 < 2500 { (state >> 24) as u8 } else { 7 }
        });
        noise.collect()
    }

    #[test]
    fn whatever_the_encoder_and_the_chunks() {
        for length in [0, 1, 15, 16, 17, 5000, 300_000] {
            let data = data(length);
            for info in [
                usual(),
                usual().block_size(BlockSize::Max64KB).block_checksums(true),
                usual().content_size(Some(length as u64)),
                usual().content_checksum(false),
            ] {
                let packed = pack(&data, info);
                for chunk in [1, 7, 4096, 1 << 20] {
                    assert!(unpack(&packed, chunk).unwrap() == data, "{length} {chunk}");
                }
            }
        }
    }

    #[test]
    fn no_flipped_byte_and_no_cut_passes() {
        let packed = pack(&data(9000), usual());
        for at in 0..packed.len() {
            let mut bad = packed.clone();
            bad[at] ^= 0x10;
            // Within a run of equal bytes another distance says the same.
            assert!(unpack(&bad, 512).is_err() || unpack(&bad, 512).unwrap() == data(9000), "byte {at}");
            assert!(unpack(&packed[..at], 512).is_err(), "cut at {at}");
        }
        let longer = [&packed[..], &[0]].concat();
        assert_eq!(unpack(&longer, 64), Err(FrameError::TrailingData));
    }

    #[test]
    fn what_is_not_for_us_is_named() {
        assert_eq!(unpack(b"age-encryption.org/v1\n-> X25519 ...", 8), Err(FrameError::Encrypted));
        assert_eq!(unpack(b"SQLite format 3\0", 8), Err(FrameError::Magic));
        assert_eq!(unpack(b"", 8), Err(FrameError::Truncated));
        let linked =
            pack(&data(200_000), usual().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB));
        assert_eq!(unpack(&linked, 512), Err(FrameError::Unsupported("linked blocks")));
    }

    #[test]
    fn xxh32_vectors() {
        for (text, sum) in [("", 0x02cc_5d05), ("a", 0x550d_7456), ("abc", 0x32d1_53ff)] {
            assert_eq!(Xxh32::of(text.as_bytes()), sum, "{text}");
        }
    }
}

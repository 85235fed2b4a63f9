//! Pages of files written before pages carried their length: each is one LZ4 frame, whose end is found by
//! walking its blocks. Only read, never written.

/// LZ4 frame, little-endian as all of LZ4.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const FLG_CONTENT_SIZE: u8 = 0x08;
const FLG_CONTENT_CHECKSUM: u8 = 0x04;
const FLG_BLOCK_CHECKSUM: u8 = 0x10;
const FLG_DICTIONARY: u8 = 0x01;
const FLG_VERSION: (u8, u8) = (0xc0, 0x40);
const BLOCK_STORED: u32 = 1 << 31;

/// What is known of a frame from its first bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// At least this many bytes are needed to know more.
    Need(usize),
    /// The frame is exactly this long.
    Whole(usize),
    Invalid,
}

/// How far the frame at the start of `bytes` reaches. A frame of one page of `page_bytes` is never longer
/// than twice that and a little: anything else is refused before it is buffered.
pub(super) fn extent(bytes: &[u8], page_bytes: usize) -> Extent {
    let Some(start) = bytes.get(..6) else { return Extent::Need(6) };
    let [magic @ .., flags, _descriptor] = start else { return Extent::Invalid };
    if *magic != MAGIC || flags & FLG_VERSION.0 != FLG_VERSION.1 || flags & FLG_DICTIONARY != 0 {
        return Extent::Invalid;
    }
    let extra = |flag: u8, size: usize| if flags & flag != 0 { size } else { 0 };
    let mut at = 7 + extra(FLG_CONTENT_SIZE, 8);
    loop {
        if at > 2 * page_bytes + 256 {
            return Extent::Invalid;
        }
        let Some(word) = bytes.get(at..at + 4).and_then(|word| word.first_chunk()) else {
            return Extent::Need(at + 4);
        };
        match u32::from_le_bytes(*word) {
            0 => break,
            size => at += 4 + (size & !BLOCK_STORED) as usize + extra(FLG_BLOCK_CHECKSUM, 4),
        }
    }
    let end = at + 4 + extra(FLG_CONTENT_CHECKSUM, 4);
    if bytes.len() < end { Extent::Need(end) } else { Extent::Whole(end) }
}

/// Unpacks a whole frame into exactly one page. Checks the frame's own checksums.
pub(super) fn unpack(frame: &[u8], page: &mut [u8]) -> bool {
    use std::io::Read;
    let mut reader = lz4_flex::frame::FrameDecoder::new(frame);
    reader.read_exact(page).is_ok() && matches!(reader.read(&mut [0]), Ok(0))
}

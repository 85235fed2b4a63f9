//! The last frame that a replica's raw file covers, as the local WAL still has it: with the same salts and the same page
//! image the local file continues the replica, whoever wrote it (this is how Litestream proves it too).
//!
//! Opens only the `-wal` file, which is harmless: SQLite keeps no locks on it.

use crate::ltx::Header;
use crate::model::{PageNo, PageSize};
use crate::sqlite::files;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The lowest bit says how checksums are computed, which does not matter here.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

#[derive(Debug, PartialEq, Eq)]
pub struct LastFrame {
    pub page: PageNo,
    pub image: Vec<u8>,
    /// The WAL's running checksum after this frame.
    pub checksum: [u32; 2],
    /// Where the next frame begins.
    pub end: u64,
}

/// The frame in the WAL at `path` that ends where `raw` ends. None: the WAL is gone, restarted, or another one.
pub fn last_frame(path: &Path, raw: &Header) -> io::Result<Option<LastFrame>> {
    let wal = match files::open_wal(path) {
        Ok((_, wal)) => wal,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(at) = frame_offset(raw) else { return Ok(None) };
    let mut header = [0; WAL_HEADER_BYTES as usize];
    let mut frame = vec![0; FRAME_HEADER_BYTES + raw.page_size.bytes()];
    if !read_at(&wal, &mut header, 0)? || !read_at(&wal, &mut frame, at)? {
        return Ok(None);
    }
    Ok(same_wal(&header, raw).then(|| parse_frame(&frame, raw, at)).flatten())
}

/// Where the last frame of `raw` begins. None when it was not made from a WAL range.
fn frame_offset(raw: &Header) -> Option<u64> {
    let frame = FRAME_HEADER_BYTES as u64 + u64::from(raw.page_size.get());
    let (offset, size) = (u64::try_from(raw.wal_offset).ok()?, u64::try_from(raw.wal_size).ok()?);
    let at = offset.checked_add(size)?.checked_sub(frame)?;
    (size >= frame && at.checked_sub(WAL_HEADER_BYTES)?.is_multiple_of(frame)).then_some(at)
}

fn same_wal(header: &[u8], raw: &Header) -> bool {
    let [magic, version, page_size, _sequence, salt1, salt2, ..] = words::<8>(header);
    magic & !1 == MAGIC
        && version == VERSION
        && PageSize::new(page_size) == Some(raw.page_size)
        && (salt1, salt2) == (raw.salt1, raw.salt2)
}

fn parse_frame(frame: &[u8], raw: &Header, at: u64) -> Option<LastFrame> {
    let (header, image) = frame.split_at_checked(FRAME_HEADER_BYTES)?;
    let [page, _commit, salt1, salt2, c1, c2] = words::<6>(header);
    let same = (salt1, salt2) == (raw.salt1, raw.salt2);
    let end = at + frame.len() as u64;
    same.then(|| LastFrame { page: PageNo(page), image: image.to_vec(), checksum: [c1, c2], end })
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

/// False when the file is too short.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Txid, TxidRange};

    /// A WAL of two frames with 512-byte pages.
    fn wal() -> Vec<u8> {
        let word = |value: u32| value.to_be_bytes().to_vec();
        let mut wal = [MAGIC, VERSION, 512, 0, 11, 22, 0, 0].map(word).concat();
        for page in [3u32, 4] {
            wal.extend([page, 4, 11, 22, page * 10, page * 100].map(word).concat());
            wal.extend([page as u8; 512]);
        }
        wal
    }

    fn raw(offset: i64, size: i64) -> Header {
        let mut header = Header::new(PageSize::new(512).unwrap(), 4, TxidRange::single(Txid(9)), 0);
        (header.wal_offset, header.wal_size, header.salt1, header.salt2) = (offset, size, 11, 22);
        header
    }

    fn look(wal: &[u8], raw: &Header) -> Option<u32> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db-wal");
        std::fs::write(&path, wal).unwrap();
        last_frame(&path, raw).unwrap().map(|frame| {
            assert_eq!(frame.image, [frame.page.0 as u8; 512]);
            assert_eq!(frame.checksum, [frame.page.0 * 10, frame.page.0 * 100]);
            assert_eq!(frame.end, (raw.wal_offset + raw.wal_size) as u64);
            frame.page.0
        })
    }

    #[test]
    fn the_frame_where_the_raw_file_ends() {
        assert_eq!(look(&wal(), &raw(32, 536)), Some(3));
        assert_eq!(look(&wal(), &raw(568, 536)), Some(4));
        assert_eq!(look(&wal(), &raw(32, 1072)), Some(4));
    }

    #[test]
    fn no_frame_no_proof() {
        // Beyond the end; not a whole frame; no WAL range.
        for (offset, size) in [(568, 1072), (32, 100), (33, 536), (32, 0), (0, 0), (-1, 600), (i64::MAX, i64::MAX)] {
            assert_eq!(look(&wal(), &raw(offset, size)), None, "{offset} {size}");
        }
        // Another WAL, another page size, a frame left over from before, a file that is no WAL.
        for (at, byte) in [(16, 1), (23, 1), (10, 4), (0, 1), (7, 1), (568 + 8, 1), (568 + 15, 1)] {
            let mut wal = wal();
            wal[at] ^= byte;
            assert_eq!(look(&wal, &raw(568, 536)), None, "byte {at}");
        }
        assert_eq!(look(&[], &raw(32, 536)), None);
        assert_eq!(last_frame(Path::new("/nonexistent-wal"), &raw(32, 536)).unwrap(), None);
    }
}

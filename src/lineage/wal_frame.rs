//! The last frame that the replica's newest raw file covers, read from the local WAL. If salts and page image
//! are the same, the local file continues the replica, whichever program wrote it (Litestream proves it in
//! the same way). Opens only the `-wal` file, which is harmless: SQLite keeps no locks on it.

use crate::ltx::Header;
use crate::model::PageNo;
use crate::sqlite::files;
use crate::wal::{FRAME_HEADER, FrameHeader, HEADER, Salts, WalHeader, frame_size};
use std::io::{self, ErrorKind};
use std::path::Path;

#[derive(Debug, PartialEq, Eq)]
pub struct LastFrame {
    pub page: PageNo,
    pub image: Vec<u8>,
    /// The WAL's running checksum after this frame.
    pub checksum: [u32; 2],
    /// Where the next frame begins.
    pub end: u64,
}

/// The frame in the WAL at `path` that ends where `raw` ends. None: the WAL is gone, restarted, or another
/// one.
pub fn last_frame(path: &Path, raw: &Header) -> io::Result<Option<LastFrame>> {
    let wal = match files::open_wal(path) {
        Ok((_, wal)) => wal,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(at) = frame_offset(raw) else { return Ok(None) };
    let mut header = [0; HEADER as usize];
    let mut frame = vec![0; FRAME_HEADER + raw.page_size.bytes()];
    let whole = files::read_full(&wal, 0, &mut header)? == header.len()
        && files::read_full(&wal, at, &mut frame)? == frame.len();
    Ok((whole && same_wal(&header, raw)).then(|| parse_frame(&frame, raw, at)).flatten())
}

/// Where the last frame of `raw` begins; None: the file was not made from a WAL range.
fn frame_offset(raw: &Header) -> Option<u64> {
    let frame = frame_size(raw.page_size);
    let offset = u64::try_from(raw.wal_offset).ok()?;
    let size = u64::try_from(raw.wal_size).ok()?;
    let at = offset.checked_add(size)?.checked_sub(frame)?;
    (size >= frame && at.checked_sub(HEADER)?.is_multiple_of(frame)).then_some(at)
}

fn same_wal(header: &[u8], raw: &Header) -> bool {
    WalHeader::parse(header).is_some_and(|header| {
        header.page_size == raw.page_size && header.salts == Salts(raw.salt1, raw.salt2)
    })
}

fn parse_frame(frame: &[u8], raw: &Header, at: u64) -> Option<LastFrame> {
    let header = FrameHeader::parse(frame).filter(|header| header.salts == Salts(raw.salt1, raw.salt2))?;
    let image = frame.get(FRAME_HEADER..)?.to_vec();
    let checksum = [header.sums.0, header.sums.1];
    Some(LastFrame { page: header.page, image, checksum, end: at + frame.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PageSize, Txid, TxidRange};
    use crate::wal::format::Sums;

    /// A WAL of two frames with 512-byte pages.
    fn wal() -> Vec<u8> {
        let word = |value: u32| value.to_be_bytes().to_vec();
        let mut wal = [0x377f_0682, 3_007_000, 512, 0, 11, 22].map(word).concat();
        let sums = Sums(0, 0).over(&wal, false);
        wal.extend([sums.0, sums.1].map(word).concat());
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
        for (offset, size) in
            [(568, 1072), (32, 100), (33, 536), (32, 0), (0, 0), (-1, 600), (i64::MAX, i64::MAX)]
        {
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

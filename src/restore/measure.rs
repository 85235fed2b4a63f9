//! The checksum of a whole database file, from its pages as they are on the disk.

use crate::model::{DbChecksum, PageNo, PageSize, page_checksum};
use crate::sqlite::files::read_full;
use std::fs::File;
use std::io;
use std::path::Path;

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// None: `stopped` said so meanwhile, or the file is no database. No process has the file open.
#[expect(clippy::disallowed_methods, reason = "a scratch file: SQLite has not opened it yet")]
pub fn db_checksum(path: &Path, stopped: impl Fn() -> bool) -> io::Result<Option<DbChecksum>> {
    let file = File::open(path)?;
    let mut header = [0; 18];
    read_full(&file, 0, &mut header)?;
    let field = header.last_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let Some(size) = field.and_then(PageSize::from_db_header) else { return Ok(None) };
    let mut total = DbChecksum::default();
    let mut buffer = vec![0; READ_BYTES.max(size.bytes())];
    let (mut page, mut offset) = (PageNo(1), 0);
    loop {
        if stopped() {
            return Ok(None);
        }
        let got = read_full(&file, offset, &mut buffer)?;
        for bytes in buffer.get(..got).unwrap_or_default().chunks_exact(size.bytes()) {
            if page != size.lock_page() {
                total.toggle(page_checksum(page, bytes));
            }
            page.0 = page.0.saturating_add(1);
        }
        if got < buffer.len() {
            return Ok(Some(total));
        }
        offset += got as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let mut bytes = vec![7; 600 * 512];
        bytes[16..18].copy_from_slice(&512u16.to_be_bytes());
        let expected = |bytes: &[u8]| {
            let mut total = DbChecksum::default();
            let pages = bytes.chunks_exact(512).zip(1..);
            pages.for_each(|(page, number)| total.toggle(page_checksum(PageNo(number), page)));
            total
        };
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(db_checksum(&path, || false).unwrap(), Some(expected(&bytes)));
        assert_eq!(db_checksum(&path, || true).unwrap(), None);
        let before = expected(&bytes);
        bytes[599 * 512] = 8;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(db_checksum(&path, || false).unwrap(), Some(expected(&bytes)));
        assert_ne!(expected(&bytes), before);
        std::fs::write(&path, "no database").unwrap();
        assert_eq!(db_checksum(&path, || false).unwrap(), None);
    }
}

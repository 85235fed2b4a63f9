//! Page numbers and page sizes of a SQLite database (SQLite file format, sections 1.2.2 and 1.3.2).

use std::fmt;

/// What every SQLite database begins with.
pub const DB_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Byte that SQLite uses for locking; the page that holds it carries no data and is never in a WAL or LTX
/// file.
const PENDING_BYTE: u64 = 0x4000_0000;

/// 1-based page number; 0 is never valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(pub u32);

/// A page size that SQLite accepts: a power of two, 512 to 65536 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    pub const SMALLEST: PageSize = PageSize(512);

    pub fn new(bytes: u32) -> Option<PageSize> {
        (bytes.is_power_of_two() && (512..=65536).contains(&bytes)).then_some(PageSize(bytes))
    }

    /// From the two bytes at offset 16 of a database header, where 1 stands for 65536.
    pub fn from_db_header(field: u16) -> Option<PageSize> {
        PageSize::new(if field == 1 { 65536 } else { u32::from(field) })
    }

    pub fn get(self) -> u32 {
        self.0
    }

    pub fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The page that is never written (the one that contains byte 2^30).
    pub fn lock_page(self) -> PageNo {
        PageNo((PENDING_BYTE / u64::from(self.0)) as u32 + 1)
    }

    /// Byte offset of a page in the database file; 64-bit, because the product passes 4 GiB.
    pub fn offset_of(self, page: PageNo) -> u64 {
        u64::from(page.0.saturating_sub(1)) * u64::from(self.0)
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sqlite_page_sizes() {
        for (bytes, ok) in [
            (0, false),
            (256, false),
            (512, true),
            (513, false),
            (4096, true),
            (65536, true),
            (131072, false),
        ] {
            assert_eq!(PageSize::new(bytes).is_some(), ok, "{bytes}");
        }
        assert_eq!(PageSize::from_db_header(1).map(PageSize::get), Some(65536));
    }

    #[test]
    fn lock_page_and_offsets() {
        for (bytes, lock) in [(65536u32, 16385u32), (4096, 262145), (512, 2097153)] {
            assert_eq!(PageSize::new(bytes).map(PageSize::lock_page), Some(PageNo(lock)));
        }
        let size = PageSize::new(65536).unwrap();
        assert_eq!(size.offset_of(PageNo(1)), 0);
        assert_eq!(size.offset_of(PageNo(100_001)), 6_553_600_000);
    }
}

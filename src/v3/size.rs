//! The possible size of a database in a Litestream 0.3 replica: pure. The LZ4 stream and the commit records
//! can claim any size in a few bytes, so neither is trusted: the snapshot's first page says the size, and a
//! commit adds at most the pages that came with it.

use crate::model::{DB_MAGIC, PageSize};

/// Bytes of the database header.
pub const HEADER_BYTES: u64 = 100;
/// Pages that a commit may add without any frame having brought them. SQLite writes every page that it adds;
/// a reader that is exact about it would refuse a replica that another tool restores.
const SLACK_PAGES: u64 = 1024;

/// What a snapshot's database header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSize {
    pub page_size: PageSize,
    /// Pages of the database; what a snapshot holds behind them was freed before it was made, and SQLite
    /// ignores it. None: the header does not say.
    pub pages: Option<u32>,
}

impl SnapshotSize {
    pub fn of(header: &[u8; HEADER_BYTES as usize]) -> Option<SnapshotSize> {
        let field = |at: usize| header.get(at..at + 4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let size =
            header.get(16..18).and_then(|bytes| bytes.first_chunk()).map(|bytes| u16::from_be_bytes(*bytes));
        let page_size = size.filter(|_| header.starts_with(DB_MAGIC)).and_then(PageSize::from_db_header)?;
        // The size counts only if it was written together with the change counter.
        let pages = field(28).filter(|pages| *pages > 0 && field(24) == field(92));
        Some(SnapshotSize { page_size, pages })
    }

    /// Bytes of the snapshot that are kept.
    pub fn bytes(&self) -> u64 {
        self.pages.map_or(u64::MAX, |pages| u64::from(pages) * u64::from(self.page_size.get()))
    }
}

/// Whether a commit may say that the database has `commit` pages, when it had `before` and `brought` came
/// with its WAL.
pub fn commit_is_possible(commit: u32, before: u64, brought: usize) -> bool {
    u64::from(commit) <= before.saturating_add(brought as u64).saturating_add(SLACK_PAGES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_snapshot_says_of_its_size() {
        let mut header = [0; 100];
        header[..16].copy_from_slice(DB_MAGIC);
        header[16..18].copy_from_slice(&4096u16.to_be_bytes());
        header[28..32].copy_from_slice(&7u32.to_be_bytes());
        let size = SnapshotSize::of(&header).unwrap();
        assert_eq!((size.pages, size.bytes()), (Some(7), 7 * 4096));
        let mut unsure = header;
        unsure[27] = 1;
        assert_eq!(SnapshotSize::of(&unsure).unwrap().bytes(), u64::MAX, "an old writer went on");
        let mut unset = header;
        unset[31] = 0;
        assert_eq!(SnapshotSize::of(&unset).unwrap().pages, None);
        header[0] = b'X';
        assert_eq!(SnapshotSize::of(&header), None);
        assert_eq!(SnapshotSize::of(&[0; 100]), None);
    }

    #[test]
    fn a_commit_adds_what_came_with_it() {
        for (commit, before, brought, possible) in [
            (10, 10, 0, true),
            (3, 10, 1, true),
            (12, 10, 2, true),
            (12 + 1024, 10, 2, true),
            (13 + 1024, 10, 2, false),
            (u32::MAX, 10, 2, false),
            (u32::MAX, u64::MAX, 2, true),
        ] {
            assert_eq!(commit_is_possible(commit, before, brought), possible, "{commit} {before} {brought}");
        }
    }
}

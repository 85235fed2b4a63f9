//! Where in the WAL a position of the replica lies. Reads the WAL, and the database file where its content
//! has to tell.

use super::{Capture, CaptureError, files};
use crate::model::{DbChecksum, PageNo};
use crate::replicate::capture::frames::header;
use crate::replicate::capture::segment::{Entry, Pages};
use crate::replicate::sums::PageSums;
use crate::wal::{Cursor, Salts, up_to};

impl Capture {
    /// Whether a WAL position that a segment ended at lies on this WAL's proven chain; its cursor then.
    pub fn on_chain(&self, salts: Salts, end: u64) -> Result<Option<Cursor>, CaptureError> {
        let Some(header) = header(&self.hold)?.filter(|header| header.salts == salts) else {
            return Ok(None);
        };
        let found = up_to(&header, end, 0, |offset, buffer: &mut [u8]| self.hold.read_wal(offset, buffer))?;
        Ok(found.map(|found| found.cursor))
    }

    /// The WAL's beginning, if what is in the database file alone is the database that `expected` states:
    /// then everything in the WAL is newer than that. Reads the file once more.
    pub fn beginning_after(&self, expected: DbChecksum) -> Result<Option<Cursor>, CaptureError> {
        let Some(header) = header(&self.hold)?.filter(|header| header.page_size == self.page_size()) else {
            return Ok(None);
        };
        let lock = self.page_size().lock_page();
        let every = (1..=self.hold.db_pages()?).map(PageNo).filter(|page| *page != lock);
        let list = every.map(Entry::in_database).collect();
        let mut sums = PageSums::default();
        Pages { files: files(&self.hold, None), list, whole_database: true }.enter_sums(&mut sums)?;
        Ok((sums.total() == expected).then(|| Cursor::start(&header)))
    }
}

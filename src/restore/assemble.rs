//! Builds the staged file: pages of the planned files, oldest first, each written to its place. A checksum
//! per page (8 bytes) proves at the end that every page is there and that the database has the checksum of
//! its writer. Runs on the applier's thread.

use super::error::{Damage, RestoreError};
use super::staged::Staged;
use crate::ltx::{Decoder, Event, Header, LtxError, Trailer};
use crate::model::{DbChecksum, DbPath, FileChecksum, Moment, PageNo, PageSize, page_checksum};
use crate::replica::RemoteFile;
use crate::store::layout::Level;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The least that a page takes in a file: its header, an empty block, its line in the index.
const LEAST_BYTES_PER_PAGE: u64 = 14;

pub struct Assembly {
    replica: String,
    db: DbPath,
    path: PathBuf,
    staged: Staged,
    decoder: Decoder,
    page_size: Option<PageSize>,
    /// The last file of another page size than those before it. The database begins anew with it.
    resized: Option<(String, Damage)>,
    table: PageTable,
    /// More pages than this cannot be in the files: what a header says is not believed before memory is
    /// taken.
    most_pages: u64,
    /// Since which file the database has not been what the headers say.
    mismatch: Option<(String, Damage)>,
    last: Option<(String, Header, Trailer)>,
    not_after: Option<Moment>,
}

/// A complete staged file.
pub struct Assembled {
    pub db: DbPath,
    pub file: Arc<File>,
    pub page_size: PageSize,
    pub commit: u32,
    pub timestamp_ms: i64,
    pub db_checksum: DbChecksum,
    /// The last file says that this is the checksum.
    pub proven: bool,
    /// The last file that was applied, by name and by content.
    pub last_key: String,
    pub tip: FileChecksum,
    /// As its header has it.
    pub app_locks_exclusively: bool,
}

impl Assembly {
    /// Creates the staged file, empty, for files of so many bytes, none of them written after `not_after`.
    pub fn create(
        db: &DbPath,
        replica: &str,
        bytes: u64,
        not_after: Option<Moment>,
    ) -> Result<Assembly, RestoreError> {
        Ok(Assembly {
            replica: replica.to_owned(),
            db: db.clone(),
            path: db.staged(),
            staged: Staged::create(db)?,
            decoder: Decoder::default(),
            page_size: None,
            resized: None,
            table: PageTable::default(),
            most_pages: most_pages(bytes),
            mismatch: None,
            last: None,
            not_after,
        })
    }

    /// Asks for the room that a file of so many bytes says is needed, whatever is in it: a page that does not
    /// compress takes little more than itself.
    pub fn expect(&mut self, largest: u64) -> Result<(), RestoreError> {
        self.staged.make_room(largest / 8 * 7)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// The file in hand is left where it is: the next one begins. It must hold what that one would have
    /// brought.
    pub fn go_on(&mut self, bytes: u64) {
        self.decoder = Decoder::default();
        self.most_pages = self.most_pages.saturating_add(most_pages(bytes));
    }

    /// The next bytes of `file`.
    pub fn feed(&mut self, file: &RemoteFile, bytes: &[u8]) -> Result<(), RestoreError> {
        self.apply(file, bytes).map_err(|fault| self.explain(file, fault))
    }

    /// There are no more bytes of `file`.
    pub fn end(&mut self, file: &RemoteFile) -> Result<(), RestoreError> {
        self.close(file).map_err(|fault| self.explain(file, fault))
    }

    fn explain(&self, file: &RemoteFile, fault: Fault) -> RestoreError {
        match fault {
            Fault::Damage(damage) => {
                RestoreError::Damaged { replica: self.replica.clone(), file: file.key.clone(), damage }
            }
            Fault::Local(error) => error,
        }
    }

    fn apply(&mut self, file: &RemoteFile, mut bytes: &[u8]) -> Result<(), Fault> {
        while let Some(event) = self.decoder.next(&mut bytes)? {
            match event {
                Event::Header(header) => {
                    let header = header.clone();
                    self.begin(file, &header)?;
                }
                Event::Page(page, data) => {
                    let offset = self.page_size.map_or(0, |size| size.offset_of(page));
                    self.staged.write(offset, data)?;
                    self.table.set(page, page_checksum(page, data));
                }
                Event::End(_) => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, file: &RemoteFile, header: &Header) -> Result<(), Fault> {
        if header.range != file.range {
            return Err(Damage::Name(header.range).into());
        }
        let time = Moment(header.timestamp_ms);
        if file.level != Level::SNAPSHOT && self.not_after.is_some_and(|limit| time > limit) {
            return Err(Damage::Later(time).into());
        }
        let (got, want) = (header.page_size, self.page_size.replace(header.page_size));
        if let Some(want) = want.filter(|want| *want != got) {
            let damage = Damage::PageSize { got: got.get(), want: want.get() };
            self.resized = Some((file.key.clone(), damage));
            (self.table, self.mismatch) = (PageTable::default(), None);
            self.staged.set_len(0)?;
        }
        if u64::from(header.commit) > self.most_pages {
            return Err(Damage::Pages(header.commit).into());
        }
        self.staged.make_room(database_bytes(header))?;
        if !self.table.grow(header.commit) {
            let replica = self.replica.clone();
            let file = file.key.clone();
            return Err(RestoreError::Memory { replica, file, pages: header.commit }.into());
        }
        Ok(())
    }

    /// A file is over: the database has its size now, and may say what it should be.
    fn close(&mut self, file: &RemoteFile) -> Result<(), Fault> {
        let (header, trailer) = std::mem::take(&mut self.decoder).finish()?;
        self.staged.set_len(database_bytes(&header))?;
        self.table.shrink(header.commit);
        match header.db_checksum {
            Some(want) if want != self.table.rolling && self.mismatch.is_none() => {
                let damage = Damage::Checksum { got: self.table.rolling.get(), want: want.get() };
                self.mismatch = Some((file.key.clone(), damage));
            }
            // A later full image made it right again.
            Some(want) if want == self.table.rolling => self.mismatch = None,
            _ => {}
        }
        self.last = Some((file.key.clone(), header, trailer));
        Ok(())
    }

    /// After the last file: every page is there, and the checksum is the one that the headers say.
    pub fn finish(self) -> Result<Assembled, RestoreError> {
        let Some((last_key, header, trailer)) = self.last else {
            return Err(RestoreError::NothingThere { replica: self.replica });
        };
        let missing = self.table.first_missing(header.page_size.lock_page());
        // A file of another page size that did not bring every page was none to begin with.
        let missing =
            missing.map(|page| self.resized.unwrap_or_else(|| (last_key.clone(), Damage::Missing(page))));
        if let Some((file, damage)) = missing.or(self.mismatch) {
            return Err(RestoreError::Damaged { replica: self.replica, file, damage });
        }
        Ok(Assembled {
            db: self.db,
            file: self.staged.finish()?,
            page_size: header.page_size,
            commit: header.commit,
            timestamp_ms: header.timestamp_ms,
            db_checksum: self.table.rolling,
            proven: header.db_checksum == Some(self.table.rolling),
            last_key,
            tip: trailer.file,
            app_locks_exclusively: header.app_locks_exclusively,
        })
    }
}

/// What went wrong with a chunk, before it is known of which file.
enum Fault {
    Damage(Damage),
    Local(RestoreError),
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        Fault::Damage(damage)
    }
}

impl From<LtxError> for Fault {
    fn from(error: LtxError) -> Self {
        Fault::Damage(Damage::Format(error))
    }
}

impl From<RestoreError> for Fault {
    fn from(error: RestoreError) -> Self {
        Fault::Local(error)
    }
}

fn most_pages(bytes: u64) -> u64 {
    bytes / LEAST_BYTES_PER_PAGE + 1 // and the lock page, which is in no file
}

fn database_bytes(header: &Header) -> u64 {
    u64::from(header.commit) * u64::from(header.page_size.get())
}

/// Checksum of each page, 0 where it has not come yet, and of all together.
#[derive(Default)]
struct PageTable {
    checksums: Vec<u64>,
    rolling: DbChecksum,
}

impl PageTable {
    /// False: there is no memory for so many.
    fn grow(&mut self, pages: u32) -> bool {
        let pages = pages as usize;
        let more = pages.saturating_sub(self.checksums.len());
        let room = self.checksums.try_reserve(more).is_ok();
        if room && more > 0 {
            self.checksums.resize(pages, 0);
        }
        room
    }

    fn shrink(&mut self, pages: u32) {
        for gone in self.checksums.drain((pages as usize).min(self.checksums.len())..) {
            self.rolling.toggle(gone);
        }
    }

    fn set(&mut self, page: PageNo, checksum: u64) {
        if let Some(slot) = (page.0 as usize).checked_sub(1).and_then(|at| self.checksums.get_mut(at)) {
            self.rolling.toggle(std::mem::replace(slot, checksum));
            self.rolling.toggle(checksum);
        }
    }

    fn first_missing(&self, lock: PageNo) -> Option<u32> {
        let missing = |(page, checksum): (u32, &u64)| (*checksum == 0 && page != lock.0).then_some(page);
        (1..).zip(&self.checksums).find_map(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_follows_growth_and_shrinking() {
        let mut table = PageTable::default();
        let sum = |page: u32| page_checksum(PageNo(page), &[page as u8; 512]);
        assert!(table.grow(3));
        for page in 1..=3 {
            assert_eq!(table.first_missing(PageNo(99)), Some(page));
            table.set(PageNo(page), sum(page));
        }
        assert_eq!(table.first_missing(PageNo(99)), None);
        // The same page again counts once; what is cut off counts no more.
        table.set(PageNo(2), sum(9));
        table.set(PageNo(2), sum(2));
        table.shrink(2);
        let mut two = DbChecksum::default();
        two.toggle(sum(1));
        two.toggle(sum(2));
        assert_eq!(table.rolling, two);
        assert!(table.grow(4));
        assert_eq!(table.first_missing(PageNo(99)), Some(3));
        table.set(PageNo(4), sum(4));
        assert_eq!(table.first_missing(PageNo(3)), None, "the lock page is in no file");
        // Beyond the database: ignored (the decoder refuses it before).
        table.set(PageNo(5), sum(5));
        table.set(PageNo(0), sum(5));
        assert_eq!(table.checksums.len(), 4);
    }
}

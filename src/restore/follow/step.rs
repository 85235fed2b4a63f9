//! One step of a copy, from the position where it stands to the end of the last of its files: what is checked
//! before a page is written. Pure.

use super::error::Anew;
use super::spool::Spooled;
use super::stand::{Stand, stated};
use crate::ltx::{Header, Trailer};
use crate::model::{DbChecksum, PageNo, Txid, page_checksum};
use crate::replica::RemoteFile;
use crate::restore::RestoreError;
use std::collections::HashMap;

/// More bytes than this become several steps. A single file may have more: it is on the disk.
const BYTES: u64 = 4 << 20;
const FILES: usize = 1024;

/// Files that follow each other, and become one step: one record, one sync, one transaction.
pub struct Step {
    before: Vec<Spooled>,
    last: Spooled,
}

impl Step {
    pub fn new(file: Spooled) -> Step {
        Step { before: Vec::new(), last: file }
    }

    pub fn add(&mut self, file: Spooled) {
        self.before.push(std::mem::replace(&mut self.last, file));
    }

    pub fn is_full(&self) -> bool {
        self.bytes() >= BYTES || self.len() >= FILES
    }

    pub fn len(&self) -> usize {
        self.before.len() + 1
    }

    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.length).sum()
    }

    /// In their order.
    pub fn files(&self) -> impl Iterator<Item = &Spooled> {
        self.before.iter().chain([&self.last])
    }

    pub fn is_last(&self, file: &Spooled) -> bool {
        std::ptr::eq(file, &raw const self.last)
    }

    pub fn last(&self) -> &RemoteFile {
        &self.last.file
    }

    /// Of the last file: where the step leads.
    pub fn header(&self) -> &Header {
        &self.last.header
    }

    pub fn trailer(&self) -> &Trailer {
        &self.last.trailer
    }

    pub fn key(&self) -> &str {
        &self.last.file.key
    }

    pub fn stated(&self) -> Option<DbChecksum> {
        stated(&self.last.header, &self.last.trailer)
    }
}

/// Whether the step may be applied there at all. `proven`: the file of that position in the replica is the
/// one that the copy has.
pub fn check(stand: &Stand, step: &Step, proven: bool) -> Result<(), Anew> {
    let mut proven = proven;
    for Spooled { header, trailer, file, .. } in step.files() {
        if header.page_size != stand.page_size {
            return Err(Anew::PageSize { file: file.key.clone() });
        }
        if stated(header, trailer).is_none() && !proven {
            return Err(Anew::Unproven { file: file.key.clone(), txid: stand.txid });
        }
        proven = true;
    }
    Ok(())
}

/// The checksum after the step, proven by what its files say. `before`: of a page as the database has it
/// before the step. Each page that comes goes to `each`, after its own `before`.
pub fn exchange<E: From<Anew> + From<RestoreError>>(
    stand: &Stand,
    step: &Step,
    mut before: impl FnMut(PageNo) -> Result<u64, RestoreError>,
    mut each: impl FnMut(PageNo, &[u8]) -> Result<(), RestoreError>,
) -> Result<DbChecksum, E> {
    let mut exchange = Exchange::new(stand);
    // Of the pages that the step has brought: later files may bring or cut them again.
    let mut brought: HashMap<PageNo, u64> = HashMap::new();
    for file in step.files() {
        exchange.begin(file)?;
        file.pages::<RestoreError>(|page, data| {
            if exchange.had(page) {
                exchange.remove(brought.get(&page).copied().map_or_else(|| before(page), Ok)?);
            }
            let sum = page_checksum(page, data);
            exchange.add(page, sum);
            if !step.is_last(file) {
                brought.insert(page, sum);
            }
            each(page, data)
        })?;
        for page in exchange.cut() {
            exchange.remove(brought.remove(&page).map_or_else(|| before(page), Ok)?);
        }
        exchange.finish(file)?;
    }
    Ok(exchange.total)
}

/// The checksum of the database, as pages are exchanged, file by file.
struct Exchange {
    total: DbChecksum,
    txid: Txid,
    before: u32,
    after: u32,
    lock: PageNo,
    /// Pages behind the old end.
    new: u32,
}

impl Exchange {
    fn new(stand: &Stand) -> Exchange {
        let lock = stand.page_size.lock_page();
        Exchange {
            total: stand.db_checksum,
            txid: stand.txid,
            before: stand.pages,
            after: stand.pages,
            lock,
            new: 0,
        }
    }

    /// The pages of this file follow.
    fn begin(&mut self, file: &Spooled) -> Result<(), Anew> {
        let header = &file.header;
        let before = header.pre_apply.and_then(DbChecksum::from_header);
        let follows = header.range.min == self.txid.next();
        if before.is_some_and(|before| follows && before != self.total) {
            return Err(Anew::OtherHistory { file: file.file.key.clone(), txid: self.txid });
        }
        (self.after, self.new) = (header.commit, 0);
        Ok(())
    }

    /// Whether the database has such a page before the file.
    fn had(&self, page: PageNo) -> bool {
        page.0 <= self.before && page != self.lock
    }

    /// The pages that are cut off.
    fn cut(&self) -> impl Iterator<Item = PageNo> + use<> {
        let lock = self.lock;
        (self.after.saturating_add(1)..=self.before).map(PageNo).filter(move |page| *page != lock)
    }

    /// A page with this checksum goes.
    fn remove(&mut self, page_checksum: u64) {
        self.total.toggle(page_checksum);
    }

    fn add(&mut self, page: PageNo, page_checksum: u64) {
        self.total.toggle(page_checksum);
        self.new += u32::from(page.0 > self.before);
    }

    /// How many of the pages behind the old end have not come.
    fn missing(&self) -> u32 {
        let grown = self.after.saturating_sub(self.before);
        let lock = (self.before.saturating_add(1)..=self.after).contains(&self.lock.0);
        grown.saturating_sub(u32::from(lock)).saturating_sub(self.new)
    }

    /// Whether every page is there, and the file says the same checksum.
    fn finish(&mut self, file: &Spooled) -> Result<(), Anew> {
        let missing = self.missing();
        if missing > 0 {
            let problem = format!("{missing} of its new pages are in no file");
            return Err(Anew::Damaged { file: file.file.key.clone(), problem });
        }
        if stated(&file.header, &file.trailer).is_some_and(|stated| stated != self.total) {
            return Err(Anew::OtherHistory { file: file.file.key.clone(), txid: self.txid });
        }
        (self.txid, self.before) = (file.header.range.max, self.after);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PageSize;

    fn exchange(before: u32, after: u32) -> Exchange {
        let lock = PageSize::new(65536).unwrap().lock_page();
        assert_eq!(lock, PageNo(16385));
        Exchange { total: DbChecksum::default(), txid: Txid::FIRST, before, after, lock, new: 0 }
    }

    #[test]
    fn the_lock_page_is_in_no_file() {
        let grows = exchange(16383, 16387);
        assert_eq!(grows.cut().count(), 0);
        assert!(grows.had(PageNo(16383)) && !grows.had(PageNo(16384)));
        let shrinks = exchange(16387, 16383);
        assert_eq!(shrinks.cut().map(|page| page.0).collect::<Vec<_>>(), [16384, 16386, 16387]);
        assert!(shrinks.had(PageNo(16387)) && !shrinks.had(PageNo(16385)));
        for (before, after, new, missing) in [
            (16383, 16387, 3, 0),
            (16383, 16387, 2, 1),
            (16384, 16385, 0, 0),
            (16385, 16386, 1, 0),
            (1, 4, 3, 0),
            (1, 4, 0, 3),
            (4, 1, 0, 0),
        ] {
            assert_eq!(
                Exchange { new, ..exchange(before, after) }.missing(),
                missing,
                "{before} {after} {new}"
            );
        }
    }

    #[test]
    fn a_page_counts_once() {
        let mut exchange = exchange(2, 3);
        let sum = |number, fill: u8| page_checksum(PageNo(number), &[fill; 512]);
        for (page, fill) in [(1, 1), (2, 2)] {
            exchange.add(PageNo(page), sum(page, fill));
        }
        let before = exchange.total;
        exchange.remove(sum(2, 2));
        exchange.add(PageNo(2), sum(2, 5));
        exchange.remove(sum(2, 5));
        exchange.add(PageNo(2), sum(2, 2));
        assert_eq!((exchange.total, exchange.new), (before, 0));
        exchange.add(PageNo(3), sum(3, 2));
        assert_eq!(exchange.new, 1);
    }
}

//! One step of a copy, from the position where it stands to the end of a file: what is checked before a page is written. Pure.

use super::error::Anew;
use super::spool::Spooled;
use super::stand::{Stand, stated};
use crate::model::{DbChecksum, PageNo, page_checksum};

/// Whether the file may be applied there at all. `proven`: the file of that position in the replica is the one that the copy has.
pub fn check(stand: &Stand, step: &Spooled, proven: bool) -> Result<(), Anew> {
    let Spooled { header, trailer, file, .. } = step;
    let txid = stand.txid;
    if header.page_size != stand.page_size {
        return Err(Anew::PageSize { file: file.key.clone() });
    }
    let follows = header.range.min == txid.next();
    let before = header.pre_apply.and_then(DbChecksum::from_header).filter(|_| follows && stand.torn.is_none());
    if before.is_some_and(|before| before != stand.db_checksum) {
        return Err(Anew::OtherHistory { file: file.key.clone(), txid });
    }
    if stated(header, trailer).is_none() && !proven {
        return Err(Anew::Unproven { file: file.key.clone(), txid });
    }
    Ok(())
}

/// The checksum of the database, as pages are exchanged.
pub struct Exchange {
    total: DbChecksum,
    before: u32,
    after: u32,
    lock: PageNo,
    /// Pages behind the old end.
    new: u32,
}

impl Exchange {
    pub fn new(stand: &Stand, step: &Spooled) -> Exchange {
        let lock = stand.page_size.lock_page();
        Exchange { total: stand.db_checksum, before: stand.pages, after: step.header.commit, lock, new: 0 }
    }

    /// Whether the database has such a page before the step.
    pub fn had(&self, page: PageNo) -> bool {
        page.0 <= self.before && page != self.lock
    }

    /// The pages that are cut off.
    pub fn cut(&self) -> impl Iterator<Item = PageNo> + use<> {
        let lock = self.lock;
        (self.after.saturating_add(1)..=self.before).map(PageNo).filter(move |page| *page != lock)
    }

    pub fn remove(&mut self, page: PageNo, data: &[u8]) {
        self.total.toggle(page_checksum(page, data));
    }

    pub fn add(&mut self, page: PageNo, data: &[u8]) {
        self.total.toggle(page_checksum(page, data));
        self.new += u32::from(page.0 > self.before);
    }

    /// The checksum after the step, if every page is there and the file says the same.
    pub fn finish(self, stand: &Stand, step: &Spooled) -> Result<DbChecksum, Anew> {
        let grown = self.after.saturating_sub(self.before);
        let lock = u32::from((self.before + 1..=self.after).contains(&self.lock.0));
        if self.new != grown - lock {
            let problem =
                format!("{} of its {grown} new pages are in no file", grown - lock - self.new.min(grown - lock));
            return Err(Anew::Damaged { file: step.file.key.clone(), problem });
        }
        match stated(&step.header, &step.trailer) {
            Some(stated) if stated != self.total => {
                Err(Anew::OtherHistory { file: step.file.key.clone(), txid: stand.txid })
            }
            _ => Ok(self.total),
        }
    }
}

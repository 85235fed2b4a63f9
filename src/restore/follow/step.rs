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

    /// How many of the pages behind the old end have not come.
    fn missing(&self) -> u32 {
        let grown = self.after.saturating_sub(self.before);
        let lock = (self.before.saturating_add(1)..=self.after).contains(&self.lock.0);
        grown.saturating_sub(u32::from(lock)).saturating_sub(self.new)
    }

    /// The checksum after the step, if every page is there and the file says the same.
    pub fn finish(self, stand: &Stand, step: &Spooled) -> Result<DbChecksum, Anew> {
        let missing = self.missing();
        if missing > 0 {
            let problem = format!("{missing} of its new pages are in no file");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PageSize;

    fn exchange(before: u32, after: u32) -> Exchange {
        let lock = PageSize::new(65536).unwrap().lock_page();
        assert_eq!(lock, PageNo(16385));
        Exchange { total: DbChecksum::default(), before, after, lock, new: 0 }
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
            assert_eq!(Exchange { new, ..exchange(before, after) }.missing(), missing, "{before} {after} {new}");
        }
    }

    #[test]
    fn a_page_counts_once() {
        let mut exchange = exchange(2, 3);
        let page = |number, fill: u8| (PageNo(number), [fill; 512]);
        for (page, data) in [page(1, 1), page(2, 2)] {
            exchange.add(page, &data);
        }
        let before = exchange.total;
        exchange.remove(PageNo(2), &[2; 512]);
        exchange.add(PageNo(2), &[5; 512]);
        exchange.remove(PageNo(2), &[5; 512]);
        exchange.add(PageNo(2), &[2; 512]);
        assert_eq!((exchange.total, exchange.new), (before, 0));
        exchange.add(PageNo(3), &[2; 512]);
        assert_eq!(exchange.new, 1);
    }
}

//! The checksum of every page, and of the whole database, at the captured position: 8 bytes a page. With it
//! each segment states the database that it leads to, and a restore can prove that it arrived there. Pure.

use crate::model::{DbChecksum, PageNo};

#[derive(Clone, Debug, Default)]
pub struct PageSums {
    /// Index 0 is page 1. Zero: no such page (a real checksum has its top bit set), as for the lock page.
    sums: Vec<u64>,
    total: DbChecksum,
}

impl PageSums {
    /// Makes room for a database of so many pages. False: there is no memory for it.
    pub fn reserve(&mut self, pages: u32) -> bool {
        self.sums.try_reserve((pages as usize).saturating_sub(self.sums.len())).is_ok()
    }

    /// Takes a page's new checksum in place of its old one.
    pub fn set(&mut self, page: PageNo, sum: u64) {
        let Some(index) = page.0.checked_sub(1).map(|index| index as usize) else { return };
        if index >= self.sums.len() {
            self.sums.resize(index + 1, 0);
        }
        if let Some(slot) = self.sums.get_mut(index) {
            let old = std::mem::replace(slot, sum);
            if old != 0 {
                self.total.toggle(old);
            }
            self.total.toggle(sum);
        }
    }

    /// Drops the pages behind the database's new end.
    pub fn truncate(&mut self, pages: u32) {
        for sum in self.sums.drain(self.sums.len().min(pages as usize)..) {
            if sum != 0 {
                self.total.toggle(sum);
            }
        }
    }

    pub fn get(&self, page: PageNo) -> Option<u64> {
        let index = page.0.checked_sub(1)? as usize;
        self.sums.get(index).copied().filter(|sum| *sum != 0)
    }

    /// Checksum of the whole database.
    pub fn total(&self) -> DbChecksum {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::page_checksum;

    #[test]
    fn the_total_depends_on_the_pages_alone_and_not_on_the_way_there() {
        let sum = |page: u32, fill: u8| page_checksum(PageNo(page), &[fill; 512]);
        let mut straight = PageSums::default();
        straight.set(PageNo(1), sum(1, 1));
        straight.set(PageNo(2), sum(2, 9));
        let mut detour = PageSums::default();
        for (page, fill) in [(5, 5), (2, 3), (1, 7), (4, 4), (2, 9), (1, 1)] {
            detour.set(PageNo(page), sum(page, fill));
        }
        assert_ne!(detour.total(), straight.total());
        detour.truncate(2);
        assert_eq!(detour.total(), straight.total());
        detour.set(PageNo(0), 7);
        assert_eq!(detour.get(PageNo(2)), Some(sum(2, 9)));
        assert_eq!((detour.get(PageNo(3)), detour.get(PageNo(0))), (None, None));
        assert_eq!(detour.total(), straight.total());
        detour.truncate(0);
        assert_eq!(detour.total(), DbChecksum::default());
    }
}

//! What the replica holds, known without asking it: one listing at the start, then what we put and delete.
//! Pure. Knows files by level and range; never decides what becomes of them.

use crate::ltx;
use crate::model::{Moment, Txid, TxidRange};
use crate::replica::{PlanError, RemoteFile, RestorableRange, Target, plan, restorable};
use crate::store::layout::Level;
use std::collections::BTreeMap;
use std::ops::Bound;

const MOST_RANGES: usize = 50;
/// A file without a single page: header, end of the pages, an index of nothing, trailer.
const EMPTY_BYTES: u64 = (ltx::HEADER_BYTES + ltx::TRAILER_BYTES + 6 + 1 + 8) as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    pub level: Level,
    pub range: TxidRange,
    /// Bytes; 0: not known.
    pub size: u64,
    /// Since when we know that it is there, or that the newest of what it was made of is. Never in the
    /// future.
    pub since_ms: i64,
    /// It cannot be read: nothing may rely on it.
    pub damaged: bool,
}

impl File {
    pub fn has_pages(&self) -> bool {
        self.size == 0 || self.size > EMPTY_BYTES
    }

    /// A restore can begin with it.
    pub fn is_base(&self) -> bool {
        self.range.min == Txid::FIRST
    }

    fn key(&self) -> Key {
        (self.level, self.range.max, self.range.min)
    }
}

/// Ordered so that the files of a level stand together, by where they end.
type Key = (Level, Txid, Txid);

#[derive(Clone, Debug, Default)]
pub struct Inventory {
    files: BTreeMap<Key, File>,
}

impl Inventory {
    /// From a listing; `now_ms`: a time of the store's that lies in our future counts as now.
    pub fn of(listed: &[RemoteFile], now_ms: i64) -> Inventory {
        let mut inventory = Inventory::default();
        for file in listed {
            let since_ms = file.modified_ms.min(now_ms);
            inventory.add(File {
                level: file.level,
                range: file.range,
                size: file.size,
                since_ms,
                damaged: false,
            });
        }
        inventory.age_by_what_follows();
        inventory
    }

    pub fn add(&mut self, file: File) {
        self.files.insert(file.key(), file);
    }

    pub fn remove(&mut self, level: Level, range: TxidRange) {
        self.files.remove(&(level, range.max, range.min));
    }

    pub fn mark_damaged(&mut self, level: Level, range: TxidRange) {
        if let Some(file) = self.files.get_mut(&(level, range.max, range.min)) {
            file.damaged = true;
        }
    }

    #[cfg(test)]
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.files.values()
    }

    /// A file is at least as old as those that follow it on its level: what a wrong clock stamped with a
    /// future time would otherwise begin its age anew with each session, and be kept for ever by sessions
    /// shorter than the retention.
    fn age_by_what_follows(&mut self) {
        let mut behind: Option<(Level, i64)> = None;
        for file in self.files.values_mut().rev() {
            if let Some((level, since_ms)) = behind.filter(|(level, _)| *level == file.level) {
                file.since_ms = file.since_ms.min(since_ms);
                behind = Some((level, file.since_ms));
            } else {
                behind = Some((file.level, file.since_ms));
            }
        }
    }

    /// Files of a level that end after `txid`, by where they end.
    pub fn after(&self, level: Level, txid: Txid) -> impl DoubleEndedIterator<Item = &File> {
        let from = Bound::Included((level, txid.next(), Txid::NONE));
        let to = Bound::Included((level, Txid(u64::MAX), Txid(u64::MAX)));
        self.files.range((from, to)).map(|(_, file)| file)
    }

    pub fn level(&self, level: Level) -> impl DoubleEndedIterator<Item = &File> {
        self.after(level, Txid::NONE)
    }

    /// The file of a level that ends last.
    pub fn newest(&self, level: Level) -> Option<&File> {
        self.level(level).next_back()
    }

    /// The newest position.
    pub fn end(&self) -> Txid {
        self.files.keys().map(|(_, max, _)| *max).max().unwrap_or(Txid::NONE)
    }

    /// The newest file that a restore can begin with.
    pub fn base(&self) -> Option<&File> {
        self.files
            .values()
            .filter(|file| file.is_base() && !file.damaged)
            .max_by_key(|file| (file.range.max, file.level))
    }

    /// Why the newest state cannot be restored, if it cannot.
    pub fn broken(&self) -> Option<PlanError> {
        let sound = self.files.values().filter(|file| !file.damaged);
        let files: Vec<_> = sound.map(remote).collect();
        if files.is_empty() { None } else { plan(&files, Target::Latest).err() }
    }

    /// The newest ranges that can be restored, the oldest first.
    pub fn restorable(&self) -> Vec<RestorableRange> {
        let files: Vec<_> = self.files.values().filter(|file| !file.damaged).map(remote).collect();
        let mut ranges = restorable(&files, &|file| Moment(file.modified_ms));
        ranges.drain(..ranges.len().saturating_sub(MOST_RANGES));
        ranges
    }

    /// Forgets files that a file of the next level holds, but for the last of each level: for a replica that
    /// nothing is ever deleted from.
    pub fn forget_merged(&mut self, into: &File) {
        let below = Level(into.level.0.saturating_sub(1));
        let last = self.newest(below).map(File::key);
        self.files.retain(|key, file| {
            let merged =
                file.level == below && file.range.min >= into.range.min && file.range.max <= into.range.max;
            !merged || Some(*key) == last
        });
    }
}

/// As the planner knows files; the key stands for the name in what it says.
pub fn remote(file: &File) -> RemoteFile {
    let File { level, range, size, since_ms, .. } = *file;
    RemoteFile { key: format!("level {} {range}", level.0), level, range, size, modified_ms: since_ms }
}

#[cfg(test)]
pub mod sample {
    //! Inventories for tables.

    use super::*;

    /// A file with pages.
    pub fn file(level: u8, min: u64, max: u64, since_ms: i64) -> File {
        let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
        File { level: Level(level), range, size: 200, since_ms, damaged: false }
    }

    pub fn inventory(files: &[(u8, u64, u64, i64)]) -> Inventory {
        let mut inventory = Inventory::default();
        for (level, min, max, since_ms) in files {
            inventory.add(file(*level, *min, *max, *since_ms));
        }
        inventory
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{file, inventory};
    use super::*;
    use crate::model::PageSize;

    #[test]
    fn an_empty_file_is_known_by_its_size() {
        let header = ltx::Header::new(PageSize::new(512).unwrap(), 3, TxidRange::single(Txid(2)), 0);
        let mut bytes = Vec::new();
        ltx::Encoder::start(&header, &mut bytes).unwrap().finish(&mut bytes).unwrap();
        let of_size = |size| File { size, ..file(0, 2, 2, 0) }.has_pages();
        assert!(!of_size(bytes.len() as u64));
        assert!(of_size(bytes.len() as u64 + 1) && of_size(0));
    }

    #[test]
    fn levels_stand_apart_and_in_order() {
        let mut all = inventory(&[(0, 5, 5, 0), (0, 4, 4, 0), (1, 2, 3, 0), (9, 1, 1, 0), (9, 1, 3, 0)]);
        let ends = |files: Vec<&File>| files.iter().map(|file| file.range.max.0).collect::<Vec<_>>();
        assert_eq!(ends(all.level(Level::RAW).collect()), [4, 5]);
        assert_eq!(ends(all.after(Level::RAW, Txid(4)).collect()), [5]);
        assert_eq!(ends(all.level(Level(2)).collect()), [0; 0]);
        assert_eq!(all.newest(Level::SNAPSHOT), Some(&file(9, 1, 3, 0)));
        assert_eq!(all.base(), Some(&file(9, 1, 3, 0)));
        assert_eq!(all.broken(), None);
        all.mark_damaged(Level::SNAPSHOT, file(9, 1, 3, 0).range);
        assert_eq!(all.base(), Some(&file(9, 1, 1, 0)));
        assert_eq!(all.broken(), None, "1-1, 2-3, 4-4, 5-5");
        all.remove(Level(1), file(1, 2, 3, 0).range);
        assert!(matches!(all.broken(), Some(PlanError::Gap { .. })));
        assert_eq!(Inventory::default().broken(), None);
        let since = |files: &[(u64, i64)]| {
            let listed: Vec<_> =
                files.iter().map(|(txid, since_ms)| remote(&file(0, *txid, *txid, *since_ms))).collect();
            Inventory::of(&listed, 80).level(Level::RAW).map(|file| file.since_ms).collect::<Vec<_>>()
        };
        assert_eq!(since(&[(2, 70), (3, 99)]), [70, 80]);
        assert_eq!(since(&[(2, 10), (3, 99), (4, 40), (5, 50)]), [10, 40, 40, 50], "3 was written before 4");
    }

    #[test]
    fn merged_files_are_forgotten_but_for_the_last() {
        let mut all = inventory(&[(0, 2, 2, 0), (0, 3, 3, 0), (0, 4, 4, 0), (1, 2, 4, 0), (9, 1, 1, 0)]);
        all.forget_merged(&file(1, 2, 4, 0));
        assert_eq!(
            all.files().map(|file| (file.level.0, file.range.max.0)).collect::<Vec<_>>(),
            [(0, 4), (1, 4), (9, 1)]
        );
    }
}

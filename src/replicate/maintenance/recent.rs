//! The small files that were uploaded last, kept until they are merged: a merge of them needs no request to
//! read. Owns the bound over all databases of the process. Never needed: what is not here is read from the
//! replica.

use crate::model::TxidRange;
use crate::store::layout::Level;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of all databases together, and of one file.
const ALL: usize = 4 << 20;
const ONE: usize = 256 << 10;

static KEPT: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
pub struct Recent(BTreeMap<(Level, TxidRange), Bytes>);

impl Recent {
    /// Keeps the file if it is small and there is room. Merged files wait longer for their turn: they get
    /// half.
    pub fn keep(&mut self, level: Level, range: TxidRange, bytes: &Bytes) {
        let room = if level == Level::RAW { ALL } else { ALL / 2 };
        let size = bytes.len();
        if size > ONE {
            return;
        }
        if KEPT.fetch_add(size, Ordering::Relaxed) + size > room {
            KEPT.fetch_sub(size, Ordering::Relaxed);
            return;
        }
        self.drop_one(self.0.get(&(level, range)).map_or(0, Bytes::len));
        self.0.insert((level, range), bytes.clone());
    }

    pub fn get(&self, level: Level, range: TxidRange) -> Option<&Bytes> {
        self.0.get(&(level, range))
    }

    pub fn forget(&mut self, level: Level, range: TxidRange) {
        let size = self.0.remove(&(level, range)).map_or(0, |bytes| bytes.len());
        self.drop_one(size);
    }

    fn drop_one(&self, size: usize) {
        KEPT.fetch_sub(size, Ordering::Relaxed);
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        self.drop_one(self.0.values().map(Bytes::len).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Txid;

    #[test]
    fn bounded_and_given_back() {
        let range = |txid| TxidRange::single(Txid(txid));
        let mut recent = Recent::default();
        recent.keep(Level::RAW, range(1), &Bytes::from(vec![0; ONE + 1]));
        assert_eq!(recent.get(Level::RAW, range(1)), None, "too large");
        let file = Bytes::from(vec![0; ONE]);
        (1..=32).for_each(|txid| recent.keep(Level::RAW, range(txid), &file));
        // Other tests of the process keep some, too.
        assert!((8..=16).contains(&recent.0.len()), "{}", recent.0.len());
        recent.keep(Level(1), range(99), &file);
        assert_eq!(recent.get(Level(1), range(99)), None, "merged files leave room for raw ones");
        let first = *recent.0.keys().next().unwrap();
        recent.forget(first.0, first.1);
        recent.forget(first.0, first.1);
        recent.keep(Level::RAW, range(200), &file);
        assert_eq!(recent.get(Level::RAW, range(200)), Some(&file));
        drop(recent);
        assert!(KEPT.load(Ordering::Relaxed) <= ALL / 2);
    }
}

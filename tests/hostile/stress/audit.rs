//! The replica as an append-only history: what was there stays as it was, nothing is missing in between, and
//! every header's database checksum is that of the database which the files up to it make.

use crate::support::replica::{Replica, parse};
use litevisor::testing::ltx::{Decoder, Event};
use litevisor::testing::model::{DbChecksum, page_checksum};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Audit {
    objects: BTreeMap<String, String>,
    pages: BTreeMap<u32, u64>,
    end: u64,
}

impl Audit {
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Everything that has come since the last look.
    pub fn look(&mut self, replica: &Replica) {
        let mut objects = replica.objects();
        // A run that ended in the middle of its look at what the store can do has left it; the next one takes
        // it away.
        objects.retain(|key, _| !key.contains(".litevisor-probe"));
        for (key, content) in &self.objects {
            assert_eq!(objects.get(key), Some(content), "{key} was there and has changed or gone");
        }
        let mut fresh: Vec<_> = objects.keys().filter(|key| !self.objects.contains_key(*key)).collect();
        // Oldest end first; a snapshot before the segment that ends where it does.
        fresh.sort_by_key(|key| parse(key).map(|(level, min, max)| (max, min, std::cmp::Reverse(level))));
        for key in fresh {
            if let Some((level, min, max)) = parse(key).filter(|(level, _, _)| matches!(level, 0 | 9)) {
                self.apply(key, (level, min, max), &replica.read(key));
            }
        }
        self.objects = objects;
    }

    fn apply(&mut self, key: &str, (level, min, max): (u32, u64, u64), bytes: &[u8]) {
        let mut chunk = bytes;
        let mut decoder = Decoder::default();
        let mut pages = BTreeMap::new();
        while let Some(event) = decoder.next(&mut chunk).unwrap_or_else(|error| panic!("{key}: {error}")) {
            if let Event::Page(page, data) = event {
                pages.insert(page.0, page_checksum(page, data));
            }
        }
        let (header, _) = decoder.finish().unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!((header.range.min.0, header.range.max.0), (min, max), "{key}: name and header");
        if level == 9 {
            assert_eq!(min, 1, "{key}");
        } else {
            assert_eq!(min, max, "{key}: one TXID per raw file");
        }
        let mut state = if min == 1 { BTreeMap::new() } else { self.pages.clone() };
        state.extend(pages);
        state.retain(|page, _| *page <= header.commit);
        match max {
            // A snapshot of a position that is known already.
            max if max == self.end => {
                assert_eq!(state, self.pages, "{key} is another database than the chain")
            }
            // One of an older position, made by Litestream.
            max if max < self.end => assert_eq!(level, 9, "{key} came after {:x}", self.end),
            max => {
                assert!(min == 1 || max == self.end + 1, "{key}: a hole after {:x}", self.end);
                assert!(
                    level == 0 || self.end + 1 == max || self.end == 0,
                    "{key}: a hole after {:x}",
                    self.end
                );
                self.end = max;
                self.pages = state;
            }
        }
        let mut total = DbChecksum::default();
        self.pages.values().for_each(|sum| total.toggle(*sum));
        if let Some(claimed) = header.db_checksum
            && max == self.end
        {
            assert_eq!(claimed.get(), total.get(), "{key}: its header's database checksum is wrong");
        }
    }
}

//! From a store's listing to the files of the replica: pure.

use crate::model::{Txid, TxidRange};
use crate::store::Object;
use crate::store::layout::{Layout, Level};
use crate::v3::{self, V3File};

/// One LTX file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    pub key: String,
    pub level: Level,
    pub range: TxidRange,
    pub size: u64,
    /// The store's time of the object, Unix milliseconds.
    pub modified_ms: i64,
}

/// Everything one LIST says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub files: Vec<RemoteFile>,
    /// Those of a Litestream 0.3 replica in the same root.
    pub v3: Vec<V3File>,
    /// Time of the newest file of a Litestream 0.3 replica in the same root.
    pub v3_ms: Option<i64>,
}

/// What a listing means for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replica {
    Empty,
    /// The newest data is in Litestream 0.3's format.
    V3,
    /// Its newest position, over all levels.
    Ends(Txid),
}

impl Listing {
    pub fn of(layout: Layout, objects: &[Object]) -> Listing {
        let files = objects.iter().filter_map(|object| {
            let (level, range) = layout.parse(&object.key)?;
            let size = object.size;
            let modified_ms = object.modified_ms;
            Some(RemoteFile { key: object.key.clone(), level, range, size, modified_ms })
        });
        let v3 = objects.iter().filter_map(|object| {
            let name = v3::parse(&object.key)?;
            Some(V3File { key: object.key.clone(), name, size: object.size, modified_ms: object.modified_ms })
        });
        let (files, v3): (Vec<_>, Vec<_>) = (files.collect(), v3.collect());
        let v3_ms = v3.iter().map(|file| file.modified_ms).max();
        Listing { files, v3, v3_ms }
    }

    /// A file that leaves no TXIDs for what would follow it: nothing can be replicated on top.
    pub fn exhausted(&self) -> Option<&RemoteFile> {
        self.files
            .iter()
            .filter(|file| file.range.max > Txid::LAST_TO_GO_ON_FROM)
            .max_by_key(|file| file.range.max)
    }

    /// The newer format decides when both are there, unless the older one has been written to since.
    pub fn replica(&self) -> Replica {
        let newest = self.files.iter().map(|file| file.modified_ms).max();
        match (self.files.iter().map(|file| file.range.max).max(), self.v3_ms) {
            (None, None) => Replica::Empty,
            (None, Some(_)) => Replica::V3,
            (Some(_), Some(old)) if newest.is_some_and(|newest| old > newest) => Replica::V3,
            (Some(end), _) => Replica::Ends(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, modified_ms: i64) -> Object {
        Object { key: key.into(), size: 200, modified_ms }
    }

    const SNAPSHOT: &str = "ltx/9/0000000000000001-0000000000000001.ltx";
    const RAW: &str = "ltx/0/0000000000000003-0000000000000003.ltx";
    const OLD: &str = "generations/21a5e296c131c7c0/wal/00000001_000060b0.wal.lz4";

    #[test]
    fn a_replica_whose_numbers_are_used_up() {
        for (key, exhausted) in [
            (RAW, false),
            ("ltx/0/0000000000000002-7fffffffffffffff.ltx", false),
            ("ltx/0/8000000000000000-8000000000000000.ltx", true),
            ("ltx/9/0000000000000001-ffffffffffffffff.ltx", true),
        ] {
            let listing = Listing::of(Layout::Directory, &[object(SNAPSHOT, 5), object(key, 6)]);
            assert_eq!(listing.exhausted().map(|file| file.key.as_str()), exhausted.then_some(key), "{key}");
        }
    }

    #[test]
    fn what_a_listing_means() {
        for (objects, replica) in [
            (vec![], Replica::Empty),
            (
                vec![
                    object("lock.json", 9),
                    object("ltx/0/0.tmp", 9),
                    object("generations/x/wal/1.wal.lz4", 9),
                ],
                Replica::Empty,
            ),
            (vec![object(SNAPSHOT, 5), object(RAW, 6)], Replica::Ends(Txid(3))),
            (vec![object(OLD, 5)], Replica::V3),
            (vec![object(OLD, 7), object(RAW, 6), object(SNAPSHOT, 5)], Replica::V3),
            (vec![object(OLD, 6), object(RAW, 6)], Replica::Ends(Txid(3))),
        ] {
            assert_eq!(Listing::of(Layout::Directory, &objects).replica(), replica, "{objects:?}");
        }
    }
}

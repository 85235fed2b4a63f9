//! A store's listing → what the replica holds: pure.

use super::old::OldFile;
use crate::ltx::v3;
use crate::model::{Txid, TxidRange};
use crate::store::Object;
use crate::store::layout::{Layout, Level};

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
    pub old: Vec<OldFile>,
    /// Time of the newest file of a Litestream 0.3 replica in the same root.
    pub old_format_ms: Option<i64>,
}

/// What a listing means for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replica {
    Empty,
    /// The newest data is in Litestream 0.3's format.
    OldFormat,
    /// Its newest position, over all levels.
    Ends(Txid),
}

impl Listing {
    pub fn of(layout: Layout, objects: &[Object]) -> Listing {
        let files = objects.iter().filter_map(|object| {
            let (level, range) = layout.parse(&object.key)?;
            let (size, modified_ms) = (object.size, object.modified_ms);
            Some(RemoteFile { key: object.key.clone(), level, range, size, modified_ms })
        });
        let old = objects.iter().filter_map(|object| {
            let name = v3::parse(&object.key)?;
            Some(OldFile { key: object.key.clone(), name, size: object.size, modified_ms: object.modified_ms })
        });
        let (files, old): (Vec<_>, Vec<_>) = (files.collect(), old.collect());
        let old_format_ms = old.iter().map(|file| file.modified_ms).max();
        Listing { files, old, old_format_ms }
    }

    /// The newer format decides when both are there, unless the older one has been written to since.
    pub fn replica(&self) -> Replica {
        let newest = self.files.iter().map(|file| file.modified_ms).max();
        match (self.files.iter().map(|file| file.range.max).max(), self.old_format_ms) {
            (None, None) => Replica::Empty,
            (None, Some(_)) => Replica::OldFormat,
            (Some(_), Some(old)) if newest.is_some_and(|newest| old > newest) => Replica::OldFormat,
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
    fn what_a_listing_means() {
        for (objects, replica) in [
            (vec![], Replica::Empty),
            (
                vec![object("lock.json", 9), object("ltx/0/0.tmp", 9), object("generations/x/wal/1.wal.lz4", 9)],
                Replica::Empty,
            ),
            (vec![object(SNAPSHOT, 5), object(RAW, 6)], Replica::Ends(Txid(3))),
            (vec![object(OLD, 5)], Replica::OldFormat),
            (vec![object(OLD, 7), object(RAW, 6), object(SNAPSHOT, 5)], Replica::OldFormat),
            (vec![object(OLD, 6), object(RAW, 6)], Replica::Ends(Txid(3))),
        ] {
            assert_eq!(Listing::of(Layout::Directory, &objects).replica(), replica, "{objects:?}");
        }
    }
}

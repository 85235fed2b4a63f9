//! Names of LTX files under a replica's root, as Litestream 0.5 defines them: pure.
//!
//! S3 keeps each level in a directory of four hex digits, right under the root; everything else in `ltx/<decimal>`.

use crate::model::{Txid, TxidRange};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    S3,
    Directory,
}

/// Level 0: raw segments. 1 to 8: compacted. 9: snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u8);

impl Level {
    pub const RAW: Level = Level(0);
    pub const SNAPSHOT: Level = Level(9);
}

impl Layout {
    /// Prefix that lists every level at once.
    pub fn all_levels(self) -> &'static str {
        match self {
            Layout::S3 => "",
            Layout::Directory => "ltx/",
        }
    }

    /// Directory of one level, with the closing slash.
    pub fn level(self, level: Level) -> String {
        match self {
            Layout::S3 => format!("{:04x}/", level.0),
            Layout::Directory => format!("ltx/{}/", level.0),
        }
    }

    /// Key of one LTX file.
    pub fn key(self, level: Level, range: TxidRange) -> String {
        format!("{}{range}.ltx", self.level(level))
    }

    /// The inverse of `key`; None for everything that is no LTX file of levels 0 to 9 (temporary files, other tools').
    pub fn parse(self, key: &str) -> Option<(Level, TxidRange)> {
        let (directory, name) = key.rsplit_once('/')?;
        let level = (0..=9u8).map(Level).find(|level| self.level(*level).strip_suffix('/') == Some(directory))?;
        let (min, max) = name.strip_suffix(".ltx")?.split_once('-')?;
        Some((level, TxidRange::new(Txid::from_name(min)?, Txid::from_name(max)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_in_both_layouts() {
        let range = TxidRange { min: Txid(2), max: Txid(0x1f) };
        for (layout, key) in [
            (Layout::S3, "0009/0000000000000002-000000000000001f.ltx"),
            (Layout::Directory, "ltx/9/0000000000000002-000000000000001f.ltx"),
        ] {
            assert_eq!(layout.key(Level::SNAPSHOT, range), key);
            assert_eq!(layout.parse(key), Some((Level::SNAPSHOT, range)));
        }
    }

    #[test]
    fn everything_else_is_ignored() {
        for key in [
            "README",
            "ltx/9/README",
            "ltx/10/0000000000000001-0000000000000001.ltx",
            "ltx/09/0000000000000001-0000000000000001.ltx",
            "ltx/0/0000000000000001-0000000000000001.ltx.tmp",
            "ltx/0/0000000000000002-0000000000000001.ltx",
            "ltx/0/0000000000000000-0000000000000001.ltx",
            "ltx/0/x/0000000000000001-0000000000000001.ltx",
            "ltx/0/0000000000000001-000000000000000A.ltx",
        ] {
            assert_eq!(Layout::Directory.parse(key), None, "{key}");
        }
        assert_eq!(Layout::S3.parse("ltx/0/0000000000000001-0000000000000001.ltx"), None);
    }
}

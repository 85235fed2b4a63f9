//! Names of LTX files under a replica's root, as Litestream 0.5 defines them: pure.
//!
//! S3 keeps each level in a directory of four hex digits, right under the root; everything else in
//! `ltx/<decimal>`.

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

    /// The inverse of `key`; None for everything that is no LTX file of levels 0 to 9 (temporary files, other
    /// tools').
    pub fn parse(self, key: &str) -> Option<(Level, TxidRange)> {
        let (directory, name) = key.rsplit_once('/')?;
        let level =
            (0..=9u8).map(Level).find(|level| self.level(*level).strip_suffix('/') == Some(directory))?;
        let (min, max) = name.strip_suffix(".ltx")?.split_once('-')?;
        Some((level, TxidRange::new(Txid::from_name(min)?, Txid::from_name(max)?)?))
    }
}

/// What stands under a name of a replica in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    File,
}

/// What must stand under this key, relative to the root of a replica in a directory, if anything does: `ltx`
/// and its levels, `generations` of the older format, and their files. None: not part of a replica. If
/// something else stands there, the replica cannot be read; it is not empty.
pub fn expected_kind(key: &str) -> Option<EntryKind> {
    let parts: Vec<&str> = key.split('/').collect();
    match parts.as_slice() {
        ["ltx" | "generations"] | ["generations", _] | ["generations", _, "snapshots" | "wal"] => {
            Some(EntryKind::Directory)
        }
        ["ltx", level] => level.bytes().all(|byte| byte.is_ascii_digit()).then_some(EntryKind::Directory),
        ["generations", _, "snapshots" | "wal", name] => name.ends_with(".lz4").then_some(EntryKind::File),
        _ => Layout::Directory.parse(key).map(|_| EntryKind::File),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_replica_in_a_directory_is_known() {
        for (key, expected) in [
            ("ltx", Some(EntryKind::Directory)),
            ("ltx/0", Some(EntryKind::Directory)),
            ("ltx/9", Some(EntryKind::Directory)),
            ("generations/21a5e296c131c7c0/wal", Some(EntryKind::Directory)),
            ("generations/21a5e296c131c7c0/wal/00000001_000060b0.wal.lz4", Some(EntryKind::File)),
            ("ltx/0/0000000000000001-0000000000000001.ltx", Some(EntryKind::File)),
            ("ltx/0/0000000000000001-0000000000000001.ltx.tmp", None),
            ("ltx/0/notes", None),
            ("ltx/README", None),
            ("backup.ltx", None),
            ("", None),
        ] {
            assert_eq!(expected_kind(key), expected, "{key}");
        }
    }

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

//! Names of the files of a Litestream 0.3 replica: pure. A generation is one unbroken history: snapshots
//! (copies of the database) and, for each index (the WAL between two restarts), the WAL's bytes in segments.

use crate::model::Txid;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A copy of the database, made while the WAL of this index was written.
    Snapshot,
    /// The WAL's bytes from this offset on.
    Segment(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub generation: Generation,
    pub index: u64,
    pub part: Part,
}

/// `generations/<16 hex>/snapshots/<8 hex>.snapshot.lz4` and `generations/<16 hex>/wal/<8 hex>_<8 to 16
/// hex>.wal.lz4`. None for everything else.
pub fn parse(key: &str) -> Option<Name> {
    let rest = key.strip_prefix("generations/")?;
    let (generation, rest) = rest.split_once('/')?;
    let generation = Generation(Txid::from_name(generation)?.0);
    match rest.split_once('/')? {
        ("snapshots", name) => {
            let index = hex(name.strip_suffix(".snapshot.lz4")?, 8..=8)?;
            Some(Name { generation, index, part: Part::Snapshot })
        }
        ("wal", name) => {
            let (index, offset) = name.strip_suffix(".wal.lz4")?.split_once('_')?;
            let index = hex(index, 8..=8)?;
            let offset = hex(offset, 8..=16)?;
            Some(Name { generation, index, part: Part::Segment(offset) })
        }
        _ => None,
    }
}

fn hex(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let plain = length.contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if plain { u64::from_str_radix(text, 16).ok() } else { None }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |index, part| Some(Name { generation: Generation(0x21a5_e296_c131_c7c0), index, part });
        for (key, expected) in [
            ("generations/21a5e296c131c7c0/snapshots/0000001f.snapshot.lz4", name(0x1f, Part::Snapshot)),
            ("generations/21a5e296c131c7c0/wal/00000001_000060b0.wal.lz4", name(1, Part::Segment(0x60b0))),
            (
                "generations/21a5e296c131c7c0/wal/00000001_1000060b0.wal.lz4",
                name(1, Part::Segment(0x1_0000_60b0)),
            ),
            ("generations/21a5e296c131c7c/wal/00000001_000060b0.wal.lz4", None),
            ("generations/21A5e296c131c7c0/wal/00000001_000060b0.wal.lz4", None),
            ("generations/21a5e296c131c7c0/wal/00000001_60b0.wal.lz4", None),
            ("generations/21a5e296c131c7c0/wal/00000001.wal.lz4", None),
            ("generations/21a5e296c131c7c0/wal/00000001_000060b0.wal", None),
            ("generations/21a5e296c131c7c0/snapshots/000000001.snapshot.lz4", None),
            ("generations/21a5e296c131c7c0/x/00000001.snapshot.lz4", None),
            ("ltx/0/0000000000000001-0000000000000001.ltx", None),
        ] {
            assert_eq!(parse(key), expected, "{key}");
        }
    }
}

//! Positions named for what they guarantee. Two different guarantees do not compare.

use super::Txid;

/// Everything up to this TXID has been read from the WAL into a segment. It may still be lost with the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Captured(pub Txid);

/// Everything up to this TXID is in the replica: the store has acknowledged it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uploaded(pub Txid);

//! Positions with different guarantees (captured, uploaded) are different types, which cannot be compared.

use super::Txid;

/// Everything up to this TXID has been read from the WAL into a segment. It may still be lost with the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Captured(pub Txid);

/// Everything up to this TXID is in the replica: the store has acknowledged it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uploaded(pub Txid);

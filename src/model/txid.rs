//! TXID: the number of one replicated segment, as Litestream counts them (first is 1; 0 means "none yet").

use std::fmt;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txid(pub u64);

impl Txid {
    pub const NONE: Txid = Txid(0);
    pub const FIRST: Txid = Txid(1);
    /// The largest TXID that replication continues from. No regular replica gets near it; one that ends
    /// beyond it was forged, and its number space would end under the app's commits.
    pub const LAST_TO_GO_ON_FROM: Txid = Txid(i64::MAX.cast_unsigned());

    /// The TXID after this one; saturates at the end of the number space.
    pub fn next(self) -> Txid {
        Txid(self.0.saturating_add(1))
    }

    /// Parses exactly 16 lowercase hex digits, the form used in object names.
    pub fn from_name(text: &str) -> Option<Txid> {
        let hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex { u64::from_str_radix(text, 16).ok().map(Txid) } else { None }
    }

    /// Parses what a person types after `--txid`: hex, with or without leading zeros.
    pub fn from_hex(text: &str) -> Option<Txid> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        if plain { u64::from_str_radix(text, 16).ok().map(Txid) } else { None }
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The inclusive range of TXIDs that one file covers. `min <= max`, `min >= 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxidRange {
    pub min: Txid,
    pub max: Txid,
}

impl TxidRange {
    pub fn new(min: Txid, max: Txid) -> Option<TxidRange> {
        (min >= Txid::FIRST && min <= max).then_some(TxidRange { min, max })
    }

    pub fn single(txid: Txid) -> TxidRange {
        TxidRange { min: txid, max: txid }
    }
}

impl fmt::Display for TxidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_refuse_other_forms() {
        assert_eq!(Txid::from_name(&Txid(0x2f).to_string()), Some(Txid(0x2f)));
        for bad in ["", "2f", "000000000000002F", "00000000000000002f", "+00000000000002f"] {
            assert_eq!(Txid::from_name(bad), None, "{bad}");
        }
        assert_eq!(Txid::from_hex("2F"), Some(Txid(0x2f)));
        assert_eq!(Txid::from_hex("+2"), None);
    }

    #[test]
    fn ranges_are_ordered_and_start_at_one() {
        assert!(TxidRange::new(Txid(0), Txid(3)).is_none());
        assert!(TxidRange::new(Txid(4), Txid(3)).is_none());
        assert!(TxidRange::new(Txid(3), Txid(3)).is_some());
    }
}

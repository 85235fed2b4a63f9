//! The state of a resumable upload: which range is sent next, how much the service has, whether it stored
//! what was sent. Pure.

use crc_fast::{CrcAlgorithm, Digest};
use serde::Deserialize;

/// Every piece but the last is a multiple of this.
pub(super) const UNIT: u64 = 256 << 10;

/// `bytes 0-9/*`, with the total when the last piece is among them. None for an empty piece.
pub(super) fn content_range(from: u64, length: u64, is_last: bool) -> Option<String> {
    let to = from.checked_add(length.checked_sub(1)?)?;
    let total = if is_last { to.checked_add(1)?.to_string() } else { "*".to_owned() };
    Some(format!("bytes {from}-{to}/{total}"))
}

/// How many bytes the service has, by its `Range` header (`bytes=0-9`); none without one.
pub(super) fn kept(range: Option<&str>) -> Option<u64> {
    let Some(range) = range else { return Some(0) };
    let (_, last) = range.trim().strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    last.trim().parse::<u64>().ok()?.checked_add(1)
}

/// How many bytes of a piece that begins at `from` the service has taken. None: it has lost earlier ones, or
/// says that it has more than it was given.
pub(super) fn taken(from: u64, length: u64, kept: u64) -> Option<u64> {
    kept.checked_sub(from).filter(|taken| *taken <= length)
}

/// What has been sent, to be compared with what the service says that it stored.
pub(super) struct Sum {
    bytes: u64,
    crc32c: Digest,
}

/// The service's description of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stored {
    size: Option<String>,
    crc32c: Option<String>,
    pub generation: Option<String>,
}

impl Stored {
    /// Whether it describes an object at all.
    pub(super) fn describes_object(&self) -> bool {
        self.size.is_some() && self.generation.is_some()
    }
}

impl Sum {
    pub(super) fn new() -> Sum {
        Sum { bytes: 0, crc32c: Digest::new(CrcAlgorithm::Crc32Iscsi) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.crc32c.update(piece);
    }

    /// What the service does not say is not compared.
    pub(super) fn agrees(&self, stored: &Stored) -> bool {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let sum = u32::try_from(self.crc32c.finalize()).unwrap_or_default().to_be_bytes();
        stored.size.as_ref().is_none_or(|size| *size == self.bytes.to_string())
            && stored.crc32c.as_ref().is_none_or(|crc| *crc == BASE64_STANDARD.encode(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive() {
        assert_eq!(content_range(0, 10, false).unwrap(), "bytes 0-9/*");
        assert_eq!(content_range(10, 5, true).unwrap(), "bytes 10-14/15");
        assert_eq!(content_range(10, 0, true), None);
        assert_eq!(content_range(u64::MAX, 2, false), None);
    }

    #[test]
    fn what_is_kept_is_read() {
        for (range, expected) in [
            (None, Some(0)),
            (Some("bytes=0-262143"), Some(262_144)),
            (Some("0-9"), Some(10)),
            (Some("bytes=0-x"), None),
            (Some("bytes"), None),
        ] {
            assert_eq!(kept(range), expected, "{range:?}");
        }
        for (from, length, kept, expected) in [
            (0, 10, 10, Some(10)),
            (10, 10, 15, Some(5)),
            (10, 10, 10, Some(0)),
            (10, 10, 9, None),
            (10, 10, 21, None),
        ] {
            assert_eq!(taken(from, length, kept), expected, "{from} {length} {kept}");
        }
    }

    #[test]
    fn another_content_is_noticed() {
        let stored = |json: &str| serde_json::from_str::<Stored>(json).unwrap();
        let mut sum = Sum::new();
        sum.add(b"1234");
        sum.add(b"56789");
        // CRC-32C's check value, E3069283.
        assert!(sum.agrees(&stored(r#"{"size":"9","crc32c":"4waSgw==","generation":"1","more":1}"#)));
        assert!(
            sum.agrees(&stored("{}"))
                && !stored("{}").describes_object()
                && !stored(r#"{"size":"9"}"#).describes_object()
        );
        assert!(stored(r#"{"size":"9","generation":"1"}"#).describes_object());
        assert!(!sum.agrees(&stored(r#"{"size":"10"}"#)));
        assert!(!sum.agrees(&stored(r#"{"crc32c":"4waSgg=="}"#)));
    }
}

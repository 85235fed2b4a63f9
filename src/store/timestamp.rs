//! The text of an object's timestamp, as Litestream writes and reads it: pure.

/// Name of the user metadata entry in S3 and Google Cloud Storage (the header is `x-amz-meta-…`,
/// `x-goog-meta-…`).
pub(super) const NAME: &str = "litestream-timestamp";

/// Unix milliseconds as RFC 3339 in UTC, the fraction without its trailing zeros (Go's RFC3339Nano). None
/// beyond the years -9999 to 9999.
pub(super) fn text(unix_ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(unix_ms).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_327_279_453, "2026-11-22T06:01:19.453Z"),
            (1_795_327_279_450, "2026-11-22T06:01:19.45Z"),
            (1_795_327_279_400, "2026-11-22T06:01:19.4Z"),
            (1_795_327_279_003, "2026-11-22T06:01:19.003Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(text(unix_ms).unwrap(), expected);
        }
        assert_eq!(text(i64::MAX), None);
    }
}

//! The content of one object on its way to the caller: checks the reply against the range that was asked for,
//! cuts what is too much, counts the bytes. No I/O.

use super::failure::Failure;
use super::{Take, suspicion};
use bytes::Bytes;
use std::ops::Range;

pub(super) struct Download<'a> {
    range: Option<Range<u64>>,
    take: Take<'a>,
    /// The whole object comes although a range was asked for: some servers do not know ranges.
    cut: bool,
    /// Of the reply's content: what it says, and what came.
    length: Option<u64>,
    received: u64,
}

/// What a dialect's `get` did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Content,
    /// The service refused the range because the object ends before it.
    RangeRefused,
}

/// What the head of a reply says about its content.
#[derive(Default)]
#[cfg(feature = "http")]
pub(super) struct ReplyHead<'a> {
    pub has_etag: bool,
    /// The status is 206.
    pub partial: bool,
    pub content_range: Option<&'a str>,
    pub length: Option<u64>,
}

impl<'a> Download<'a> {
    pub(super) fn new(range: Option<Range<u64>>, take: Take<'a>) -> Download<'a> {
        Download { range, take, cut: false, length: None, received: 0 }
    }

    pub(super) fn range(&self) -> Option<&Range<u64>> {
        self.range.as_ref()
    }

    /// Hands on one piece of the content.
    pub(super) fn piece(&mut self, piece: Bytes) {
        let start = self.received;
        self.received += piece.len() as u64;
        match self.range.as_ref().filter(|_| self.cut) {
            Some(range) => (self.take)(overlap(&piece, start, range)),
            None => (self.take)(piece),
        }
    }
}

#[cfg(feature = "http")]
impl Download<'_> {
    /// The value of the request's `Range` header.
    pub(super) fn header(&self) -> Option<String> {
        self.range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
    }

    /// To be called before the first piece.
    pub(super) fn begin(&mut self, head: &ReplyHead<'_>) -> Result<(), Failure> {
        if !head.has_etag {
            return Err(Failure::suspicious(suspicion::NO_ETAG));
        }
        let content = suspicion::content(self.range.as_ref(), head.partial, head.content_range, head.length);
        self.cut = content.map_err(|problem| Failure::suspicious(&problem))? == suspicion::Content::Whole;
        self.length = head.length;
        Ok(())
    }

    /// To be called after the last piece.
    pub(super) fn end(self) -> Result<Got, Failure> {
        if self.length.is_some_and(|length| length != self.received) {
            return Err(Failure::unreachable(format!("the reply ended after {} bytes", self.received)));
        }
        Ok(Got::Content)
    }
}

/// The part of `piece`, which begins at `start` of the object, that is in `range`.
fn overlap(piece: &Bytes, start: u64, range: &Range<u64>) -> Bytes {
    let clamp =
        |edge: u64| usize::try_from(edge.saturating_sub(start)).unwrap_or(usize::MAX).min(piece.len());
    piece.slice(clamp(range.start)..clamp(range.end))
}

#[cfg(feature = "http")]
#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// What the caller gets of a reply whose content comes in pieces of three bytes.
    fn received(range: Option<Range<u64>>, head: &ReplyHead<'_>, content: &[u8]) -> Result<Vec<u8>, Failure> {
        let received = Mutex::new(Vec::new());
        let take = |piece: Bytes| received.lock().unwrap().extend_from_slice(&piece);
        let mut download = Download::new(range, &take);
        download.begin(head)?;
        content.chunks(3).for_each(|piece| download.piece(Bytes::copy_from_slice(piece)));
        download.end()?;
        Ok(received.into_inner().unwrap())
    }

    #[test]
    fn a_reply_is_cut_to_the_range_and_must_be_complete() {
        let whole = |length| ReplyHead { has_etag: true, length, ..ReplyHead::default() };
        assert_eq!(received(None, &whole(Some(7)), b"0123456").unwrap(), b"0123456");
        assert_eq!(received(Some(2..5), &whole(None), b"0123456").unwrap(), b"234");
        assert_eq!(received(Some(2..9), &whole(Some(7)), b"0123456").unwrap(), b"23456");
        let part = ReplyHead { partial: true, content_range: Some("bytes 2-4/7"), ..whole(Some(3)) };
        assert_eq!(received(Some(2..5), &part, b"234").unwrap(), b"234");
        assert!(received(None, &whole(Some(8)), b"0123456").unwrap_err().detail.contains("after 7 bytes"));
        assert!(received(None, &ReplyHead { has_etag: false, ..whole(None) }, b"x").is_err());
    }
}

//! Recognises answers that do not come from the store, or that lack what the store always says: pure. A
//! captive portal, a proxy or a broken gateway answers 200 with a page of its own; such an answer proves
//! nothing. The request counts as not answered: callers repeat it, and a create-only put that the store
//! carried out meets its own object.

use super::failure::Failure;
use super::{Object, StoreErrorKind};
use std::ops::Range;

pub(super) const HTML: &str = "a web page came back";
pub(super) const NO_ETAG: &str = "the answer has no ETag";

/// No store answers with a web page; a proxy or a login page in front of it does.
pub(super) fn is_html(content_type: Option<&str>) -> bool {
    let kind = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
}

/// What the content of a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Exactly what was asked for.
    Asked,
    /// The whole object, of which a range was asked for.
    Whole,
}

/// Compares the range that was asked for with the range that the reply contains. `partial`: the status is
/// 206. `length`: of the content. The error says what does not fit.
pub(super) fn content(
    wanted: Option<&Range<u64>>,
    partial: bool,
    content_range: Option<&str>,
    length: Option<u64>,
) -> Result<Content, String> {
    match (wanted, content_range) {
        (None, None) if !partial => Ok(Content::Asked),
        (None, _) => Err("a part came back where the whole object was asked for".to_owned()),
        (Some(_), None) if partial => Err("a part came back that does not say which".to_owned()),
        (Some(wanted), None) => match length {
            Some(length) if length <= wanted.start => Err(format!(
                "{length} bytes came back where the bytes from {} on were asked for",
                wanted.start
            )),
            _ => Ok(Content::Whole),
        },
        // The object ends before the range begins; some servers say so with an empty part.
        (Some(wanted), Some(text))
            if length == Some(0) && total(text).is_some_and(|total| total <= wanted.start) =>
        {
            Ok(Content::Asked)
        }
        (Some(wanted), Some(text)) => {
            let fits = parsed(text).is_some_and(|(start, end, total)| {
                let complete = end == wanted.end || (end < wanted.end && total == Some(end));
                start == wanted.start && complete && length.is_none_or(|length| length == end - start)
            });
            let asked = format!("bytes {}-{}", wanted.start, wanted.end.saturating_sub(1));
            if fits {
                Ok(Content::Asked)
            } else {
                Err(format!("{text} came back where {asked} were asked for"))
            }
        }
    }
}

/// Checks a refused range (416) against the size in a listing: the object must end before the range begins.
pub(super) fn refused_range(key: &str, range: &Range<u64>, listed: &[Object]) -> Result<(), Failure> {
    match listed.iter().find(|object| object.key == key) {
        Some(object) if object.size > range.start => {
            let problem =
                format!("bytes from {} on were refused, but the object has {}", range.start, object.size);
            Err(Failure::suspicious(&problem))
        }
        Some(_) => Ok(()),
        None => Err(Failure::new(StoreErrorKind::NotFound, "the object has gone")),
    }
}

fn total(text: &str) -> Option<u64> {
    text.rsplit_once('/')?.1.trim().parse().ok()
}

/// `bytes 0-9/100` or `bytes 0-9/*`: the first byte, the one behind the last, the whole length.
fn parsed(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let start = start.trim().parse().ok()?;
    let end = last.trim().parse::<u64>().ok()?.checked_add(1)?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (start < end && total.is_none_or(|total| end <= total)).then_some((start, end, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_is_no_answer_of_a_store() {
        for (kind, html) in [
            (Some("text/html"), true),
            (Some("Text/HTML; charset=utf-8"), true),
            (Some("application/xhtml+xml"), true),
            (Some("application/xml"), false),
            (Some("text/plain; charset=utf-8"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(is_html(kind), html, "{kind:?}");
        }
    }

    #[test]
    fn a_refused_range_is_checked() {
        let listed = [("a", 10), ("ab", 100)];
        let listed = listed.map(|(key, size)| Object { key: key.to_owned(), size, modified_ms: 0 });
        let kind =
            |key: &str, range: Range<u64>| refused_range(key, &range, &listed).map_err(|error| error.kind);
        assert_eq!(kind("a", 10..20), Ok(()));
        assert_eq!(kind("a", 9..20), Err(StoreErrorKind::Unreachable));
        assert_eq!(kind("b", 9..20), Err(StoreErrorKind::NotFound));
    }

    #[test]
    fn a_reply_brings_what_was_asked_for_or_is_refused() {
        use Content::{Asked, Whole};
        for (wanted, partial, range, length, expected) in [
            (None, false, None, Some(7), Some(Asked)),
            (None, true, None, Some(7), None),
            (None, true, Some("bytes 0-6/7"), Some(7), None),
            (Some(0..10), true, Some("bytes 0-9/100"), Some(10), Some(Asked)),
            (Some(0..10), true, Some("bytes 0-9/*"), None, Some(Asked)),
            // The object ends before the range does.
            (Some(5..10), true, Some("bytes 5-7/8"), Some(3), Some(Asked)),
            (Some(5..10), true, Some("bytes 5-7/100"), Some(3), None),
            (Some(5..10), true, Some("bytes 5-7/*"), Some(3), None),
            (Some(5..10), true, Some("bytes 0-4/100"), Some(5), None),
            (Some(5..10), true, Some("bytes 5-10/100"), Some(6), None),
            (Some(5..10), true, Some("bytes 5-9/100"), Some(6), None),
            (Some(5..10), true, Some("bytes 5-9/6"), Some(5), None),
            (Some(5..10), true, Some("bytes */100"), Some(5), None),
            (Some(5..10), true, Some("nonsense"), Some(5), None),
            (Some(10..20), true, Some("bytes 10-9/10"), Some(0), Some(Asked)),
            (Some(15..20), true, Some("bytes 15-9/10"), Some(0), Some(Asked)),
            (Some(5..10), true, Some("bytes 5-4/10"), Some(0), None),
            (Some(5..10), true, None, Some(5), None),
            // Ranges are not known there: everything comes.
            (Some(5..10), false, None, Some(100), Some(Whole)),
            (Some(5..10), false, None, None, Some(Whole)),
            (Some(5..10), false, None, Some(6), Some(Whole)),
            (Some(5..10), false, None, Some(5), None),
        ] {
            let found = content(wanted.as_ref(), partial, range, length);
            assert_eq!(found.as_ref().ok().copied(), expected, "{wanted:?} {range:?} {length:?}: {found:?}");
        }
    }
}

//! The body of an upload by one request (`multipart/related`): the object's name and metadata, then its
//! content. Pure.

use crate::store::timestamp;
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use std::collections::BTreeMap;

const CONTENT_TYPE: &str = "application/octet-stream";

#[derive(Serialize)]
struct Described<'a> {
    name: &'a str,
    #[serde(rename = "contentType")]
    content_type: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, &'a str>,
}

/// The object's name and metadata. `timestamp`: where Litestream looks for it.
pub(super) fn description(name: &str, timestamp: Option<&str>) -> String {
    let metadata = timestamp.map(|text| (timestamp::NAME, text)).into_iter().collect();
    serde_json::to_string(&Described { name, content_type: CONTENT_TYPE, metadata }).unwrap_or_default()
}

/// Its Content-Type, and itself.
pub(super) fn related(description: &str, content: &Bytes) -> (String, Bytes) {
    let boundary = boundary(content);
    let head = format!(
        "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{description}\r\n\
         --{boundary}\r\nContent-Type: {CONTENT_TYPE}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let mut body = BytesMut::with_capacity(head.len() + content.len() + tail.len());
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(content);
    body.extend_from_slice(tail.as_bytes());
    (format!("multipart/related; boundary={boundary}"), body.freeze())
}

/// A boundary that the content does not contain: no page of a database may end an upload early.
fn boundary(content: &Bytes) -> String {
    let hasher = std::hash::RandomState::new();
    let mut candidates = (0u32..).map(|number| {
        use std::hash::BuildHasher;
        format!("litevisor-{:016x}{:016x}", hasher.hash_one((number, 0u8)), hasher.hash_one((number, 1u8)))
    });
    let held =
        |candidate: &String| content.windows(candidate.len()).any(|bytes| bytes == candidate.as_bytes());
    candidates.find(|candidate| !held(candidate)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_are_there() {
        let content = Bytes::from_static(b"\r\n--x--\r\n\0");
        let text = description("p/\"q\".ltx", Some("2026-11-22T06:01:19.45Z"));
        assert_eq!(
            text,
            r#"{"name":"p/\"q\".ltx","contentType":"application/octet-stream","metadata":{"litestream-timestamp":"2026-11-22T06:01:19.45Z"}}"#
        );
        let (kind, body) = related(&text, &content);
        let boundary = kind.strip_prefix("multipart/related; boundary=").unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
        assert_eq!(parts.len(), 4);
        assert!(parts[1].ends_with(&format!("\r\n\r\n{text}\r\n")), "{}", parts[1]);
        assert!(parts[2].ends_with("\r\n\r\n\r\n--x--\r\n\0\r\n"), "{}", parts[2]);
        assert_eq!(parts[3], "--\r\n");
        assert_eq!(description("a", None), r#"{"name":"a","contentType":"application/octet-stream"}"#);
    }

    #[test]
    fn no_two_uploads_have_the_same_boundary() {
        let (one, other) = (boundary(&Bytes::new()), boundary(&Bytes::new()));
        assert_ne!(one, other);
        assert!(one.len() <= 70, "{one}");
    }
}

//! A reply to List Blobs: pure. In: its XML, and what the replica's keys begin with. Out: objects, names, and where the
//! next page begins. Directories of accounts with a hierarchy are no objects.

use crate::store::{Object, key};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub objects: Vec<Object>,
    /// With a delimiter: the names right under the prefix that have something below them.
    pub names: Vec<String>,
    /// Empty on the last page.
    pub marker: String,
}

/// `root`: prefix of all keys of the replica, with its closing slash, or "". The error is a text.
pub(super) fn parse(xml: &str, root: &str) -> Result<Listed, String> {
    let reply: EnumerationResults = quick_xml::de::from_str(xml).map_err(|error| error.to_string())?;
    let mut listed = Listed { marker: reply.next_marker.unwrap_or_default(), ..Listed::default() };
    for blob in reply.blobs.blob {
        listed.objects.extend(object(blob, root));
    }
    for prefix in reply.blobs.prefix {
        let name = prefix.name.text();
        let name = name.strip_prefix(root).and_then(|name| name.strip_suffix('/'));
        listed.names.extend(name.filter(|name| key::is_object(name)).map(str::to_owned));
    }
    Ok(listed)
}

/// None for what is no object of ours.
fn object(blob: Blob, root: &str) -> Option<Object> {
    let name = blob.name.text();
    let key = name.strip_prefix(root)?;
    let properties = blob.properties;
    if properties.resource_type.as_deref() == Some("directory") || !key::is_object(key) {
        return None;
    }
    let modified = jiff::fmt::rfc2822::parse(&properties.last_modified).ok()?;
    Some(Object {
        key: key.to_owned(),
        size: properties.content_length,
        modified_ms: modified.timestamp().as_millisecond(),
    })
}

#[derive(Deserialize)]
struct EnumerationResults {
    #[serde(rename = "Blobs", default)]
    blobs: Blobs,
    #[serde(rename = "NextMarker", default)]
    next_marker: Option<String>,
}

#[derive(Default, Deserialize)]
struct Blobs {
    #[serde(rename = "Blob", default)]
    blob: Vec<Blob>,
    #[serde(rename = "BlobPrefix", default)]
    prefix: Vec<BlobPrefix>,
}

#[derive(Deserialize)]
struct Blob {
    #[serde(rename = "Name")]
    name: Name,
    #[serde(rename = "Properties")]
    properties: Properties,
}

#[derive(Deserialize)]
struct BlobPrefix {
    #[serde(rename = "Name")]
    name: Name,
}

/// A name that XML cannot hold is percent-encoded, and marked.
#[derive(Deserialize)]
struct Name {
    #[serde(rename = "@Encoded", default)]
    encoded: bool,
    #[serde(rename = "$text", default)]
    text: String,
}

impl Name {
    fn text(self) -> String {
        if self.encoded { percent_decode_str(&self.text).decode_utf8_lossy().into_owned() } else { self.text }
    }
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "Last-Modified")]
    last_modified: String,
    #[serde(rename = "Content-Length", default)]
    content_length: u64,
    #[serde(rename = "ResourceType", default)]
    resource_type: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "<Last-Modified>Sun, 22 Nov 2026 06:01:19 GMT</Last-Modified>";

    fn page(blobs: &str, marker: &str) -> String {
        format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://h/\" \
             ContainerName=\"c\"><Prefix>app/</Prefix><Blobs>{blobs}</Blobs>{marker}</EnumerationResults>"
        )
    }

    fn blob(name: &str, size: &str, more: &str) -> String {
        format!(
            "<Blob>{name}<Properties>{TIME}<Etag>0x1</Etag><Content-Length>{size}</Content-Length>{more}</Properties>\
             <OrMetadata /></Blob>"
        )
    }

    #[test]
    fn a_page_of_blobs_and_prefixes() {
        let blobs = [
            blob("<Name>app/ltx/0/a &amp; b.ltx</Name>", "12", "<BlobType>BlockBlob</BlobType>"),
            "<BlobPrefix><Name>app/x.db/</Name></BlobPrefix>".to_owned(),
            blob("<Name Encoded=\"true\">app/%EF%BF%BE.ltx</Name>", "0", ""),
            blob("<Name>app/ltx</Name>", "0", "<ResourceType>directory</ResourceType>"),
            blob("<Name>app/file</Name>", "3", "<ResourceType>file</ResourceType>"),
            blob("<Name>apple/other.ltx</Name>", "1", ""),
            blob("<Name>app/a//b</Name>", "1", ""),
        ];
        let listed = parse(&page(&blobs.concat(), "<NextMarker>2!8&amp;x</NextMarker>"), "app/").unwrap();
        let found: Vec<(&str, u64)> = listed.objects.iter().map(|o| (o.key.as_str(), o.size)).collect();
        assert_eq!(found, [("ltx/0/a & b.ltx", 12), ("\u{fffe}.ltx", 0), ("file", 3)]);
        assert!(listed.objects.iter().all(|object| object.modified_ms == 1_795_327_279_000));
        assert_eq!((listed.names, listed.marker.as_str()), (vec!["x.db".to_owned()], "2!8&x"));
    }

    #[test]
    fn an_empty_page() {
        for (blobs, marker) in [("", "<NextMarker />"), ("", ""), ("", "<NextMarker></NextMarker>")] {
            assert_eq!(parse(&page(blobs, marker), "app/").unwrap(), Listed::default());
        }
        let xml = page("", "").replace("<Blobs></Blobs>", "<Blobs />");
        assert_eq!(parse(&xml, "").unwrap(), Listed::default());
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        for xml in ["", "<html>", "{}", "<EnumerationResults><Blobs><Blob></Blob></Blobs></EnumerationResults>"] {
            assert!(parse(xml, "").is_err(), "{xml}");
        }
    }
}

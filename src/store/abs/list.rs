//! Reads one page of List Blobs: pure.

use crate::store::paging::{Entry, Listing};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

/// The error is a text.
pub(super) fn read(xml: &str) -> Result<Listing, String> {
    // Any well-formed XML could be read as a listing of nothing.
    if !xml.contains("<EnumerationResults") {
        return Err("it has no EnumerationResults".to_owned());
    }
    let reply: EnumerationResults = quick_xml::de::from_str(xml).map_err(|error| error.to_string())?;
    let token = reply.next_marker.filter(|marker| !marker.is_empty());
    Ok(Listing {
        entries: reply.blobs.blob.into_iter().map(entry).collect(),
        directories: reply.blobs.prefix.into_iter().map(|prefix| prefix.name.text()).collect(),
        more: Some(token.is_some()),
        token,
    })
}

fn entry(Blob { name, properties }: Blob) -> Entry {
    let modified = jiff::fmt::rfc2822::parse(&properties.last_modified).ok();
    // Accounts with a hierarchy list directories as blobs.
    let is_directory = properties.resource_type.as_deref() == Some("directory");
    Entry {
        name: if is_directory { name.text() + "/" } else { name.text() },
        size: properties.content_length,
        modified_ms: modified.map(|modified| modified.timestamp().as_millisecond()),
    }
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
    content_length: Option<u64>,
    #[serde(rename = "ResourceType", default)]
    resource_type: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "<Last-Modified>Sun, 22 Nov 2026 06:01:19 GMT</Last-Modified>";

    fn page(blobs: &str, marker: &str) -> String {
        format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults \
             ServiceEndpoint=\"https://h/\" \
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
            format!("<Blob><Name>app/bare</Name><Properties>{TIME}</Properties></Blob>"),
        ];
        let listing = read(&page(&blobs.concat(), "<NextMarker>2!8&amp;x</NextMarker>")).unwrap();
        let entries: Vec<(&str, Option<u64>)> =
            listing.entries.iter().map(|entry| (entry.name.as_str(), entry.size)).collect();
        let expected = [
            ("app/ltx/0/a & b.ltx", Some(12)),
            ("app/\u{fffe}.ltx", Some(0)),
            ("app/ltx/", Some(0)),
            ("app/file", Some(3)),
            ("app/bare", None),
        ];
        assert_eq!(entries, expected);
        assert!(listing.entries.iter().all(|entry| entry.modified_ms == Some(1_795_327_279_000)));
        assert_eq!(
            (listing.directories, listing.token),
            (vec!["app/x.db/".to_owned()], Some("2!8&x".to_owned()))
        );
    }

    #[test]
    fn an_empty_page() {
        let empty = || Listing { more: Some(false), ..Listing::default() };
        for (blobs, marker) in [("", "<NextMarker />"), ("", ""), ("", "<NextMarker></NextMarker>")] {
            assert_eq!(read(&page(blobs, marker)).unwrap(), empty());
        }
        let xml = page("", "").replace("<Blobs></Blobs>", "<Blobs />");
        assert_eq!(read(&xml).unwrap(), empty());
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        for xml in [
            "",
            "<html>",
            "<html></html>",
            "<x/>",
            "{}",
            "<EnumerationResults><Blobs><Blob></Blob></Blobs></EnumerationResults>",
        ] {
            assert!(read(xml).is_err(), "{xml}");
        }
    }
}

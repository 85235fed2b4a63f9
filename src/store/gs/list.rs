//! Reads one page of a listing: pure.

use crate::store::paging::{Entry, Listing};
use serde::Deserialize;

const KIND: &str = "storage#objects";

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Objects {
    kind: String,
    items: Vec<Item>,
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Item {
    name: String,
    /// A number, as text.
    size: String,
    time_created: String,
}

pub(super) fn read(body: &[u8]) -> Result<Listing, String> {
    let objects: Objects =
        serde_json::from_slice(body).map_err(|error| format!("the listing makes no sense: {error}"))?;
    // An empty JSON object would otherwise be an empty replica.
    if objects.kind != KIND {
        return Err(format!("the listing makes no sense: it is not of the kind {KIND}"));
    }
    let entry = |item: Item| Entry {
        name: item.name,
        size: item.size.parse().ok(),
        modified_ms: item.time_created.parse().ok().map(jiff::Timestamp::as_millisecond),
    };
    let token = objects.next_page_token.filter(|token| !token.is_empty());
    Ok(Listing {
        entries: objects.items.into_iter().map(entry).collect(),
        directories: objects.prefixes,
        more: Some(token.is_some()),
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let body = br#"{"kind":"storage#objects","nextPageToken":"t","prefixes":["p/a b/"],"items":[
            {"name":"p/ltx/0/x.ltx","size":"18446744073709551615","timeCreated":"2026-11-22T06:01:19.453Z"},
            {"name":"p/y","timeCreated":"yesterday"}]}"#;
        let known = Entry {
            name: "p/ltx/0/x.ltx".into(),
            size: Some(u64::MAX),
            modified_ms: Some(1_795_327_279_453),
        };
        let expected = Listing {
            entries: vec![known, Entry { name: "p/y".into(), ..Entry::default() }],
            directories: vec!["p/a b/".into()],
            more: Some(true),
            token: Some("t".into()),
        };
        assert_eq!(read(body).unwrap(), expected);
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        assert_eq!(
            read(br#"{"kind":"storage#objects"}"#).unwrap(),
            Listing { more: Some(false), ..Listing::default() }
        );
        for other in [&b"<html>"[..], b"", b"{}", br#"{"kind":"storage#object","items":[]}"#] {
            assert!(read(other).unwrap_err().contains("makes no sense"));
        }
    }
}

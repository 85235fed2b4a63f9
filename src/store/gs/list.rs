//! What a listing says: pure. In: one answer, the root of the replica. Out: objects of ours, names of directories, and what
//! comes next.

use crate::store::{Object, key};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Listed {
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

impl Listed {
    pub(super) fn read(body: &[u8]) -> Result<Listed, String> {
        serde_json::from_slice(body).map_err(|error| format!("the listing makes no sense: {error}"))
    }

    /// Without what is no object of ours: the marker of a directory, a name outside the root.
    pub(super) fn objects<'a>(&'a self, root: &'a str) -> impl Iterator<Item = Object> + 'a {
        self.items.iter().filter_map(move |item| {
            let key = item.name.strip_prefix(root).filter(|key| key::is_object(key))?;
            let created: jiff::Timestamp = item.time_created.parse().ok()?;
            let size = item.size.parse().ok()?;
            Some(Object { key: key.to_owned(), size, modified_ms: created.as_millisecond() })
        })
    }

    pub(super) fn directories<'a>(&'a self, root: &'a str) -> impl Iterator<Item = String> + 'a {
        let names = self.prefixes.iter().filter_map(move |name| name.strip_prefix(root)?.strip_suffix('/'));
        names.filter(|name| key::is_object(name)).map(str::to_owned)
    }

    pub(super) fn next(self) -> Option<String> {
        self.next_page_token.filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_ours_are_told() {
        let body = br#"{"kind":"storage#objects","nextPageToken":"t","prefixes":["p/a b/","p/../","other/"],"items":[
            {"name":"p/ltx/0/x.ltx","size":"18446744073709551615","timeCreated":"2026-11-22T06:01:19.453Z"},
            {"name":"p/","size":"0","timeCreated":"2026-11-22T06:01:19.453Z"},
            {"name":"p/dir/","size":"0","timeCreated":"2026-11-22T06:01:19.453Z"},
            {"name":"other","size":"1","timeCreated":"2026-11-22T06:01:19.453Z"}]}"#;
        let listed = Listed::read(body).unwrap();
        let objects: Vec<Object> = listed.objects("p/").collect();
        let expected = Object { key: "ltx/0/x.ltx".into(), size: u64::MAX, modified_ms: 1_795_327_279_453 };
        assert_eq!(objects, [expected]);
        assert_eq!(listed.directories("p/").collect::<Vec<_>>(), ["a b"]);
        assert_eq!(listed.next().as_deref(), Some("t"));
    }

    #[test]
    fn an_empty_listing_has_nothing() {
        let listed = Listed::read(br#"{"kind":"storage#objects"}"#).unwrap();
        assert_eq!(listed.objects("").count() + listed.directories("").count(), 0);
        assert_eq!(listed.next(), None);
        assert!(Listed::read(b"<html>").unwrap_err().contains("makes no sense"));
    }
}

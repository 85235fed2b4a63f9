//! Follows a listing from page to page, and reads the objects on a page: pure. A page is refused if it does
//! not say whether it is the last one, says that there are more pages but not how to get them, or repeats an
//! earlier page: a listing with a hole would look like a replica with a hole.

use super::{Object, key};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Services may answer with pages that hold nothing (while they skip deleted objects), but not for ever.
const EMPTY_PAGES: u32 = 1000;
/// Of one listing. A replica has some thousands.
const MOST: usize = 5_000_000;

/// Which page of which listing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageRequest<'a> {
    /// What the listed names begin with.
    pub prefix: &'a str,
    /// Names before this one are not needed; the name itself may come along. Empty: from the beginning.
    pub start: &'a str,
    /// Names with a further `/` are wanted as directories.
    pub by_directory: bool,
    /// The page before named it; empty for the first page.
    pub token: &'a str,
}

/// One page as the service sent it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub entries: Vec<Entry>,
    /// Names that end with `/`.
    pub directories: Vec<String>,
    /// Whether there are more pages. None: the page does not say.
    pub more: Option<bool>,
    pub token: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub size: Option<u64>,
    pub modified_ms: Option<i64>,
}

impl Listing {
    /// The only page of a listing.
    pub(super) fn complete(entries: Vec<Entry>, directories: Vec<String>) -> Listing {
        Listing { entries, directories, more: Some(false), token: None }
    }

    /// The replica's objects. Skips what is no object of the replica: the marker of a directory, a name
    /// outside the root. An object without size or time is an error: without it the listing would have a
    /// hole.
    pub(super) fn objects(self, root: &str) -> Result<Vec<Object>, String> {
        let object = |entry: Entry| {
            let key = entry.name.strip_prefix(root).filter(|key| key::is_object(key))?.to_owned();
            Some(match (entry.size, entry.modified_ms) {
                (Some(size), Some(modified_ms)) => Ok(Object { key, size, modified_ms }),
                _ => Err(format!("the listing lacks the size or the time of {key}")),
            })
        };
        self.entries.into_iter().filter_map(object).collect()
    }

    /// The names right under the root that have objects below them.
    pub(super) fn directories(&self, root: &str) -> impl Iterator<Item = String> {
        let names =
            self.directories.iter().filter_map(move |name| name.strip_prefix(root)?.strip_suffix('/'));
        names.filter(|name| key::is_component(name)).map(str::to_owned)
    }

    fn first(&self) -> Option<&str> {
        self.entries.first().map(|entry| &entry.name).or(self.directories.first()).map(String::as_str)
    }
}

#[derive(Default)]
pub(super) struct Paging {
    hasher: RandomState,
    seen: HashSet<u64>,
    empty_pages: u32,
    names: usize,
}

impl Paging {
    /// The token of the page that follows; None after the last one. The error says what is wrong.
    pub(super) fn next(&mut self, page: &Listing) -> Result<Option<String>, &'static str> {
        self.names = self.names.saturating_add(page.entries.len() + page.directories.len());
        if self.names > MOST {
            return Err("the listing has more than 5 million names");
        }
        if page.first().is_some_and(|first| !self.is_new("name", first)) {
            return Err("a page of the listing came twice");
        }
        let token = page.token.as_deref().filter(|token| !token.is_empty());
        match (page.more, token) {
            (None, _) => Err("the listing does not say whether it is complete"),
            (Some(false), _) => Ok(None),
            (Some(true), None) => Err("the listing goes on, but does not say where"),
            (Some(true), Some(token)) => {
                self.empty_pages = if page.first().is_some() { 0 } else { self.empty_pages + 1 };
                if self.empty_pages > EMPTY_PAGES || !self.is_new("token", token) {
                    return Err("the listing does not move on");
                }
                Ok(Some(token.to_owned()))
            }
        }
    }

    fn is_new(&mut self, kind: &str, text: &str) -> bool {
        self.seen.insert(self.hasher.hash_one((kind, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry { name: name.to_owned(), size: Some(1), modified_ms: Some(2) }
    }

    fn page(more: Option<bool>, token: &str, first: &str) -> Listing {
        let entries = Some(first).filter(|first| !first.is_empty()).map(entry).into_iter().collect();
        Listing { entries, more, token: Some(token.to_owned()), ..Listing::default() }
    }

    #[test]
    fn objects_and_directories_of_the_replica_are_read() {
        let names = ["p/a", "p/", "p/dir/", "other", "p/b.tmp", "p//c", "p/d/../e", "p/d/e"];
        let listing =
            |root: &str| Listing::complete(names.map(entry).into(), vec![format!("{root}a b/"), "x/".into()]);
        let keys: Vec<String> =
            listing("p/").objects("p/").unwrap().into_iter().map(|object| object.key).collect();
        assert_eq!(keys, ["a", "d/e"]);
        assert_eq!(listing("p/").directories("p/").collect::<Vec<_>>(), ["a b"]);
        assert_eq!(listing("p/").directories("").collect::<Vec<_>>(), ["x"]);
        for lacking in [Entry { size: None, ..entry("a") }, Entry { modified_ms: None, ..entry("a") }] {
            assert!(Listing::complete(vec![lacking], Vec::new()).objects("").unwrap_err().ends_with("of a"));
        }
    }

    #[test]
    fn a_listing_is_followed_to_its_end() {
        let mut paging = Paging::default();
        for (more, token, first, expected) in [
            (true, "1", "a", Some("1")),
            (true, "2", "", Some("2")),
            (true, "3", "b", Some("3")),
            // A service may name the last token again.
            (false, "3", "c", None),
        ] {
            assert_eq!(paging.next(&page(Some(more), token, first)).unwrap().as_deref(), expected, "{first}");
        }
        assert_eq!(Paging::default().next(&page(Some(false), "", "")), Ok(None));
    }

    #[test]
    fn a_listing_that_says_too_little_is_none() {
        for (more, token) in [(None, ""), (None, "1"), (Some(true), "")] {
            for first in ["", "a"] {
                assert!(Paging::default().next(&page(more, token, first)).is_err(), "{more:?} {token}");
            }
        }
    }

    #[test]
    fn a_listing_that_does_not_move_on_is_an_error() {
        for pages in [
            // The same token again, the same page again, in turns, and nothing for ever.
            vec![("1", "a"), ("1", "b")],
            vec![("1", "a"), ("2", "a")],
            vec![("1", "a"), ("2", "b"), ("3", "a")],
            vec![("1", "a"), ("2", "b"), ("1", "c")],
        ] {
            let mut paging = Paging::default();
            let results: Vec<bool> = pages
                .iter()
                .map(|(token, first)| paging.next(&page(Some(true), token, first)).is_ok())
                .collect();
            assert!(
                !results[results.len() - 1] && results[..results.len() - 1].iter().all(|ok| *ok),
                "{pages:?}"
            );
        }
        let mut paging = Paging::default();
        let tokens = (0..=EMPTY_PAGES).map(|number| number.to_string());
        let failed = tokens.map(|token| paging.next(&page(Some(true), &token, "")));
        assert_eq!(failed.filter(Result::is_err).count(), 1);
        let mut many = Paging { names: MOST, ..Paging::default() };
        assert!(many.next(&page(Some(false), "", "a")).is_err());
    }
}

//! URLs of Google Cloud Storage's JSON API: pure.

use crate::store::paging::PageRequest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const GOOGLE: &str = "https://storage.googleapis.com";
const GOOGLES_HOSTS: &str = ".googleapis.com";
/// Everything but what RFC 3986 leaves as it is: a slash in a name is part of the name.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The fields that a listing needs.
const FIELDS: &str = "kind,nextPageToken,prefixes,items(name,size,timeCreated)";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    base: String,
    bucket: String,
}

impl Address {
    pub(super) fn new(endpoint: Option<&str>, bucket: &str) -> Result<Address, String> {
        if bucket.is_empty() {
            return Err("the bucket is missing: give gs://BUCKET/PREFIX".to_owned());
        }
        let base = endpoint.unwrap_or(GOOGLE).trim_end_matches('/');
        // Some tools want the whole address of the API in STORAGE_EMULATOR_HOST.
        let base = base.strip_suffix("/storage/v1").unwrap_or(base);
        if !is_plain(base) && !base.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
            return Err(format!("the endpoint must begin with https:// or http://, as in https://{base}"));
        }
        Ok(Address { base: base.to_owned(), bucket: escaped(bucket) })
    }

    pub(super) fn object(&self, name: &str) -> String {
        format!("{}/storage/v1/b/{}/o/{}", self.base, self.bucket, escaped(name))
    }

    pub(super) fn content(&self, name: &str) -> String {
        format!("{}?alt=media", self.object(name))
    }

    /// Whether there is such an object, in as few bytes as can be.
    pub(super) fn presence(&self, name: &str) -> String {
        format!("{}?fields=name", self.object(name))
    }

    /// This one generation of an object, and no other.
    pub(super) fn generation(&self, name: &str, generation: &str) -> String {
        format!("{}?ifGenerationMatch={}", self.object(name), escaped(generation))
    }

    pub(super) fn listing(&self, page: PageRequest<'_>) -> String {
        let mut url = format!("{}/storage/v1/b/{}/o?fields={}", self.base, self.bucket, escaped(FIELDS));
        let PageRequest { prefix, start, by_directory, token } = page;
        let delimiter = if by_directory { "/" } else { "" };
        for (name, value) in
            [("prefix", prefix), ("startOffset", start), ("delimiter", delimiter), ("pageToken", token)]
        {
            if !value.is_empty() {
                url.push_str(&format!("&{name}={}", escaped(value)));
            }
        }
        url
    }

    /// `way`: `multipart` or `resumable`. `create`: only if there is none of that name.
    pub(super) fn upload(&self, way: &str, create: bool) -> String {
        let condition = if create { "&ifGenerationMatch=0" } else { "" };
        let fields = escaped("name,size,crc32c,generation");
        format!(
            "{}/upload/storage/v1/b/{}/o?uploadType={way}{condition}&fields={fields}",
            self.base, self.bucket
        )
    }

    /// An upload's own URL. The service may answer with another of Google's hosts; a configured endpoint gets
    /// every request, and an emulator may not know its own name.
    pub(super) fn session(&self, location: &str) -> Option<String> {
        let (host, path) = match location.split_once("://") {
            Some((_, rest)) => rest.split_at(rest.find('/')?),
            None => ("", location),
        };
        if self.base == GOOGLE && host.ends_with(GOOGLES_HOSTS) && location.starts_with("https://") {
            return Some(location.to_owned());
        }
        let path = path.find("/upload/").map_or(Some(path), |at| path.get(at..))?;
        path.starts_with('/').then(|| format!("{}{path}", self.base))
    }
}

/// Whether requests go over plain http.
pub(super) fn is_plain(endpoint: &str) -> bool {
    endpoint.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn google() -> Address {
        Address::new(None, "b").unwrap()
    }

    #[test]
    fn names_are_one_component() {
        let url = google().object("a b/ltx/0/ü?#%.ltx");
        assert_eq!(
            url,
            "https://storage.googleapis.com/storage/v1/b/b/o/a%20b%2Fltx%2F0%2F%C3%BC%3F%23%25.ltx"
        );
        assert_eq!(
            google().content("x_-.~"),
            "https://storage.googleapis.com/storage/v1/b/b/o/x_-.~?alt=media"
        );
    }

    #[test]
    fn endpoints_are_taken_in_every_usual_form() {
        for (endpoint, base) in [
            ("http://127.0.0.1:4443", "http://127.0.0.1:4443"),
            ("http://127.0.0.1:4443/", "http://127.0.0.1:4443"),
            ("http://fake:4443/storage/v1/", "http://fake:4443"),
            ("HTTPS://storage.eu.rep.googleapis.com", "HTTPS://storage.eu.rep.googleapis.com"),
            ("https://proxy/gcs", "https://proxy/gcs"),
        ] {
            assert_eq!(Address::new(Some(endpoint), "b").unwrap().base, base);
        }
        assert!(Address::new(Some("fake:4443"), "b").unwrap_err().contains("https://fake:4443"));
        assert!(Address::new(None, "").unwrap_err().contains("bucket"));
    }

    #[test]
    fn listings_say_what_is_wanted() {
        let url = google().listing(PageRequest {
            prefix: "p/ltx/",
            start: "p/ltx/0/a",
            by_directory: true,
            token: "t=",
        });
        let (path, query) = url.split_once('?').unwrap();
        assert_eq!(path, "https://storage.googleapis.com/storage/v1/b/b/o");
        let expected = "&prefix=p%2Fltx%2F&startOffset=p%2Fltx%2F0%2Fa&delimiter=%2F&pageToken=t%3D";
        assert!(query.ends_with(expected), "{query}");
        assert!(!google().listing(PageRequest::default()).contains("prefix="));
    }

    #[test]
    fn sessions_stay_where_the_endpoint_is() {
        let path = "/upload/storage/v1/b/b/o?uploadType=resumable&upload_id=1";
        let emulator = Address::new(Some("http://fake:4443"), "b").unwrap();
        let behind = Address::new(Some("https://proxy/gcs"), "b").unwrap();
        for (address, host, expected) in [
            (google(), "https://storage.googleapis.com", Some("https://storage.googleapis.com")),
            (google(), "https://www.googleapis.com", Some("https://www.googleapis.com")),
            (google(), "http://www.googleapis.com", Some("https://storage.googleapis.com")),
            (google(), "https://elsewhere.example", Some("https://storage.googleapis.com")),
            (google(), "", Some("https://storage.googleapis.com")),
            (emulator, "http://0.0.0.0:4443", Some("http://fake:4443")),
            (behind, "https://proxy/gcs", Some("https://proxy/gcs")),
        ] {
            let expected = expected.map(|base| format!("{base}{path}"));
            assert_eq!(address.session(&format!("{host}{path}")), expected, "{host}");
        }
        assert_eq!(google().session("nonsense"), None);
        assert_eq!(google().session("https://hostonly"), None);
    }
}

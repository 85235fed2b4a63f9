//! `gs://bucket/prefix`, or `gcs://…`, as other tools write it. Pure.

use super::{prefix, shown, unknown};
use crate::store::{Scheme, StoreSettings};

pub fn parse(rest: &str) -> Result<StoreSettings, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, path) = location.split_once('/').unwrap_or((location, ""));
    if bucket.contains('@') {
        return Err(
            "holds user info, which a bucket cannot have: give credentials_file, or the machine a role"
                .into(),
        );
    }
    if bucket.is_empty() {
        return Err("has no bucket: write gs://bucket/prefix".into());
    }
    let plain = bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !plain {
        return Err("has an invalid bucket name: write gs://bucket/prefix".into());
    }
    if let Some(parameter) = query.split(['&', '=']).find(|name| !name.is_empty()) {
        return Err(unknown(parameter, &[]));
    }
    let path = prefix(path)?;
    Ok(StoreSettings::new(Scheme::Gs, shown("gs", bucket, &path), bucket.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::store::Scheme;
    use std::path::Path;

    #[test]
    fn both_schemes_name_the_same_place() {
        for (text, bucket, path, shown) in [
            ("gs://b", "b", "", "gs://b"),
            ("gs://b/app/db", "b", "app/db", "gs://b/app/db"),
            ("gcs://b/app/db/", "b", "app/db", "gs://b/app/db"),
            (
                "GCS://my_bucket.example.com//a%20b",
                "my_bucket.example.com",
                "a b",
                "gs://my_bucket.example.com/a b",
            ),
        ] {
            let url = parse(text, Path::new("/srv")).unwrap();
            let is = (url.scheme, url.bucket.as_str(), url.path.as_str(), url.url.as_str());
            assert_eq!(is, (Scheme::Gs, bucket, path, shown), "{text}");
        }
    }

    #[test]
    fn bad_ones_say_what_to_write() {
        for (text, part) in [
            ("gs://", "has no bucket"),
            ("gs:///x", "has no bucket"),
            ("gs://hunter2@b/x", "user info"),
            ("gs://b ucket/x", "invalid bucket name"),
            ("gs://b/a/../c", "\"..\""),
            ("gs://b?project=x", "unknown parameter \"project\""),
            ("gs:b/x", "is no URL"),
        ] {
            let told = parse(text, Path::new("/srv")).unwrap_err();
            assert!(told.contains(part) && !told.contains("hunter2"), "{text}: {told}");
        }
    }
}

//! `gs://bucket/prefix`, or `gcs://…`, as other tools write it. Pure.

use super::{prefix, shown, unknown};
use crate::store::{Scheme, StoreSettings};

pub fn parse(rest: &str) -> Result<StoreSettings, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, path) = location.split_once('/').unwrap_or((location, ""));
    if bucket.contains('@') {
        return Err("holds user info, which a bucket cannot have: give credentials_file, or the machine a role".into());
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

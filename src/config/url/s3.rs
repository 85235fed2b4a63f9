//! `s3://bucket/prefix?endpoint=…&region=…&forcePathStyle=…`. Pure.

use super::{check_endpoint, parameters, prefix, shown, unknown};
use crate::store::{Scheme, StoreSettings};

pub fn parse(rest: &str) -> Result<StoreSettings, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, path) = location.split_once('/').unwrap_or((location, ""));
    check_bucket(bucket)?;
    let path = prefix(path)?;
    let mut settings = StoreSettings::new(Scheme::S3, shown("s3", bucket, &path), bucket.to_owned(), path);
    for (name, value) in parameters(query)? {
        match name {
            "endpoint" => settings.endpoint = Some(check_endpoint(&value)?),
            "region" => settings.s3.region = Some(value),
            "forcePathStyle" | "force-path-style" => {
                let told = || format!("has {name} without true or false");
                settings.s3.force_path_style = Some(value.parse().map_err(|_| told())?);
            }
            "skipVerify" | "skip-verify" => {
                return Err(format!("has {name}: certificates are always verified; name your own CA with ca_file"));
            }
            _ => return Err(unknown(name, &["endpoint", "region", "forcePathStyle"])),
        }
    }
    Ok(settings)
}

fn check_bucket(bucket: &str) -> Result<(), String> {
    if bucket.contains('@') {
        return Err("holds user info: keys in a URL end up in logs; use access_key_id and secret_access_key, or the \
                    environment"
            .into());
    }
    if bucket.is_empty() {
        return Err("has no bucket: write s3://bucket/prefix".into());
    }
    if bucket.contains(':') || bucket.ends_with(".amazonaws.com") {
        // Not echoed: before the slash of a secret key this looks like `KEY:SEC`.
        return Err("has a host in the bucket's place: write s3://bucket/prefix and give endpoint".into());
    }
    let plain = bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if plain { Ok(()) } else { Err(format!("has an invalid bucket name (\"{bucket}\")")) }
}

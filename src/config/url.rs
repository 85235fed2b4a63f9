//! The URL of a replica: taken apart, checked, and made fit for showing. Pure.

use super::nearest::hint;
use crate::store::Scheme;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaUrl {
    pub scheme: Scheme,
    pub bucket: String,
    /// Prefix without outer slashes, or the directory's absolute path.
    pub path: String,
    /// What logs and errors call the replica.
    pub shown: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub force_path_style: Option<bool>,
}

/// `s3://bucket/prefix?endpoint=…`, `file:///directory`, or a plain path. The error is the rest of a sentence and
/// never holds user info or query.
pub fn parse(text: &str, working_dir: &Path) -> Result<ReplicaUrl, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        if text.starts_with("s3:") || text.starts_with("file:") {
            return Err("is no URL: write s3://bucket/prefix or file:///absolute/path".into());
        }
        return directory(text, working_dir);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "s3" => s3(rest),
        "file" => file(rest, working_dir),
        "gs" | "gcs" | "abs" | "sftp" => {
            Err(format!("uses {scheme}://, which is not available in this version: use s3:// or file://"))
        }
        _ => Err(format!("has the unknown scheme {scheme}://{}: use s3:// or file://", hint(scheme, ["s3", "file"]))),
    }
}

fn directory(text: &str, working_dir: &Path) -> Result<ReplicaUrl, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    let path = absolute(Path::new(text), working_dir);
    // A String in the settings: a path that is not UTF-8 cannot come from TOML.
    let path = path.to_str().ok_or("is not valid UTF-8")?.to_owned();
    Ok(ReplicaUrl {
        scheme: Scheme::File,
        bucket: String::new(),
        shown: format!("file://{path}"),
        path,
        endpoint: None,
        region: None,
        force_path_style: None,
    })
}

fn file(rest: &str, working_dir: &Path) -> Result<ReplicaUrl, String> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("must be absolute: write file:///absolute/path, with three slashes".into());
    }
    if path.contains(['?', '#']) {
        return Err("has a query, which a directory cannot have (write %3F for \"?\" and %23 for \"#\")".into());
    }
    directory(&decoded(path)?, working_dir)
}

fn s3(rest: &str) -> Result<ReplicaUrl, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, path) = location.split_once('/').unwrap_or((location, ""));
    check_bucket(bucket)?;
    let path = decoded(path)?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("has \".\" or \"..\" in its path".into());
    }
    let path = parts.join("/");
    let shown = if path.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{path}") };
    let mut url = ReplicaUrl {
        scheme: Scheme::S3,
        bucket: bucket.to_owned(),
        path,
        shown,
        endpoint: None,
        region: None,
        force_path_style: None,
    };
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = decoded(&value.replace('+', " "))?;
        match name {
            "endpoint" => url.endpoint = Some(check_endpoint(&value)?),
            "region" => url.region = Some(value),
            "forcePathStyle" | "force-path-style" => {
                let told = || format!("has {name} without true or false");
                url.force_path_style = Some(value.parse().map_err(|_| told())?);
            }
            "skipVerify" | "skip-verify" => {
                return Err(format!("has {name}: certificates are always verified; name your own CA with ca_file"));
            }
            _ => {
                let known = ["endpoint", "region", "forcePathStyle"];
                return Err(format!("has the unknown parameter \"{name}\"{}", hint(name, known)));
            }
        }
    }
    Ok(url)
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

/// `https://host[:port][/path]` without user info.
pub fn check_endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if rest.contains('@') => Err("has an endpoint with user info: give the keys separately".into()),
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', ' ']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("needs an endpoint that begins with https:// or http://, for example https://s3.example.com".into()),
    }
}

/// `%41` → `A`.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let byte = after
            .get(..2)
            .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.ok_or("has a \"%\" without two hex digits (write %25 for \"%\")")?);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(|| "is not valid UTF-8".into())
}

/// Absolute, without `.` and doubled slashes. `..` stays: it may lead through a symbolic link.
pub fn absolute(path: &Path, working_dir: &Path) -> PathBuf {
    working_dir.join(path).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ReplicaUrl, String> {
        parse(text, Path::new("/srv"))
    }

    #[test]
    fn s3_urls() {
        for (text, bucket, path, shown) in [
            ("s3://b", "b", "", "s3://b"),
            ("s3://b/", "b", "", "s3://b"),
            ("s3://b/app/db", "b", "app/db", "s3://b/app/db"),
            ("s3://b//app//db/", "b", "app/db", "s3://b/app/db"),
            ("s3://my.bucket-1/a%20b", "my.bucket-1", "a b", "s3://my.bucket-1/a b"),
            ("S3://b/x", "b", "x", "s3://b/x"),
        ] {
            let url = read(text).unwrap();
            assert_eq!((url.bucket.as_str(), url.path.as_str(), url.shown.as_str()), (bucket, path, shown), "{text}");
        }
        let url = read("s3://b/p?endpoint=http%3A%2F%2Flocalhost:9000/&region=auto&forcePathStyle=true").unwrap();
        assert_eq!(url.endpoint.as_deref(), Some("http://localhost:9000"));
        assert_eq!(url.region.as_deref(), Some("auto"));
        assert_eq!(url.force_path_style, Some(true));
        assert_eq!(url.shown, "s3://b/p");
    }

    #[test]
    fn directories() {
        for (text, path) in [
            ("file:///var/backup", "/var/backup"),
            ("file://localhost/var/backup/", "/var/backup"),
            ("file:///a%20b", "/a b"),
            ("/var//backup/./x/", "/var/backup/x"),
            ("backup", "/srv/backup"),
            ("./backup", "/srv/backup"),
        ] {
            let url = read(text).unwrap();
            assert_eq!((url.scheme, url.path.as_str()), (Scheme::File, path), "{text}");
            assert_eq!(url.shown, format!("file://{path}"));
        }
    }

    #[test]
    fn bad_urls_say_what_to_write() {
        for (text, part) in [
            ("", "is empty"),
            ("s3:bucket/x", "write s3://bucket/prefix"),
            ("s3://", "has no bucket"),
            ("s3:///x", "has no bucket"),
            ("s3://AKIA:sec@bucket/x", "holds user info"),
            ("s3://AKIA:se/sec@bucket/x", "give endpoint"),
            ("s3://localhost:9000/b", "give endpoint"),
            ("s3://b.s3.amazonaws.com/x", "give endpoint"),
            ("s3://b ucket/x", "invalid bucket name"),
            ("s3://b/a/../c", "\"..\""),
            ("s3://b/%zz", "two hex digits"),
            ("s3://b/%ff", "UTF-8"),
            ("s3://b?regoin=x", "did you mean \"region\"?"),
            ("s3://b?forcePathStyle=maybe", "true or false"),
            ("s3://b?endpoint=localhost:9000", "begins with https://"),
            ("s3://b?endpoint=http://u:p@h", "user info"),
            ("s3://b?skipVerify=true", "ca_file"),
            ("file://var/backup", "three slashes"),
            ("file:///x?y=z", "query"),
            ("gs://b/x", "not available in this version"),
            ("gcs://b/x", "not available in this version"),
            ("abs://a@c/x", "not available in this version"),
            ("sftp://h/x", "not available in this version"),
            ("s4://b/x", "did you mean \"s3\"?"),
            ("https://b/x", "unknown scheme"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
            assert!(!told.contains("sec@"), "{told}");
        }
    }
}

//! The URL of a replica → its settings, and the URL as it is shown: without secrets and parameters. Pure.

mod abs;
mod gs;
mod s3;
mod sftp;

use super::nearest::hint;
use crate::store::{Scheme, StoreSettings};
pub use s3::with_scheme;
use std::path::{Path, PathBuf};

const SCHEMES: [&str; 6] = ["s3", "gs", "gcs", "abs", "sftp", "file"];

/// `s3://bucket/prefix?endpoint=…`, `gs://…`, `abs://…`, `sftp://…`, `file:///directory`, or a plain path.
/// The error is the rest of a sentence and never holds user info or query.
pub fn parse(text: &str, working_dir: &Path) -> Result<StoreSettings, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        if SCHEMES.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| rest.starts_with(':'))) {
            return Err("is no URL: write s3://bucket/prefix or file:///absolute/path".into());
        }
        return directory(text, working_dir);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "s3" => s3::parse(rest),
        "gs" | "gcs" => gs::parse(rest),
        "abs" => abs::parse(rest),
        "sftp" => sftp::parse(rest),
        "file" => file(rest, working_dir),
        _ => {
            let hint = hint(scheme, SCHEMES);
            Err(format!("has the unknown scheme {scheme}://{hint}: use one of {}", SCHEMES.join(", ")))
        }
    }
}

fn directory(text: &str, working_dir: &Path) -> Result<StoreSettings, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    let path = absolute(Path::new(text), working_dir);
    // A String in the settings: a path that is not UTF-8 cannot come from TOML.
    let path = path.to_str().ok_or("is not valid UTF-8")?.to_owned();
    Ok(StoreSettings::new(Scheme::File, format!("file://{path}"), String::new(), path))
}

fn file(rest: &str, working_dir: &Path) -> Result<StoreSettings, String> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("must be absolute: write file:///absolute/path, with three slashes".into());
    }
    if path.contains(['?', '#']) {
        return Err(
            "has a query, which a directory cannot have (write %3F for \"?\" and %23 for \"#\")".into()
        );
    }
    directory(&decoded(path)?, working_dir)
}

/// The part after the bucket, as a prefix without outer and doubled slashes.
fn prefix(path: &str) -> Result<String, String> {
    let path = decoded(path)?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("has \".\" or \"..\" in its path".into());
    }
    // Litestream takes "$" for a variable, some stores take "\\" for "/", and no tool shows a control
    // character: such keys would be objects that no other tool finds under the configured prefix.
    if path.contains(['$', '\\']) || path.contains(|c: char| c.is_control()) {
        return Err(
            "has a \"$\", a \"\\\" or a control character in its path: stores and Litestream make another \
             key of it; use a path without"
                .into(),
        );
    }
    Ok(parts.join("/"))
}

/// `scheme://authority` or `scheme://authority/path`.
fn shown(scheme: &str, authority: &str, path: &str) -> String {
    if path.is_empty() { format!("{scheme}://{authority}") } else { format!("{scheme}://{authority}/{path}") }
}

/// The parameters of a query, decoded.
fn parameters(query: &str) -> Result<Vec<(&str, String)>, String> {
    let given = query.split('&').filter(|parameter| !parameter.is_empty());
    given
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            Ok((name, decoded(&value.replace('+', " "))?))
        })
        .collect()
}

/// The answer to a parameter that is none of `known`.
fn unknown(name: &str, known: &[&str]) -> String {
    format!("has the unknown parameter \"{name}\"{}", hint(name, known.iter().copied()))
}

/// `https://host[:port][/path]` without user info.
pub fn check_endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if rest.contains('@') => {
            Err("has an endpoint with user info: give the keys separately".into())
        }
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', ' ']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => {
            Err("needs an endpoint that begins with https:// or http://, for example https://s3.example.com"
                .into())
        }
    }
}

/// `%41` → `A`.
pub fn decoded(text: &str) -> Result<String, String> {
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
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| "is not valid UTF-8".into())
}

/// Absolute, without `.` and doubled slashes. `..` stays: it may lead through a symbolic link.
pub fn absolute(path: &Path, working_dir: &Path) -> PathBuf {
    working_dir.join(path).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StoreSettings, String> {
        parse(text, Path::new("/srv"))
    }

    /// What Litestream 0.5.17 makes of the same URL was tried on moto: it decodes and cleans the path as we
    /// do.
    #[test]
    fn a_path_is_the_key_that_litestream_uses_or_is_refused() {
        for (path, key) in [
            ("a//b", "a/b"),
            ("trail/", "trail"),
            ("p%20q", "p q"),
            ("p q", "p q"),
            ("a+b", "a+b"),
            ("x%3Fy", "x?y"),
        ] {
            for scheme in ["s3://b", "gs://b", "abs://acct@b"] {
                assert_eq!(read(&format!("{scheme}/{path}")).unwrap().path, key, "{scheme} {path}");
            }
        }
        for path in ["a$b", "a%24b", "back\\slash", "back%5Cslash", "a%0Ab", "a/../b", "a/./b"] {
            for scheme in ["s3://b", "gs://b", "abs://acct@b"] {
                assert!(read(&format!("{scheme}/{path}")).is_err(), "{scheme} {path}");
            }
        }
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
            assert_eq!(
                (url.bucket.as_str(), url.path.as_str(), url.url.as_str()),
                (bucket, path, shown),
                "{text}"
            );
        }
        let url =
            read("s3://b/p?endpoint=http%3A%2F%2Flocalhost:9000/&region=auto&forcePathStyle=true").unwrap();
        assert_eq!(url.endpoint.as_deref(), Some("http://localhost:9000"));
        assert_eq!(url.s3.region.as_deref(), Some("auto"));
        assert_eq!(url.s3.force_path_style, Some(true));
        assert_eq!(url.url, "s3://b/p");
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
            assert_eq!(url.url, format!("file://{path}"));
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
            ("s3://s3.amazonaws.com/x", "give endpoint"),
            ("s3://b ucket/x", "invalid bucket name"),
            ("s3://b/a/../c", "\"..\""),
            ("s3://b/%zz", "two hex digits"),
            ("s3://b/%ff", "UTF-8"),
            ("s3://b?regoin=x", "did you mean \"region\"?"),
            ("s3://b?forcePathStyle=maybe", "true or false"),
            ("s3://b?endpoint=ftp://localhost:9000", "begins with https://"),
            ("s3://b?endpoint=http://u:p@h", "user info"),
            ("s3://b?skipVerify=true", "ca_file"),
            ("file://var/backup", "three slashes"),
            ("file:///x?y=z", "query"),
            ("s4://b/x", "did you mean \"s3\"?"),
            ("https://b/x", "unknown scheme"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
            assert!(!told.contains("sec@"), "{told}");
        }
    }
}

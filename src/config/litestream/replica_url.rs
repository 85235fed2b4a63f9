//! Where a replica is: `url`, or `type` with `bucket`, `path`, `host` and the like → the URL in our form.
//! What a URL holds beside the location (parameters, a password) becomes a setting, below the key of that
//! name. Pure; everything stays marked.

use super::settings::Settings;
use super::table::{Located, Table};
use super::variables;
use crate::config::nearest;
use crate::config::url::decoded;
use crate::store::Scheme;

const TYPES: [&str; 6] = ["file", "s3", "gs", "gcs", "abs", "sftp"];
const ELSEWHERE: [&str; 4] = ["nats", "webdav", "webdavs", "oss"];

/// The keys that name the location.
pub struct ReplicaLocation {
    pub url: Option<Located<String>>,
    pub path: Option<Located<String>>,
    pub kind: Option<Located<String>>,
}

pub struct ReplicaUrl {
    pub scheme: Scheme,
    pub url: Located<String>,
}

impl ReplicaLocation {
    pub fn read(table: &mut Table<'_>) -> ReplicaLocation {
        ReplicaLocation { url: table.text("url"), path: table.text("path"), kind: table.text("type") }
    }
}

/// None: a problem was reported.
pub fn replica_url(
    table: &Table<'_>,
    written: &ReplicaLocation,
    own: &Settings,
    all: &mut Settings,
) -> Option<ReplicaUrl> {
    let scheme = scheme(table, written)?;
    let Some(url) = &written.url else {
        let url = from_parts(table, written.path.as_ref(), all, scheme)?;
        return Some(ReplicaUrl { scheme, url });
    };
    let beside = [written.path.as_ref(), own.get("bucket"), own.get("host")];
    if let Some(twice) = beside.into_iter().flatten().next() {
        table.complain(twice, "cannot be given together with url: keep one of the two");
        return None;
    }
    let at = |value: String| Located { value, line: url.line, key: url.key.clone() };
    let text = match scheme {
        Scheme::S3 => without_query(table, url, all)?,
        Scheme::Sftp => without_password(table, url, all)?,
        Scheme::Abs => with_account(url, all),
        Scheme::Gs | Scheme::File => url.value.clone(),
    };
    Some(ReplicaUrl { scheme, url: at(text) })
}

fn scheme(table: &Table<'_>, written: &ReplicaLocation) -> Option<Scheme> {
    let of_url = written.url.as_ref().and_then(|url| {
        let known = variables::value(&url.value, table.reading.env);
        let text = known.as_deref().unwrap_or(&url.value);
        Some((url, text.split_once("://")?.0.to_ascii_lowercase()))
    });
    let of_type = written.kind.as_ref().map(|kind| {
        let known = variables::value(&kind.value, table.reading.env);
        (kind, known.unwrap_or_else(|| kind.value.clone()))
    });
    let (found, name) = match (of_url, of_type, &written.url) {
        (Some(of_url), ..) => of_url,
        (None, Some(of_type), _) => of_type,
        // The variable is not set: most URLs are of S3. A value that is no URL is a path.
        (None, None, Some(url)) => {
            let known = variables::value(&url.value, table.reading.env);
            return Some(if known.is_some() { Scheme::File } else { Scheme::S3 });
        }
        (None, None, None) => return Some(Scheme::File),
    };
    Some(match name.as_str() {
        "file" => Scheme::File,
        "s3" => Scheme::S3,
        "gs" | "gcs" => Scheme::Gs,
        "abs" => Scheme::Abs,
        "sftp" => Scheme::Sftp,
        other if ELSEWHERE.contains(&other) => {
            let message = format!(
                "is of the kind {other}, which litevisor does not have: use one of {}",
                TYPES.join(", ")
            );
            table.complain(found, message);
            return None;
        }
        other => {
            let hint = nearest::hint(other, TYPES);
            table.complain(
                found,
                format!("is of the unknown kind \"{other}\"{hint}: use one of {}", TYPES.join(", ")),
            );
            return None;
        }
    })
}

fn from_parts(
    table: &Table<'_>,
    path: Option<&Located<String>>,
    all: &Settings,
    scheme: Scheme,
) -> Option<Located<String>> {
    let missing = |what: &str| {
        table.reading.complain(table.line, &table.name, format!("has no {what}"));
        None
    };
    let tail = path.map(|path| path.value.as_str()).unwrap_or_default();
    if let Some(path) = path.filter(|path| path.value.contains("://")) {
        return complain(table, path, "is a URL: write it as url");
    }
    let (value, origin) = match scheme {
        Scheme::File => match path {
            Some(path) => (super::at_home(&path.value), path),
            None => return missing("url and no path: where does the replica go?"),
        },
        Scheme::S3 | Scheme::Gs | Scheme::Abs => {
            let Some(bucket) = all.get("bucket") else { return missing("bucket") };
            if let Some(path) = path.filter(|path| path.value.starts_with('/')) {
                let message = "begins with \"/\": Litestream's objects then have names that begin with one, \
                    which litevisor does not know; move them, or write the path without it";
                return complain(table, path, message);
            }
            // Of a path that is no URL Litestream's S3 client cleans nothing.
            let unclean = |path: &&Located<String>| path.value.contains("//") || path.value.ends_with('/');
            if let (Scheme::S3, Some(path)) = (scheme, path.filter(unclean)) {
                let message = "has an empty name in it (\"//\", or \"/\" at its end): Litestream's objects \
                    then have names with an empty part, which litevisor does not know; move them, or write \
                    the path without it";
                return complain(table, path, message);
            }
            let name = match scheme {
                Scheme::S3 => "s3",
                Scheme::Gs => "gs",
                _ => "abs",
            };
            let account = all.get("account-name").filter(|_| scheme == Scheme::Abs);
            let account = account.map(|account| format!("{}@", account.value)).unwrap_or_default();
            (format!("{name}://{account}{}/{}", bucket.value, encoded(tail)), path.unwrap_or(bucket))
        }
        Scheme::Sftp => {
            let (Some(host), Some(user)) = (all.get("host"), all.get("user")) else {
                return missing("host or no user");
            };
            let Some(path) = path else { return missing("path") };
            if !path.value.starts_with('/') && !variables::has_variable(&path.value) {
                return complain(table, path, "is relative to the login directory: write the absolute path");
            }
            let path_part = encoded(path.value.trim_start_matches('/'));
            (format!("sftp://{}@{}/{path_part}", encoded(&user.value), host.value), host)
        }
    };
    let value = value.trim_end_matches('/').to_owned();
    Some(Located { value, line: origin.line, key: origin.key.clone() })
}

fn complain<T>(table: &Table<'_>, found: &Located<String>, message: &str) -> Option<T> {
    table.complain(found, message);
    None
}

/// What would mean something else in a URL.
fn encoded(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace('@', "%40")
}

/// `s3://bucket/path?endpoint=…`: the parameters are settings, which count where the key is not given.
fn without_query(table: &Table<'_>, url: &Located<String>, all: &mut Settings) -> Option<String> {
    let Some((base, query)) = url.value.split_once('?') else { return Some(url.value.clone()) };
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = match decoded(&value.replace('+', " ")) {
            Ok(value) => value,
            Err(message) => return complain(table, url, &message),
        };
        let key = match name {
            "endpoint" => "endpoint",
            "region" => "region",
            "forcePathStyle" | "force-path-style" => "force-path-style",
            "skipVerify" | "skip-verify" => "skip-verify",
            "signPayload" | "sign-payload" => "sign-payload",
            "requireContentMD5" | "require-content-md5" => "require-content-md5",
            "signAcceptEncoding" | "sign-accept-encoding" => "sign-accept-encoding",
            "storageClass" | "storage-class" => "storage-class",
            "partSize" | "part-size" => "part-size",
            "concurrency" => "concurrency",
            other => return complain(table, url, &format!("has the unknown parameter \"{other}\"")),
        };
        if !value.is_empty() {
            all.offer(key, Located { value, line: url.line, key: url.key.clone() });
        }
    }
    Some(base.to_owned())
}

/// `sftp://user:password@host/path`: a password does not belong into a URL of ours, which logs and errors
/// show.
fn without_password(table: &Table<'_>, url: &Located<String>, all: &mut Settings) -> Option<String> {
    let parts = url.value.split_once("://").and_then(|(_, rest)| {
        let (location, path) = rest.split_once('/').unwrap_or((rest, ""));
        Some((location.rsplit_once('@')?, path))
    });
    let Some(((user, host), path)) = parts else { return Some(url.value.clone()) };
    let (user, password) =
        user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
    let user = all.get("user").map_or(user.to_owned(), |user| encoded(&user.value));
    if let Some(password) = password {
        match decoded(password) {
            Ok(value) => all.offer("password", Located { value, line: url.line, key: url.key.clone() }),
            Err(message) => return complain(table, url, &message),
        }
    }
    Some(format!("sftp://{user}@{host}/{path}"))
}

/// `abs://account@container/path`; `account-name` counts more than the account in the URL.
fn with_account(url: &Located<String>, all: &Settings) -> String {
    match (all.get("account-name"), url.value.split_once("://")) {
        (Some(account), Some((_, rest))) => {
            let (location, path) = rest.split_once('/').unwrap_or((rest, ""));
            let container = location.rsplit_once('@').map_or(location, |(_, container)| container);
            format!("abs://{}@{container}/{path}", account.value).trim_end_matches('/').to_owned()
        }
        _ => url.value.clone(),
    }
}

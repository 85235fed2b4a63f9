//! The settings of a replica, which Litestream takes at the top of the file, too: which there are, of which
//! stores, and what each becomes. One table. Pure.

use super::table::{Located, Table};
use super::toml_writer::TomlWriter;
use super::variables;
use crate::config::units;
use crate::store::Scheme;
use std::collections::BTreeMap;
use std::time::Duration;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Our key, and its type.
    Key(&'static str, Kind),
    /// Read by `replica_url`.
    Url,
    /// Not needed here, and why.
    Skip(&'static str),
    /// Of a store that there is not.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Secret,
    Path,
    Endpoint,
    Flag,
    Size,
    Count(u64),
    Interval,
}

use Fate::{Foreign, Key, Skip, Url};
use Kind::{Count, Endpoint, Flag, Interval, Path, Secret, Size, Text};
use Scheme::{Abs, File, Gs, S3, Sftp};

const ALL: &[Scheme] = &[File, S3, Gs, Abs, Sftp];
/// Litestream 0.3 restores the replica at each `validation-interval`; 0.5 looks for gaps at each
/// `validation.interval`. A proof downloads the database, so the user decides how often.
pub const PROOFS: &str =
    "each restore is verified; [verify] interval = \"24h\" also proves each replica on a schedule";
const SIGNING: &str = "what a provider needs of its requests is known by its host";

/// Lists of Litestream 0.3's `age` table: no names of Litestream's.
const AGE_IDENTITIES: &str = "age.identities";
const AGE_RECIPIENTS: &str = "age.recipients";

/// Litestream's key, the stores that have it, and what it becomes; in the order of our file.
const SETTINGS: &[(&str, &[Scheme], Fate)] = &[
    ("endpoint", &[S3, Abs], Key("endpoint", Endpoint)),
    ("region", &[S3], Key("region", Text)),
    ("force-path-style", &[S3], Key("force_path_style", Flag)),
    ("access-key-id", &[S3], Key("access_key_id", Secret)),
    ("secret-access-key", &[S3], Key("secret_access_key", Secret)),
    ("storage-class", &[S3], Key("storage_class", Text)),
    ("sse-kms-key-id", &[S3], Key("sse_kms_key_id", Text)),
    ("sse-customer-key", &[S3], Key("sse_c_key", Secret)),
    ("sse-customer-key-path", &[S3], Key("sse_c_key_file", Path)),
    ("sse-customer-algorithm", &[S3], Skip("it is always AES256")),
    ("part-size", &[S3], Key("part_size", Size)),
    ("concurrency", &[S3], Key("concurrency", Count(64))),
    ("account-key", &[Abs], Key("account_key", Secret)),
    ("sas-token", &[Abs], Key("sas_token", Secret)),
    ("password", &[Sftp], Key("password", Secret)),
    ("key-path", &[Sftp], Key("key_file", Path)),
    ("host-key", &[Sftp], Key("host_key", Text)),
    (AGE_IDENTITIES, ALL, Key("age_identities", Secret)),
    (AGE_RECIPIENTS, ALL, Key("age_recipients", Text)),
    ("sync-interval", ALL, Key("sync_interval", Interval)),
    ("bucket", &[S3, Gs, Abs], Url),
    ("account-name", &[Abs], Url),
    ("host", &[Sftp], Url),
    ("user", &[Sftp], Url),
    ("skip-verify", &[S3], Url),
    ("sign-payload", &[S3], Skip(SIGNING)),
    ("require-content-md5", &[S3], Skip(SIGNING)),
    ("sign-accept-encoding", &[S3], Skip(SIGNING)),
    ("concurrent-writes", &[Sftp], Skip("writes are always sent without waiting for each reply")),
    ("validation-interval", ALL, Skip(PROOFS)),
    ("auto-recover", ALL, Skip("a replica that cannot be restored from gets a new snapshot by itself")),
    ("max-sync-ltx-files", ALL, Skip("uploads are bounded by bytes and time")),
    ("webdav-url", &[], Foreign),
    ("webdav-username", &[], Foreign),
    ("webdav-password", &[], Foreign),
    ("jwt", &[], Foreign),
    ("seed", &[], Foreign),
    ("creds", &[], Foreign),
    ("nkey", &[], Foreign),
    ("username", &[], Foreign),
    ("token", &[], Foreign),
    ("client-cert", &[], Foreign),
    ("client-key", &[], Foreign),
    ("max-reconnects", &[], Foreign),
    ("reconnect-wait", &[], Foreign),
    ("timeout", &[], Foreign),
    ("tls", &[], Foreign),
];

/// The keys of one replica, or those at the top of the file.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<&'static str, Located<String>>);

impl Settings {
    pub fn read(table: &mut Table<'_>) -> Settings {
        let names = SETTINGS.iter().map(|(name, ..)| *name).filter(|name| !name.contains('.'));
        let mut settings = Settings(names.filter_map(|name| Some((name, table.text(name)?))).collect());
        // A list, of NATS.
        table.take("root-cas");
        if let Some(mut age) = table.table("age") {
            for (key, name) in [("identities", AGE_IDENTITIES), ("recipients", AGE_RECIPIENTS)] {
                if let Some(words) = age.words(key) {
                    settings.offer(name, words);
                }
            }
            age.finish();
        }
        settings
    }

    pub fn get(&self, key: &str) -> Option<&Located<String>> {
        self.0.get(key)
    }

    /// What a part of a URL says, below the key of that name.
    pub fn offer(&mut self, key: &'static str, found: Located<String>) {
        self.0.entry(key).or_insert(found);
    }

    /// What is not said here counts as said at the top of the file.
    pub fn with_defaults(mut self, top: &Settings) -> Settings {
        for (key, found) in &top.0 {
            self.0.entry(key).or_insert_with(|| found.clone());
        }
        self
    }

    /// All that the store has. `own` are the replica's own keys: those of other stores at the top of the file
    /// are for others.
    pub fn write(&self, out: &mut TomlWriter, own: &Settings, scheme: Scheme, table: &Table<'_>) {
        for (name, stores, fate) in SETTINGS {
            let Some(found) = self.get(name) else { continue };
            let is_own = own.get(name).is_some();
            match fate {
                Key(key, kind) if stores.contains(&scheme) => write_key(out, key, *kind, found, table),
                Skip(why) if is_own && stores.contains(&scheme) => out.skip(found, why),
                Key(..) | Skip(_) | Foreign if is_own => out.skip(found, "of no use to this kind of replica"),
                _ => {}
            }
        }
    }
}

fn write_key(out: &mut TomlWriter, key: &str, kind: Kind, found: &Located<String>, table: &Table<'_>) {
    let plain = |text: &str| variables::toml(text, true);
    let env = table.reading.env;
    match kind {
        Text => out.set(key, &plain(&found.value), found),
        Path => out.set(key, &variables::toml(&super::at_home(&found.value), true), found),
        Secret => write_secret(out, key, found),
        Endpoint => out.set(key, &plain(&with_scheme(&found.value, env)), found),
        Flag => match variables::value(&found.value, env).as_deref() {
            Some(value @ ("true" | "false")) => out.set(key, value, found),
            Some("") | None => out.skip(found, "its variable is not set"),
            Some(_) => table.complain(found, "must be true or false"),
        },
        Count(most) => match variables::value(&found.value, env).map(|text| text.parse::<u64>()) {
            Some(Ok(count)) => out.set(key, &count.clamp(1, most).to_string(), found),
            None => out.skip(found, "its variable is not set"),
            Some(Err(_)) => table.complain(found, "must be a whole number"),
        },
        Size => match size(&found.value) {
            Ok(value) => out.set(key, &value, found),
            Err(message) => table.complain(found, message),
        },
        Interval => match duration(&found.value, Duration::from_millis(10)..=Duration::from_secs(86_400)) {
            Ok(value) => out.set(key, &value, found),
            Err(message) => table.complain(found, message),
        },
    }
}

pub fn write_secret(out: &mut TomlWriter, key: &str, found: &Located<String>) {
    if !variables::has_variable(&found.value) {
        out.comment(&format!(
            "A secret in the clear: better {key} = \"${{VAR}}\", or {key}_file with a file's path."
        ));
    }
    out.set(key, &variables::toml(&found.value, true), found);
}

/// `host:port` gets a scheme as in Litestream: http on this machine and in private networks, https elsewhere.
fn with_scheme(marked: &str, env: super::Env<'_>) -> String {
    let Some(text) = variables::value(marked, env) else { return marked.to_owned() };
    if text.is_empty() || text.contains("://") {
        return marked.to_owned();
    }
    let scheme = if is_local(&text) { "http" } else { "https" };
    format!("{scheme}://{marked}")
}

fn is_local(endpoint: &str) -> bool {
    let host = endpoint.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
    let second = host.strip_prefix("172.").and_then(|rest| rest.split('.').next()?.parse::<u8>().ok());
    let private = host.starts_with("192.168.")
        || host.starts_with("10.")
        || second.is_some_and(|n| (16..32).contains(&n));
    private
        || matches!(host.as_str(), "localhost" | "127.0.0.1")
        || host.ends_with(".local")
        || host.ends_with(".localhost")
}

/// A duration of Go's as one of ours, in TOML. What is outside of our range becomes its nearest end.
pub fn duration(marked: &str, range: std::ops::RangeInclusive<Duration>) -> Result<String, String> {
    if variables::has_variable(marked) {
        return Ok(variables::toml(marked, true));
    }
    // Units below ours count as the shortest duration.
    let tiny = ["ns", "us", "µs", "μs"].iter().any(|unit| marked.trim_end_matches(unit).len() < marked.len());
    let value = if tiny && !marked.contains("ms") { *range.start() } else { units::duration(marked)? };
    Ok(format!("\"{}\"", units::show_duration(value.clamp(*range.start(), *range.end()))))
}

/// A size as Litestream reads it (`5MB`, `5MiB`, `5M`, `5242880`) as one of ours, in TOML.
fn size(marked: &str) -> Result<String, String> {
    if variables::has_variable(marked) {
        return Ok(variables::toml(marked, true));
    }
    let compact: String = marked.chars().filter(|c| !c.is_whitespace() && *c != ',').collect();
    let (number, unit) =
        compact.split_at(compact.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(compact.len()));
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "ki" | "kib" => 1 << 10,
        "m" | "mb" => 1_000_000,
        "mi" | "mib" => 1 << 20,
        "g" | "gb" => 1_000_000_000,
        "gi" | "gib" => 1 << 30,
        _ => return Err(format!("is no size (\"{marked}\")")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let part = |text: &str| text.parse::<u64>().map_err(|_| format!("is no size (\"{marked}\")"));
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
    let fraction = u128::from(part(fraction)?) * u128::from(factor) / u128::from(scale);
    let bytes = part(whole)?.saturating_mul(factor).saturating_add(u64::try_from(fraction).unwrap_or(0));
    Ok(format!("\"{}\"", units::show_size(bytes.clamp(5 << 20, 5 << 30))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        let range = || Duration::from_millis(10)..=Duration::from_secs(86_400);
        for (text, expected) in [
            ("1s", "\"1s\""),
            ("1h30m", "\"90m\""),
            ("720h", "\"24h\""),
            ("1.5h", "\"90m\""),
            ("100us", "\"10ms\""),
            ("5ms", "\"10ms\""),
        ] {
            assert_eq!(duration(text, range()).unwrap(), expected, "{text}");
        }
        assert!(duration("10", range()).unwrap_err().contains("has no unit"));
        assert_eq!(duration(&variables::variable("A"), range()).unwrap(), "\"${A:-}\"");
        for (text, expected) in [
            ("5MB", "\"5MiB\""),
            ("10MB", "\"10000000B\""),
            ("8 MiB", "\"8MiB\""),
            ("6M", "\"6000000B\""),
            ("1.5GiB", "\"1536MiB\""),
            ("8388608", "\"8MiB\""),
            ("64KB", "\"5MiB\""),
        ] {
            assert_eq!(size(text).unwrap(), expected, "{text}");
        }
        assert!(size("5 apples").is_err() && size("MB").is_err());
    }

    #[test]
    fn endpoints_get_a_scheme() {
        let env = |name: &str| (name == "HOST").then(|| OsString::from("minio.local:9000"));
        for (text, expected) in [
            ("https://x", "https://x"),
            ("localhost:9000", "http://localhost:9000"),
            ("172.20.0.3:9000", "http://172.20.0.3:9000"),
            ("172.200.0.3", "https://172.200.0.3"),
            ("s3.tebi.io", "https://s3.tebi.io"),
        ] {
            assert_eq!(with_scheme(text, &env), expected);
        }
        let marked = variables::variable("HOST");
        assert_eq!(with_scheme(&marked, &env), format!("http://{marked}"));
        let missing = variables::variable("NONE");
        assert_eq!(with_scheme(&missing, &env), missing);
    }

    use std::ffi::OsString;
}

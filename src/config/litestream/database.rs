//! One entry of `dbs` with its replica → `[[database]]` and `[database.replica]`.

use super::replica_url::{self, ReplicaLocation};
use super::settings::{Settings, duration};
use super::table::{Located, Table};
use super::toml_writer::TomlWriter;
use super::{Top, at_home, variables};
use crate::config::units;
use std::ops::RangeInclusive;
use std::time::Duration;

/// SQLite's default; what Litestream counts in pages is bytes here.
const PAGE: u64 = 4096;
const YEAR: Duration = Duration::from_secs(366 * 86_400);
const SPANS: RangeInclusive<Duration> = Duration::from_millis(100)..=YEAR;

const META: &str = "litevisor keeps a small record beside the database, and a copy of its WAL only while the \
    store is away; meta_dir puts both elsewhere";

/// Keys that need no counterpart.
const SKIPPED: [(&str, &str); 9] = [
    ("meta-path", META),
    ("meta-dir", META),
    ("monitor-interval", "the kernel tells of every write"),
    ("monitor-delay-interval", "the kernel tells of every write"),
    ("busy-timeout", "litevisor does not make the app wait"),
    (
        "max-checkpoint-page-count",
        "the app is never blocked for a checkpoint; wal_limit bounds the WAL when the replica is away",
    ),
    (
        "truncate-page-n",
        "the app is never blocked for a checkpoint; wal_limit bounds the WAL when the replica is away",
    ),
    ("max-sync-wal-bytes", "uploads are bounded by bytes and time"),
    ("shadow-retention-count", "there is no shadow WAL"),
];

pub fn write(out: &mut TomlWriter, mut table: Table<'_>, top: &Top) {
    out.section("[[database]]", table.line, &table.name);
    write_path(out, &mut table);
    if let Some(restore) = table.flag("restore-if-db-not-exists") {
        out.skip(
            &restore,
            "always: a database that is missing, or does not continue the replica, is restored",
        );
    }
    for (key, why) in SKIPPED {
        if let Some(found) = table.text(key) {
            out.skip(&found, why);
        }
    }
    write_checkpoint(out, &mut table);
    let mut snapshot = table.table("snapshot");
    let mut of_db = |key: &str| snapshot.as_mut().and_then(|table| table.text(key));
    let interval = of_db("interval");
    let retention = of_db("retention");
    if let Some(snapshot) = snapshot {
        snapshot.finish();
    }
    let Some(mut replica) = the_replica(&mut table) else {
        table.finish();
        return;
    };
    // Litestream 0.3 has these in the replica.
    let interval = interval.or(replica.text("snapshot-interval")).or(top.snapshot_interval.clone());
    let retention = retention.or(replica.text("retention")).or(top.snapshot_retention.clone());
    write_upkeep(out, &table, top, interval, retention);
    write_replica(out, &mut replica, top);
    replica.finish();
    table.finish();
}

fn write_path(out: &mut TomlWriter, table: &mut Table<'_>) {
    if let Some(path) = table.text("path") {
        let text = ["sqlite3://", "sqlite://"].iter().find_map(|prefix| path.value.strip_prefix(prefix));
        out.set("path", &variables::toml(&at_home(text.unwrap_or(&path.value)), false), &path);
    }
    if let Some(dir) = table.text("dir") {
        out.set("dir", &variables::toml(&at_home(&dir.value), false), &dir);
    }
    if let Some(pattern) = table.text("pattern") {
        out.set("pattern", &variables::toml(&pattern.value, false), &pattern);
    }
    if let Some(watch) = table.flag("watch") {
        out.set("watch", &watch.value.to_string(), &watch);
    }
    if let Some(recursive) = table.flag("recursive") {
        out.set("recursive", &recursive.value.to_string(), &recursive);
    }
}

fn write_checkpoint(out: &mut TomlWriter, table: &mut Table<'_>) {
    if let Some(pages) = table.number("min-checkpoint-page-count") {
        let bytes = pages.value.saturating_mul(PAGE).clamp(64 << 10, 16 << 30);
        out.comment(&format!("{} pages of 4 KiB", pages.value));
        out.set("checkpoint.bytes", &format!("\"{}\"", units::show_size(bytes)), &pages);
    }
    if let Some(interval) = table.text("checkpoint-interval") {
        let day = Duration::from_secs(86_400);
        if matches!(units::duration(&interval.value), Ok(Duration::ZERO)) || interval.value == "0" {
            out.comment("Litestream: never by time");
            out.set("checkpoint.interval", "\"24h\"", &interval);
        } else {
            span(out, table, "checkpoint.interval", &interval, Duration::from_secs(1)..=day);
        }
    }
}

fn write_upkeep(
    out: &mut TomlWriter,
    table: &Table<'_>,
    top: &Top,
    interval: Option<Located<String>>,
    retention: Option<Located<String>>,
) {
    if let Some(levels) = &top.levels {
        let value = |found: &Located<String>| {
            duration(&found.value, SPANS).map_err(|message| table.complain(found, message))
        };
        let values: Vec<String> = levels.value.iter().filter_map(|found| value(found).ok()).collect();
        out.set("levels", &format!("[{}]", values.join(", ")), levels);
    }
    if let Some(interval) = interval {
        span(out, table, "snapshot.interval", &interval, SPANS);
    }
    if let Some(retention) = retention {
        span(out, table, "retention.snapshots", &retention, SPANS);
    }
    if let Some(raw) = &top.l0_retention {
        span(out, table, "retention.l0", raw, SPANS);
    }
    if let Some(enabled) = &top.retention_enabled {
        out.set("retention.enabled", &enabled.value.to_string(), enabled);
    }
}

fn span(
    out: &mut TomlWriter,
    table: &Table<'_>,
    key: &str,
    found: &Located<String>,
    range: RangeInclusive<Duration>,
) {
    match duration(&found.value, range) {
        Ok(value) => out.set(key, &value, found),
        Err(message) => table.complain(found, message),
    }
}

/// `replica`, or the one in `replicas`.
fn the_replica<'r>(table: &mut Table<'r>) -> Option<Table<'r>> {
    let one = table.table("replica");
    let many = table.tables("replicas");
    let complain = |line: usize, message: &str| table.reading.complain(line, &table.name, message);
    let mut all: Vec<Table<'_>> = one.into_iter().chain(many.unwrap_or_default()).collect();
    if let Some(second) = all.get(1) {
        let message = "has several replicas: litevisor, as Litestream 0.5, has one for each database; remove \
            the others (what is in them stays there)";
        complain(second.line, message);
        return None;
    }
    if all.is_empty() {
        complain(table.line, "has no replica: add one with a url");
    }
    all.pop()
}

fn write_replica(out: &mut TomlWriter, replica: &mut Table<'_>, top: &Top) {
    out.section("[database.replica]", replica.line, &replica.name);
    for (key, why) in [
        ("name", "a database has one replica, which needs no name"),
        ("retention-check-interval", "what is due is deleted when it is due"),
    ] {
        if let Some(found) = replica.text(key) {
            out.skip(&found, why);
        }
    }
    let written = ReplicaLocation::read(replica);
    let own = Settings::read(replica);
    let mut all = own.clone().with_defaults(&top.settings);
    let Some(target) = replica_url::replica_url(replica, &written, &own, &mut all) else { return };
    out.set("url", &variables::toml(&target.url.value, false), &target.url);
    all.write(out, &own, target.scheme, replica);
    let unverified = all.get("skip-verify").filter(|_| target.scheme == crate::store::Scheme::S3);
    if let Some(skip) = unverified.filter(|skip| matches!(skip.value.as_str(), "true" | "yes" | "on")) {
        let plain = all.get("endpoint").is_some_and(|endpoint| endpoint.value.starts_with("http://"));
        let why = "certificates are always verified: name the authority with ca_file";
        if plain { out.skip(skip, "the endpoint is not https") } else { out.lose(skip, why) }
    }
    if target.scheme == crate::store::Scheme::Sftp && all.get("host-key").is_none() {
        out.comment(
            "The server's key is verified: add host_key, or known_hosts_file, unless it is in \
             ~/.ssh/known_hosts.",
        );
    }
}

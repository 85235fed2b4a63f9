//! Litestream's configuration (litestream.yml of 0.3 and 0.5) → the text of a supervisor.toml.
//!
//! The result is our text, with comments on what has no counterpart and the origin of each line; or every
//! problem with its line. Both `import`, which prints the text, and `--config litestream.yml`, which reads
//! it, go this way, so that they cannot disagree. Values of variables are looked at, never written. Pure.

mod command_line;
mod database;
mod replica_url;
mod settings;
mod table;
mod toml_writer;
mod variables;
mod yaml;

#[cfg(test)]
mod tests;

use super::document::Origin;
use super::problem::{ConfigError, Location};
use settings::Settings;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use table::{Located, Reading, Table};
use toml_writer::TomlWriter;

type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A supervisor.toml that was made.
#[derive(Debug)]
pub struct Converted {
    pub text: String,
    /// Where each of its lines comes from.
    pub origins: Vec<Origin>,
    /// What is lost by the change.
    pub warnings: Vec<String>,
}

/// The keys at the top of the file that count for all databases.
struct Top {
    settings: Settings,
    snapshot_interval: Option<Located<String>>,
    snapshot_retention: Option<Located<String>>,
    l0_retention: Option<Located<String>>,
    retention_enabled: Option<Located<bool>>,
    levels: Option<Located<Vec<Located<String>>>>,
}

/// Keys of the whole program that need no counterpart.
const SKIPPED: [(&str, &str); 4] = [
    ("l0-retention-check-interval", "what is due is deleted when it is due"),
    ("verify-compaction", "always: each merged file is verified"),
    ("shutdown-sync-timeout", "the last flush has what is left of [shutdown] grace"),
    ("shutdown-sync-interval", "a failed upload is tried again at growing intervals"),
];

/// Keys without a counterpart that a user may rely on: each is a warning.
const LOST: [(&str, &str); 1] = [("mcp-addr", "litevisor has no MCP server")];

/// Litestream pings every five minutes unless the file says otherwise, and refuses less than one.
const HEARTBEAT_INTERVAL: &str = "\"5m\"";
const HEARTBEAT_RANGE: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(86_400);

pub fn convert(text: &str, file: &Path, env: Env<'_>) -> Result<Converted, ConfigError> {
    let fail = |line: usize, message: String| {
        ConfigError::single(Location { line, ..Location::file(file) }, message)
    };
    let marked = variables::mark(text)
        .map_err(|line| fail(line, "holds a character that no text has (U+E000)".into()))?;
    let root = yaml::parse(&marked).map_err(|(line, message)| fail(line, message))?;
    let reading = Reading::new(file, env);
    let mut out = TomlWriter::default();
    out.comment(&format!("Made from {} by `litevisor import`.", file.display()));
    write(&mut out, Table::new(&reading, String::new(), root));
    let problems = reading.into_problems();
    if !problems.is_empty() {
        return Err(ConfigError::new(problems));
    }
    Ok(Converted { text: out.text, origins: out.origins, warnings: out.warnings })
}

fn write(out: &mut TomlWriter, mut root: Table<'_>) {
    for (key, why) in SKIPPED {
        if let Some(found) = root.text(key) {
            out.skip(&found, why);
        }
    }
    for (key, why) in LOST {
        if let Some(found) = root.text(key) {
            out.lose(&found, why);
        }
    }
    for (key, why) in [
        ("socket", "litevisor has a control socket of its own, [status] socket"),
        ("validation", settings::PROOFS),
    ] {
        if let Some(found) = root.take(key) {
            out.skip(&found, why);
        }
    }
    if let Some(addr) = root.text("addr") {
        out.section("[status]", addr.line, "addr");
        out.set("listen", &variables::toml(&addr.value, true), &addr);
    }
    write_exec(out, &mut root);
    write_heartbeat(out, &mut root);
    write_log(out, &mut root);
    let mut snapshot = root.table("snapshot");
    let mut of_snapshot = |key: &str| snapshot.as_mut().and_then(|table| table.text(key));
    let (snapshot_interval, snapshot_retention) = (of_snapshot("interval"), of_snapshot("retention"));
    if let Some(snapshot) = snapshot {
        snapshot.finish();
    }
    let mut retention = root.table("retention");
    let retention_enabled = retention.as_mut().and_then(|table| table.flag("enabled"));
    if let Some(retention) = retention {
        retention.finish();
    }
    let l0_retention = root.text("l0-retention");
    let levels = levels(&mut root);
    let settings = Settings::read(&mut root);
    let top =
        Top { settings, snapshot_interval, snapshot_retention, l0_retention, retention_enabled, levels };
    for table in root.tables("dbs").unwrap_or_default() {
        database::write(out, table, &top);
    }
    root.finish();
}

fn write_exec(out: &mut TomlWriter, root: &mut Table<'_>) {
    let Some(exec) = root.text("exec") else { return };
    match command_line::split(&exec.value, root.reading.env) {
        Ok(command_line::Words { words, cut }) => {
            out.section("[app]", exec.line, "exec");
            if let Some(cut) = cut {
                out.lose(&exec, &format!("no shell runs it: Litestream, too, leaves \"{cut}\" out"));
            }
            let words: Vec<String> = words.iter().map(|word| variables::toml(word, false)).collect();
            out.set("command", &format!("[{}]", words.join(", ")), &exec);
        }
        Err(message) => root.complain(&exec, message),
    }
}

fn write_heartbeat(out: &mut TomlWriter, root: &mut Table<'_>) {
    let (url, interval) = (root.text("heartbeat-url"), root.text("heartbeat-interval"));
    let Some(url) = url else {
        if let Some(interval) = interval {
            out.skip(&interval, "of no use without heartbeat-url");
        }
        return;
    };
    out.section("[heartbeat]", url.line, "heartbeat-url");
    settings::write_secret(out, "url", &url);
    match interval {
        Some(interval) => match settings::duration(&interval.value, HEARTBEAT_RANGE) {
            Ok(value) => out.set("interval", &value, &interval),
            Err(message) => root.complain(&interval, message),
        },
        None => out.set("interval", HEARTBEAT_INTERVAL, &url),
    }
}

fn write_log(out: &mut TomlWriter, root: &mut Table<'_>) {
    let Some(mut logging) = root.table("logging") else { return };
    out.section("[log]", logging.line, "logging");
    if let Some(level) = logging.text("level") {
        let lower = level.value.to_ascii_lowercase();
        let lower = if lower == "warning" { "warn".to_owned() } else { lower };
        out.set(
            "level",
            &variables::toml(
                &if variables::has_variable(&level.value) { level.value.clone() } else { lower },
                true,
            ),
            &level,
        );
    }
    if let Some(format) = logging.text("type") {
        let ours = if format.value == "pretty" { "text" } else { format.value.as_str() };
        out.set("format", &variables::toml(ours, true), &format);
    }
    for (key, why) in
        [("stderr", "the log is on stderr, the app's output on stdout"), ("source", "not in the log")]
    {
        if let Some(found) = logging.flag(key) {
            out.skip(&found, why);
        }
    }
    logging.finish();
}

fn levels(root: &mut Table<'_>) -> Option<Located<Vec<Located<String>>>> {
    let found = root.take("levels")?;
    let tables = root.tables("levels")?;
    let interval = |mut table: Table<'_>| {
        let interval = table.text("interval");
        if interval.is_none() {
            table.reading.complain(table.line, &table.name, "has no interval");
        }
        table.finish();
        interval
    };
    let value = tables.into_iter().filter_map(interval).collect();
    Some(Located { value, line: found.line, key: found.key })
}

/// `~/x` is below the home directory.
fn at_home(marked: &str) -> String {
    match marked.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            format!("{}{rest}", variables::variable("HOME"))
        }
        _ => marked.to_owned(),
    }
}

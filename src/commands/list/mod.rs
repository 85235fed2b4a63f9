//! `litevisor list`: prints what replicas hold and which states can be restored, as text or JSON.

mod retention;

pub use retention::retention;

use super::directories::report_empty;
use super::document::Document;
use super::error::{CommandError, ErrorKind};
use super::replicas::{NamedReplica, Selected, select};
use super::setup::{LogOf, runtime};
use crate::observe::say;
use crate::replica::Contents;
use crate::restore::{RestoreSettings, contents};
use crate::store;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

pub fn list(file: Option<&Path>, subject: Option<&OsStr>, as_json: bool) -> Result<u8, CommandError> {
    let selected = select(file, subject, LogOf::OneShot { json: as_json })?;
    Ok(runtime()?.block_on(list_all(&selected, as_json)))
}

async fn list_all(selected: &Selected, as_json: bool) -> u8 {
    let mut document = Document::new(as_json);
    for replica in &selected.replicas {
        let found = match read(replica, &selected.restore).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!("{} cannot be listed: {}", replica.name(), error.message());
                document.failed(replica.place(), &error, Value::Null);
                continue;
            }
        };
        match problem(&found) {
            None => document.succeeded(replica.place(), || value(&found)),
            Some(error) => document.failed(replica.place(), &error, value(&found)),
        }
        if !as_json {
            say(&text(replica, &found));
        }
    }
    report_empty(&selected.empty, &mut document);
    document.finish()
}

/// What is wrong with a replica that could be listed.
fn problem(found: &Contents) -> Option<CommandError> {
    if !found.problems.is_empty() {
        return Some(CommandError { kind: ErrorKind::Damaged, messages: found.problems.clone() });
    }
    let is_empty = found.levels.is_empty() && found.generations.is_empty();
    is_empty.then(|| CommandError::new(ErrorKind::Empty, "no database: nothing is there"))
}

async fn read(replica: &NamedReplica, settings: &RestoreSettings) -> Result<Contents, CommandError> {
    let store = store::open(&replica.settings)?;
    Ok(contents(&*store, settings).await?)
}

fn text(replica: &NamedReplica, found: &Contents) -> String {
    let mut text = format!("{}\n", replica.name());
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "  {args}");
    };
    if found.levels.is_empty() && found.generations.is_empty() {
        line(format_args!("no database: nothing is there"));
    }
    for range in &found.ranges {
        let ((first, from), (last, to)) = (range.first, range.last);
        line(format_args!("restorable  TXID {first}  {from}"));
        line(format_args!(
            "        to  TXID {last}  {to}{}   ({} positions)",
            in_parentheses(range.mark),
            range.points
        ));
    }
    for snapshot in &found.snapshots {
        let txid = snapshot.txid;
        let time = snapshot.time;
        let mark = in_parentheses(snapshot.mark);
        line(format_args!("snapshot    TXID {txid}  {time}{mark}   {} bytes", snapshot.bytes));
    }
    for level in &found.levels {
        let number = level.level.0;
        let files = level.files;
        let bytes = level.bytes;
        line(format_args!("level {number}     {}   {files} files, {bytes} bytes", level.range));
    }
    for old in &found.generations {
        line(format_args!("Litestream 0.3 generation {}   {} bytes", old.generation, old.bytes));
        let snapshots = old.snapshots;
        let segments = old.segments;
        line(format_args!(
            "            {} to {}   {snapshots} snapshots, {segments} WAL segments",
            old.first, old.last
        ));
    }
    found.problems.iter().for_each(|problem| line(format_args!("PROBLEM     {problem}")));
    text
}

fn in_parentheses(mark: &str) -> String {
    if mark.is_empty() { String::new() } else { format!(" ({mark})") }
}

fn value(found: &Contents) -> Value {
    let hex = |txid: crate::model::Txid| txid.to_string();
    let time = |time: crate::model::Moment| time.to_string();
    json!({
        "restorable": found.ranges.iter().map(|range| json!({
            "first": { "txid": hex(range.first.0), "time": time(range.first.1) },
            "last": { "txid": hex(range.last.0), "time": time(range.last.1), "mark": range.mark },
            "positions": range.points,
        })).collect::<Vec<_>>(),
        "snapshots": found.snapshots.iter().map(|snapshot| json!({
            "txid": hex(snapshot.txid), "time": time(snapshot.time), "mark": snapshot.mark,
            "bytes": snapshot.bytes,
        })).collect::<Vec<_>>(),
        "levels": found.levels.iter().map(|level| json!({
            "level": level.level.0, "files": level.files, "bytes": level.bytes,
            "first": hex(level.range.min), "last": hex(level.range.max),
        })).collect::<Vec<_>>(),
        "generations": found.generations.iter().map(|old| json!({
            "generation": old.generation.to_string(), "snapshots": old.snapshots, "segments": old.segments,
            "bytes": old.bytes, "first": time(old.first), "last": time(old.last),
        })).collect::<Vec<_>>(),
        "problems": found.problems,
    })
}

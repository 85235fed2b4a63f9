//! `litevisor list`: what a replica holds and what of it can be restored. On stdout, for people or as JSON.

use super::places::{Place, places};
use super::restore::{Failure, FailureKind, code};
use super::runtime;
use crate::exit;
use crate::observe::say;
use crate::replica::Inventory;
use crate::restore::{RestoreSettings, inventory};
use crate::store;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

pub fn list(file: Option<PathBuf>, subject: Option<OsString>, as_json: bool) -> u8 {
    places(file, subject.as_deref(), |places, settings| {
        let Some(runtime) = runtime() else { return exit::INTERNAL };
        runtime.block_on(all(&places, settings, as_json))
    })
}

async fn all(places: &[Place], settings: &RestoreSettings, as_json: bool) -> u8 {
    let (mut failures, mut values) = (Vec::new(), Vec::new());
    for place in places {
        let found = match look(place, settings).await {
            Ok(found) => found,
            Err(Failure { kind, told }) => {
                tracing::error!("{} cannot be listed: {told}", place.name());
                failures.push(kind);
                continue;
            }
        };
        if !found.problems.is_empty() {
            failures.push(FailureKind::Damaged);
        } else if found.levels.is_empty() && found.generations.is_empty() {
            failures.push(FailureKind::Empty);
        }
        if as_json {
            values.push(value(place, &found));
        } else {
            say(&text(place, &found));
        }
    }
    if as_json {
        say(&format!("{:#}\n", Value::Array(values)));
    }
    code(failures.into_iter(), false)
}

async fn look(place: &Place, settings: &RestoreSettings) -> Result<Inventory, Failure> {
    let store = store::open(&place.replica)?;
    Ok(inventory(&*store, settings).await?)
}

fn text(place: &Place, found: &Inventory) -> String {
    let mut text = format!("{}\n", place.name());
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "  {args}");
    };
    if found.levels.is_empty() && found.generations.is_empty() {
        line(format_args!("nothing is there"));
    }
    for range in &found.ranges {
        let ((first, from), (last, to)) = (range.first, range.last);
        line(format_args!("restorable  TXID {first}  {from}"));
        line(format_args!("        to  TXID {last}  {to}   ({} positions)", range.points));
    }
    for snapshot in &found.snapshots {
        line(format_args!("snapshot    TXID {}  {}   {} bytes", snapshot.txid, snapshot.time, snapshot.bytes));
    }
    for level in &found.levels {
        let (number, files, bytes) = (level.level.0, level.files, level.bytes);
        line(format_args!("level {number}     {}   {files} files, {bytes} bytes", level.range));
    }
    for old in &found.generations {
        line(format_args!("Litestream 0.3 generation {}   {} bytes", old.generation, old.bytes));
        let (snapshots, segments) = (old.snapshots, old.segments);
        line(format_args!(
            "            {} to {}   {snapshots} snapshots, {segments} WAL segments",
            old.first, old.last
        ));
    }
    found.problems.iter().for_each(|problem| line(format_args!("PROBLEM     {problem}")));
    text
}

fn value(place: &Place, found: &Inventory) -> Value {
    let hex = |txid: crate::model::Txid| txid.to_string();
    let time = |time: crate::model::Moment| time.to_string();
    json!({
        "database": place.db.as_ref().map(|db| db.to_string_lossy()),
        "replica": place.replica.url,
        "restorable": found.ranges.iter().map(|range| json!({
            "first": { "txid": hex(range.first.0), "time": time(range.first.1) },
            "last": { "txid": hex(range.last.0), "time": time(range.last.1) },
            "positions": range.points,
        })).collect::<Vec<_>>(),
        "snapshots": found.snapshots.iter().map(|snapshot| json!({
            "txid": hex(snapshot.txid), "time": time(snapshot.time), "bytes": snapshot.bytes,
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

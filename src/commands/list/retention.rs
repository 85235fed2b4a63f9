//! `litevisor list --retention`: what retention would keep in each replica now, and what it would delete.
//! Deletes nothing.

use crate::commands::directories::report_empty;
use crate::commands::document::Document;
use crate::commands::error::{CommandError, ErrorKind};
use crate::commands::replicas::{NamedReplica, Selected, select};
use crate::commands::setup::{LogOf, runtime};
use crate::model::{Deadline, Moment, Txid};
use crate::observe::say;
use crate::replica::{Listing, clocks};
use crate::replicate::{DryRun, dry_run};
use crate::store;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

pub fn retention(file: Option<&Path>, subject: Option<&OsStr>, as_json: bool) -> Result<u8, CommandError> {
    let selected = select(file, subject, LogOf::OneShot { json: as_json })?;
    if selected.replicas.iter().any(|replica| replica.db.is_none()) {
        let message = "--retention is about configured databases: give the path of one, or none for all";
        return Err(CommandError::new(ErrorKind::Usage, message));
    }
    Ok(runtime()?.block_on(tell_all(&selected, as_json)))
}

async fn tell_all(selected: &Selected, as_json: bool) -> u8 {
    let mut document = Document::new(as_json);
    for replica in &selected.replicas {
        match plan(replica, Deadline::after(selected.restore.timeout)).await {
            Ok(found) if as_json => document.succeeded(replica.place(), || value(found.as_ref())),
            Ok(found) => say(&text(&replica.name(), found.as_ref())),
            Err(error) => {
                tracing::error!("{} cannot be listed: {}", replica.name(), error.message());
                document.failed(replica.place(), &error, Value::Null);
            }
        }
    }
    report_empty(&selected.empty, &mut document);
    document.finish()
}

/// None: nothing is ever deleted.
async fn plan(replica: &NamedReplica, by: Deadline) -> Result<Option<DryRun>, CommandError> {
    let Some(retention) = &replica.retention else { return Ok(None) };
    let store = store::open(&replica.settings)?;
    let listing = Listing::of(store.layout(), &store.list(store.layout().all_levels(), by).await?);
    let now_ms = clocks::believed(Moment::now().0, store.clock().and_then(|clock| clock.now_ms()));
    Ok(Some(dry_run(&listing.files, retention, now_ms)))
}

fn text(name: &str, found: Option<&DryRun>) -> String {
    let Some(DryRun { stay, go, files, bytes }) = found else {
        return format!("{name}\n  nothing is deleted (retention.enabled = false)\n");
    };
    let mut out = format!("{name}\n");
    for snapshot in stay {
        let (txid, time, why) = (snapshot.txid, Moment(snapshot.since_ms), snapshot.because.join(", "));
        let _ =
            writeln!(out, "  stays       snapshot TXID {txid}  {time}  {} bytes   ({why})", snapshot.bytes);
    }
    for (txid, since_ms, bytes) in go {
        let _ = writeln!(out, "  WOULD GO    snapshot TXID {txid}  {}  {bytes} bytes", Moment(*since_ms));
    }
    let _ = writeln!(out, "  WOULD GO    {files} files of levels 0 to 8, {bytes} bytes");
    out
}

fn value(found: Option<&DryRun>) -> Value {
    let one = |txid: Txid, since_ms: i64, bytes: u64| {
        let time = Moment(since_ms).to_string();
        json!({ "txid": txid.to_string(), "time": time, "bytes": bytes })
    };
    json!({
        "enabled": found.is_some(),
        "stay": found.map(|found| found.stay.iter().map(|snapshot| {
            let mut value = one(snapshot.txid, snapshot.since_ms, snapshot.bytes);
            if let Some(object) = value.as_object_mut() {
                object.insert("because".into(), json!(snapshot.because));
            }
            value
        }).collect::<Vec<_>>()),
        "go": found.map(|found| {
            found.go.iter().map(|(txid, since_ms, bytes)| one(*txid, *since_ms, *bytes)).collect::<Vec<_>>()
        }),
        "files": found.map(|found| found.files),
        "bytes": found.map(|found| found.bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::StayingSnapshot;

    #[test]
    fn a_dry_run_for_people() {
        let stays = StayingSnapshot { txid: Txid(9), since_ms: 0, bytes: 7, because: vec!["base", "daily"] };
        let found = DryRun { stay: vec![stays], go: vec![(Txid(2), 1000, 8)], files: 3, bytes: 99 };
        let expected = "\
/d/a.db in s3://b/a
  stays       snapshot TXID 0000000000000009  1970-01-01T00:00:00.000Z  7 bytes   (base, daily)
  WOULD GO    snapshot TXID 0000000000000002  1970-01-01T00:00:01.000Z  8 bytes
  WOULD GO    3 files of levels 0 to 8, 99 bytes
";
        assert_eq!(text("/d/a.db in s3://b/a", Some(&found)), expected);
        assert!(text("r", None).contains("nothing is deleted"));
    }
}

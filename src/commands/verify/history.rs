//! `litevisor verify --history`: the records of the scheduled proofs that are in a replica. Reads, and
//! restores nothing.

use crate::commands::directories::report_empty;
use crate::commands::document::Document;
use crate::commands::error::CommandError;
use crate::commands::replicas::{NamedReplica, Selected, select};
use crate::commands::setup::{LogOf, runtime};
use crate::model::Deadline;
use crate::observe::say;
use crate::replica::ProofRecord;
use crate::replica::proof;
use crate::store;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

pub fn history(file: Option<&Path>, subject: Option<&OsStr>, as_json: bool) -> Result<u8, CommandError> {
    let selected = select(file, subject, LogOf::OneShot { json: as_json })?;
    Ok(runtime()?.block_on(tell_all(&selected, as_json)))
}

async fn tell_all(selected: &Selected, as_json: bool) -> u8 {
    let mut document = Document::new(as_json);
    for replica in &selected.replicas {
        match records(replica, Deadline::after(selected.restore.timeout)).await {
            Ok(records) if as_json => document.succeeded(replica.place(), || json!({ "proofs": records })),
            Ok(records) => say(&text(&replica.name(), &records)),
            Err(error) => {
                tracing::error!("the proofs of {} cannot be read: {}", replica.name(), error.message());
                document.failed(replica.place(), &error, Value::Null);
            }
        }
    }
    report_empty(&selected.empty, &mut document);
    document.finish()
}

/// The newest first. An object that is no record is left out.
async fn records(replica: &NamedReplica, by: Deadline) -> Result<Vec<ProofRecord>, CommandError> {
    let store = store::open(&replica.settings)?;
    let objects = store.list(proof::PREFIX, by).await?;
    let mut records = Vec::new();
    for key in proof::newest_first(&objects).iter().take(proof::KEPT) {
        records.extend(ProofRecord::parse(&store.get(key, None, by).await?));
    }
    Ok(records)
}

fn text(name: &str, records: &[ProofRecord]) -> String {
    if records.is_empty() {
        return format!("{name}: no proof is recorded (set interval under [verify])\n");
    }
    let mut out =
        format!("{name}\n  TIME                      RESULT  TXID              MODE   SECONDS   BYTES\n");
    for record in records {
        let result = if record.sound { "sound" } else { "FAILED" };
        let mode = serde_json::to_value(record.mode).ok();
        let mode = mode.as_ref().and_then(Value::as_str).unwrap_or("?");
        let ProofRecord { time, txid, seconds, bytes, .. } = record;
        let _ = writeln!(out, "  {time:<24}  {result:<6}  {txid:<16}  {mode:<5}  {seconds:<8.1}  {bytes}");
        if let Some(problem) = &record.problem {
            let _ = writeln!(out, "    {problem}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Moment, Txid};
    use crate::replica::proof::Findings;

    #[test]
    fn a_table_for_people() {
        let now = Moment::parse("2026-11-29T18:46:25.123Z").unwrap();
        let findings = Findings { txid: Txid(0x2f), bytes: 4711, seconds: 1.25, ..Findings::default() };
        let sound = ProofRecord::new(findings.clone(), now, None);
        let failed = Findings { problem: Some("ltx/9/x is damaged".into()), ..findings };
        let failed = ProofRecord::new(failed, Moment(now.0 + 86_400_000), sound.proven.clone());
        let expected = "\
/data/app.db in s3://b/app
  TIME                      RESULT  TXID              MODE   SECONDS   BYTES
  2026-11-30T18:46:25.123Z  FAILED  000000000000002f  full   1.2       4711
    ltx/9/x is damaged
  2026-11-29T18:46:25.123Z  sound   000000000000002f  full   1.2       4711
";
        assert_eq!(text("/data/app.db in s3://b/app", &[failed, sound]), expected);
        assert!(text("r", &[]).contains("no proof is recorded"));
    }
}

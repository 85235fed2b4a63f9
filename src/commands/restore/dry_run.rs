//! `litevisor restore --dry-run`: prints the plan. Reads the replica's listing and some headers; changes
//! nothing.

use super::jobs::Job;
use super::report;
use crate::commands::document::{Document, object};
use crate::commands::error::{CommandError, ErrorKind};
use crate::model::{Moment, TxidRange};
use crate::observe::say;
use crate::restore::plan::Choice;
use crate::restore::{Progress, RestoreSettings, plan_of};
use crate::store;
use serde_json::{Value, json};
use std::fmt::Write;

/// One after the other, so that the output about each stays together.
pub async fn all(jobs: Vec<Job>, settings: &RestoreSettings, empty_is_fine: bool, as_json: bool) -> u8 {
    let mut document = Document::new(as_json);
    for job in jobs {
        match plan(&job, settings).await {
            Ok((choice, time)) if as_json => document.succeeded(job.place(), || value(&job, &choice, time)),
            Ok((choice, time)) => say(&describe(&job, &choice, time)),
            // Only a name in the bucket suggested a database.
            Err(error) if error.kind == ErrorKind::Empty && job.found() => {}
            Err(error) => {
                let out = job.out().display();
                let replica = &job.replica().url;
                tracing::error!(replica, "{out} would not be restored: {}", error.message());
                let counts = Some(error.kind).filter(|kind| !(empty_is_fine && *kind == ErrorKind::Empty));
                let exit_status = counts.map_or(0, ErrorKind::status);
                document.add(object(job.place(), exit_status, Some(&error.message()), Value::Null), counts);
            }
        }
    }
    document.finish()
}

async fn plan(job: &Job, settings: &RestoreSettings) -> Result<(Choice, Moment), CommandError> {
    let store = store::open(job.replica())?;
    Ok(plan_of(&*store, job.target(), settings, &Progress::default()).await?)
}

fn existing_bytes(job: &Job) -> u64 {
    std::fs::metadata(job.out()).map(|found| found.len()).unwrap_or_default()
}

fn value(job: &Job, choice: &Choice, time: Moment) -> Value {
    let existing = existing_bytes(job);
    let action = match (existing, job.force()) {
        (0, _) => "create",
        (_, true) => "replace",
        (_, false) => "refuse",
    };
    let (txid, generation) = match choice {
        Choice::Ltx { plan, .. } => (Some(plan.end.to_string()), None),
        Choice::V3 { plan, .. } => (None, Some(plan.generation.to_string())),
    };
    let files: Vec<Value> = match choice {
        Choice::Ltx { plan, .. } => {
            let file = |level: u8, range: TxidRange, bytes: u64| {
                let (first, last) = (range.min.to_string(), range.max.to_string());
                json!({ "level": level, "first": first, "last": last, "bytes": bytes })
            };
            plan.files.iter().map(|at| file(at.level.0, at.range, at.size)).collect()
        }
        Choice::V3 { plan, .. } => {
            plan.files().map(|at| json!({ "key": at.key, "bytes": at.size })).collect()
        }
    };
    json!({
        "action": action, "existing_bytes": existing, "txid": txid, "generation": generation,
        "time": time.to_string(), "bytes": choice.bytes(), "files": files,
    })
}

fn describe(job: &Job, choice: &Choice, time: Moment) -> String {
    let out = job.out();
    let fate = match (existing_bytes(job), job.force()) {
        (0, _) => "would be made".to_owned(),
        (bytes, true) => format!("would be replaced ({bytes} bytes)"),
        (bytes, false) => format!("is there already ({bytes} bytes): refused without --force"),
    };
    let mut text = format!("{}: {fate}\n", out.display());
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{args}");
    };
    line(format_args!("  from    {}", job.replica().url));
    match choice {
        Choice::Ltx { plan, coarse, .. } => {
            line(format_args!("  state   TXID {}, committed at {time}", plan.end));
            if let Some(coarse) = coarse {
                line(format_args!("          {}", report::hidden(coarse.range)));
            }
            for file in &plan.files {
                line(format_args!("  file    L{} {} {:>12} bytes", file.level.0, file.range, file.size));
            }
        }
        Choice::V3 { plan, passed_over } => {
            line(format_args!(
                "  state   generation {} of Litestream 0.3, written at {time}",
                plan.generation
            ));
            passed_over.iter().for_each(|why| line(format_args!("          passed over: {why}")));
            for file in plan.files() {
                line(format_args!("  file    {} {:>12} bytes", file.key, file.size));
            }
        }
    }
    let files = match choice {
        Choice::Ltx { plan, .. } => plan.files.len(),
        Choice::V3 { plan, .. } => plan.files().count(),
    };
    line(format_args!("  total   {} bytes in {files} files", choice.bytes()));
    text
}

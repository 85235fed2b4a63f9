//! `litevisor restore --dry-run`: the plan on stdout. Reads the replica's listing and some headers; changes nothing.

use super::connect;
use super::jobs::{self, Failure, FailureKind, Job};
use crate::model::Moment;
use crate::observe::say;
use crate::restore::choose::Choice;
use crate::restore::{Progress, RestoreSettings, plan_of};
use crate::store;
use std::fmt::Write;

/// One after the other: what is printed of one stays together.
pub async fn all(jobs: Vec<Job>, settings: &RestoreSettings, empty_is_fine: bool) -> u8 {
    let mut failures = Vec::new();
    for job in jobs {
        match one(&job, settings).await {
            Ok(text) => say(&text),
            // Only a name in the bucket spoke for it.
            Err(failure) if failure.kind == FailureKind::Empty && job.found() => {}
            Err(failure) => {
                let (out, replica, told) = (job.out().display(), &job.replica().url, &failure.told);
                tracing::error!(replica, "{out} would not be restored: {told}");
                failures.push(failure.kind);
            }
        }
    }
    jobs::code(failures.into_iter(), empty_is_fine)
}

async fn one(job: &Job, settings: &RestoreSettings) -> Result<String, Failure> {
    let store = store::open(job.replica())?;
    let (choice, time) = plan_of(&*store, job.target(), settings, &Progress::default()).await?;
    Ok(describe(job, &choice, time))
}

fn describe(job: &Job, choice: &Choice, time: Moment) -> String {
    let out = job.out();
    let existing = std::fs::metadata(out).map(|found| found.len()).unwrap_or_default();
    let fate = match (existing, job.force()) {
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
                line(format_args!("          {}", connect::hidden(coarse.range)));
            }
            for file in &plan.files {
                line(format_args!("  file    L{} {} {:>12} bytes", file.level.0, file.range, file.size));
            }
        }
        Choice::Old { plan, passed_over } => {
            line(format_args!("  state   generation {} of Litestream 0.3, written at {time}", plan.generation));
            passed_over.iter().for_each(|why| line(format_args!("          passed over: {why}")));
            for file in plan.files() {
                line(format_args!("  file    {} {:>12} bytes", file.key, file.size));
            }
        }
    }
    let files = match choice {
        Choice::Ltx { plan, .. } => plan.files.len(),
        Choice::Old { plan, .. } => plan.files().count(),
    };
    line(format_args!("  total   {} bytes in {files} files", choice.bytes()));
    text
}

//! `litevisor restore`: restores one or all databases from their replicas, side by side, without starting an
//! app.
//!
//! `jobs` decides what is to be done, `job` does one of them, `report` describes the results.

mod dry_run;
mod job;
mod jobs;
mod owner;
pub mod report;
mod running;

pub use jobs::RestoreOptions;

use super::directories;
use super::document::{self, Document, Place};
use super::error::{CommandError, ErrorKind};
use super::setup::{LogOf, configured, runtime, start_log, with_environment};
use crate::config::{Additions, LogSettings, Purpose, replica_from_url};
use crate::observe::Live;
use crate::observe::live::REDRAW;
use crate::restore::{Paces, Progress, RestoreSettings};
use jobs::Job;
use serde_json::Value;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// How one restore ended.
struct JobResult {
    /// Its exit status.
    status: u8,
    value: Value,
}

pub fn restore(file: Option<&Path>, args: &RestoreOptions) -> Result<u8, CommandError> {
    let log = LogOf::OneShot { json: args.json };
    if let Some(url) = jobs::replica_url(args) {
        let replica = with_environment(|environment| replica_from_url(url, environment))?;
        start_log(&LogSettings::default(), log);
        return run(
            jobs::from_replica(args, replica).into_iter().collect(),
            &RestoreSettings::default(),
            args,
        );
    }
    let checked = configured(file, &Additions::default(), Purpose::Databases, log)?;
    let listed = match &args.subject {
        None => directories::list(&checked.config)?,
        Some(_) => directories::Listed::default(),
    };
    let jobs =
        jobs::from_config(args, &checked, listed.databases, &std::env::current_dir().unwrap_or_default())?;
    if !args.dry_run
        && let Some(JobResult { status, value }) = running::ask_owner(&checked.config, &jobs)
    {
        if args.json {
            document::print(&Value::Array(vec![value]));
        }
        return Ok(status);
    }
    run(jobs, &checked.config.restore, args)
}

/// Runs every job to its end; one that fails does not stop the others.
fn run(jobs: Vec<Job>, settings: &RestoreSettings, args: &RestoreOptions) -> Result<u8, CommandError> {
    let runtime = runtime()?;
    if args.dry_run {
        return Ok(runtime.block_on(dry_run::all(jobs, settings, args.if_replica_exists, args.json)));
    }
    let local = tokio::task::LocalSet::new();
    let shown = Rc::new((Live::start(), Paces::default()));
    Ok(local.block_on(&runtime, async move {
        let mut tasks = tokio::task::JoinSet::new();
        for (index, job) in jobs.into_iter().enumerate() {
            let empty_is_fine = args.if_replica_exists || job.found();
            let restore = run_one(job, settings.clone(), empty_is_fine, Rc::clone(&shown));
            tasks.spawn_local(async move { (index, restore.await) });
        }
        let mut done = Vec::new();
        let mut lost = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(one) => done.push(one),
                Err(panic) => {
                    tracing::error!("a restore ended unexpectedly: {panic}");
                    lost.push(CommandError::new(
                        ErrorKind::Internal,
                        format!("a restore ended unexpectedly: {panic}"),
                    ));
                }
            }
        }
        let mut document = Document::new(args.json);
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().for_each(|(_, (error, value))| document.add(value, error));
        lost.iter().for_each(|error| document.failed(Place::default(), error, Value::Null));
        document.finish()
    }))
}

/// The error, if it is to count, and the result as JSON.
async fn run_one(
    job: Job,
    settings: RestoreSettings,
    empty_is_fine: bool,
    shown: Rc<(Live, Paces)>,
) -> (Option<ErrorKind>, Value) {
    let out = job.out().display();
    let url = &job.replica().url;
    if let Err(error) = jobs::refuse_existing(&job).and_then(|()| owner::refuse_owned(&job)) {
        tracing::error!("{}", error.message());
        return (Some(error.kind), report::failed(&job, error.kind.status(), &error.message()));
    }
    match with_progress(&job, &settings, &shown).await {
        Ok(restored) => {
            tracing::info!(replica = url, "restored {out}: {}", report::text(&restored));
            (None, report::restored(&job, &restored))
        }
        Err(error) if error.kind == ErrorKind::Empty && empty_is_fine => {
            tracing::info!(replica = url, "{out} is not restored: {}", error.message());
            (None, report::failed(&job, 0, &error.message()))
        }
        Err(error) => {
            tracing::error!(replica = url, "{out} is not restored: {}", error.message());
            (Some(error.kind), report::failed(&job, error.kind.status(), &error.message()))
        }
    }
}

/// Restores, and shows the progress on the terminal or in the log.
async fn with_progress(
    job: &Job,
    settings: &RestoreSettings,
    (live, paces): &(Live, Paces),
) -> Result<crate::restore::RestoredTo, CommandError> {
    let out = job.out().display();
    let url = &job.replica().url;
    let progress = Progress::default();
    let mut work = std::pin::pin!(job::restore(job, settings, &progress));
    let place = paces.join();
    let mut tick = tokio::time::interval(if live.is_seen() { REDRAW } else { LOG_INTERVAL });
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended,
            _ = tick.tick() => {
                let pace = progress.pace();
                if live.is_seen() {
                    live.show(paces.set(place, pace));
                } else {
                    let bytes = pace.done;
                    let of = pace.total;
                    tracing::info!(replica = url, bytes, of, "{out}: {}", pace.text());
                }
            }
        }
    };
    paces.set(place, progress.pace());
    ended
}

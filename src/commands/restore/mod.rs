//! `litevisor restore`: one or all databases from their replicas, in parallel, without starting anything.
//!
//! `jobs` decides what is to be done; `connect` does one of them through `restore`; here they are run side by side.

mod connect;
pub(super) mod directories;
mod dry_run;
mod jobs;

pub use connect::told;
pub use jobs::{Failure, FailureKind, Wanted, code};

use super::{configured, logged, outside, refuse, runtime};
use crate::config::{Additions, LogSettings, Purpose, replica_from_url};
use crate::observe::Live;
use crate::observe::live::REDRAW;
use crate::restore::{Pace, Paces, RestoreSettings};
use crate::{exit, observe};
use jobs::Job;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// One restore on its way.
struct Running {
    name: String,
    work: Pin<Box<dyn Future<Output = Result<String, Failure>>>>,
    progress: Box<dyn Fn() -> Pace>,
}

const TELL_EVERY: Duration = Duration::from_secs(5);

pub fn restore(file: Option<PathBuf>, args: &Wanted) -> u8 {
    match jobs::replica_url(args) {
        Some(url) => match outside(|outside| replica_from_url(url, outside)) {
            Ok(replica) => logged(&LogSettings::default(), &[], || {
                let settings = RestoreSettings::default();
                all(jobs::from_replica(args, replica).into_iter().collect(), &settings, args)
            }),
            Err(error) => refuse(error),
        },
        None => configured(file, &Additions::default(), Purpose::Databases, |checked| {
            let working_dir = std::env::current_dir().unwrap_or_default();
            let found = match &args.subject {
                None => match directories::find(&checked.config) {
                    Ok(found) => found,
                    Err(failure) => return failed(&failure),
                },
                Some(_) => Vec::new(),
            };
            match jobs::from_config(args, &checked, found, &working_dir) {
                Ok(jobs) => all(jobs, &checked.config.restore, args),
                Err(told) => {
                    observe::complain(&told);
                    exit::USAGE
                }
            }
        }),
    }
}

fn failed(failure: &Failure) -> u8 {
    tracing::error!("{}", failure.told);
    jobs::code(std::iter::once(failure.kind), false)
}

/// Runs every job to its end; one that fails does not stop the others.
fn all(jobs: Vec<Job>, settings: &RestoreSettings, args: &Wanted) -> u8 {
    let Some(runtime) = runtime() else { return exit::INTERNAL };
    if args.dry_run {
        return runtime.block_on(dry_run::all(jobs, settings, args.if_replica_exists));
    }
    let empty_is_fine = args.if_replica_exists;
    let local = tokio::task::LocalSet::new();
    let shown = Rc::new((Live::start(), Paces::default()));
    local.block_on(&runtime, async move {
        let mut tasks = tokio::task::JoinSet::new();
        for job in jobs {
            let empty_is_fine = empty_is_fine || job.found();
            tasks.spawn_local(one(job, settings.clone(), empty_is_fine, Rc::clone(&shown)));
        }
        let mut failures = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => failures.push(failure),
                Err(panic) => {
                    tracing::error!("a restore ended unexpectedly: {panic}");
                    failures.push(Failure { kind: FailureKind::Internal, told: String::new() });
                }
            }
        }
        jobs::code(failures.iter().map(|failure| failure.kind), empty_is_fine)
    })
}

async fn one(
    job: Job,
    settings: RestoreSettings,
    empty_is_fine: bool,
    shown: Rc<(Live, Paces)>,
) -> Result<(), Failure> {
    let (live, paces) = &*shown;
    let out = job.out().to_owned();
    if let Err(failure) = jobs::refuse_existing(&job) {
        tracing::error!("{}", failure.told);
        return Err(failure);
    }
    let Running { name, mut work, progress } = connect::start(job, settings);
    let place = paces.join();
    let mut tick = tokio::time::interval(if live.is_seen() { REDRAW } else { TELL_EVERY });
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended,
            _ = tick.tick() => {
                let pace = progress();
                if live.is_seen() {
                    live.show(paces.set(place, pace));
                } else {
                    tracing::info!(replica = name, bytes = pace.done, of = pace.total, "{}: {}", out.display(), pace.text());
                }
            }
        }
    };
    paces.set(place, progress());
    match ended {
        Ok(summary) => {
            tracing::info!(replica = name, "restored {}: {summary}", out.display());
            Ok(())
        }
        Err(failure) => {
            let told = &failure.told;
            match failure.kind {
                FailureKind::Empty if empty_is_fine => {
                    tracing::info!(replica = name, "{} is not restored: {told}", out.display());
                    return Ok(());
                }
                _ => tracing::error!(replica = name, "{} is not restored: {told}", out.display()),
            }
            Err(failure)
        }
    }
}

//! The call into `restore`, and its errors as this command's.

use super::Running;
use super::jobs::{Failure, FailureKind, Job};
use crate::model::TxidRange;
use crate::replica::Target;
use crate::restore::{Owners, Progress, RestoreSettings, RestoredTo, restore_in_place, restore_to};
use crate::run::owners::owners;
use crate::store;
use std::path::PathBuf;
use std::rc::Rc;

pub fn start(job: Job, settings: RestoreSettings) -> Running {
    let name = job.replica().url.clone();
    let counted = Rc::new(Progress::default());
    let shown = Rc::clone(&counted);
    let work = Box::pin(async move { one(job, &settings, &counted).await });
    Running { name, work, progress: Box::new(move || shown.pace()) }
}

async fn one(job: Job, settings: &RestoreSettings, progress: &Progress) -> Result<String, Failure> {
    let Wanted { out, owners, target, force } = wanted(&job)?;
    let store = store::open(job.replica())?;
    let restored = match &job {
        Job::InPlace { database, .. } => {
            restore_in_place(&database.path, &*store, target, settings, &owners, force, progress).await?
        }
        Job::To { .. } => restore_to(&out, &*store, target, settings, &owners, force, progress).await?,
    };
    Ok(told(&restored))
}

struct Wanted {
    out: PathBuf,
    owners: Owners,
    target: Target,
    force: bool,
}

fn wanted(job: &Job) -> Result<Wanted, Failure> {
    match job {
        Job::To { out, target, force, .. } => {
            Ok(Wanted { out: out.clone(), owners: Owners::default(), target: *target, force: *force })
        }
        Job::InPlace { database, user, target, force, .. } => {
            let owners = owners(database, user.as_deref())
                .map_err(|error| Failure { kind: FailureKind::Local, told: error.to_string() })?;
            let out = database.path.as_path().to_owned();
            Ok(Wanted { out, owners, target: *target, force: *force })
        }
    }
}

/// What is there now, in one line.
pub fn told(restored: &RestoredTo) -> String {
    let RestoredTo { txid, generation, time, coarse, bytes, files } = restored;
    let position = match generation {
        Some(generation) => format!("generation {generation} of a Litestream 0.3 replica"),
        None => format!("TXID {txid}"),
    };
    let coarse = coarse.map(|range| format!("; {}", hidden(range))).unwrap_or_default();
    format!("{position}, committed at {time}, {bytes} bytes in {files} files{coarse}")
}

/// Why it may be older than what was asked for.
pub fn hidden(range: TxidRange) -> String {
    format!(
        "more may have been committed by then, but it is merged with later changes in {range}: finer files are no longer \
         there"
    )
}

//! The call into `restore`, and its errors as this command's.

use super::Running;
use super::jobs::{Failure, FailureKind, Job};
use crate::model::Txid;
use crate::replica::Target;
use crate::restore::{Owners, Progress, RestoreError, RestoreErrorKind, RestoreSettings, restore_to};
use crate::run::owners::owners;
use crate::store::{self, StoreErrorKind};
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
    let store = store::open(job.replica()).map_err(|error| Failure {
        kind: if error.kind == StoreErrorKind::Invalid { FailureKind::Local } else { FailureKind::Unavailable },
        told: error.to_string(),
    })?;
    let restored = restore_to(&out, &*store, target, settings, &owners, force, progress).await.map_err(failure)?;
    Ok(format!("TXID {}, {} bytes in {} files", restored.txid, restored.bytes, restored.files))
}

struct Wanted {
    out: PathBuf,
    owners: Owners,
    target: Target,
    force: bool,
}

fn wanted(job: &Job) -> Result<Wanted, Failure> {
    let target = |txid: Option<Txid>| txid.map_or(Target::Latest, Target::Txid);
    match job {
        Job::To { out, txid, force, .. } => {
            Ok(Wanted { out: out.clone(), owners: Owners::default(), target: target(*txid), force: *force })
        }
        Job::InPlace { database, user, txid, force, .. } => {
            let owners = owners(database, user.as_deref())
                .map_err(|error| Failure { kind: FailureKind::Local, told: error.to_string() })?;
            let out = database.path.as_path().to_owned();
            Ok(Wanted { out, owners, target: target(*txid), force: *force })
        }
    }
}

fn failure(error: RestoreError) -> Failure {
    let kind = match error.kind() {
        RestoreErrorKind::Damaged => FailureKind::Damaged,
        RestoreErrorKind::Unavailable => FailureKind::Unavailable,
        RestoreErrorKind::Local => FailureKind::Local,
        RestoreErrorKind::NothingThere if matches!(error, RestoreError::NothingThere { .. }) => FailureKind::Empty,
        RestoreErrorKind::NothingThere => FailureKind::Damaged,
    };
    Failure { kind, told: error.to_string() }
}

//! Runs one restore job.

use super::jobs::Job;
use crate::commands::error::{CommandError, ErrorKind};
use crate::restore::{Owners, Progress, RestoreSettings, RestoredTo, restore_in_place, restore_to};
use crate::run::owners::owners;
use crate::store;

pub async fn restore(
    job: &Job,
    settings: &RestoreSettings,
    progress: &Progress,
) -> Result<RestoredTo, CommandError> {
    match job {
        Job::InPlace { database, user, target, force, .. } => {
            let owners = owners(database, user.as_deref());
            let owners = owners.map_err(|error| CommandError::new(ErrorKind::Local, error))?;
            let store = store::open(job.replica())?;
            Ok(restore_in_place(&database.path, &*store, *target, settings, &owners, *force, progress)
                .await?)
        }
        Job::To { out, target, force, .. } => {
            let store = store::open(job.replica())?;
            Ok(restore_to(out, &*store, *target, settings, &Owners::default(), *force, progress).await?)
        }
    }
}

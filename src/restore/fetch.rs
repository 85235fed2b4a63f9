//! From a listing to a verified staged file: plan, read with several requests at once, assemble, verify.

use super::assemble::Assembly;
use super::error::RestoreError;
use super::owner;
use super::progress::Progress;
use super::settings::Owners;
use super::source::{Source, SourceError};
use super::verify::{VerifiedDb, verify};
use crate::model::DbPath;
use crate::replica::{Listing, Plan, PlanError, Target, plan};

/// What was fetched, beside the file itself.
pub struct Fetched {
    pub verified: VerifiedDb,
    pub bytes: u64,
    pub files: usize,
}

/// Brings the state that is asked for into the staged file, with the owner and mode of the database to be.
pub async fn fetch(
    db: &DbPath,
    source: &Source<'_>,
    listing: &Listing,
    target: Target,
    owners: &Owners,
    progress: &Progress,
) -> Result<Fetched, SourceError> {
    let plan = plan(&listing.files, target).map_err(|source_error| explain(source.url(), source_error))?;
    let bytes = plan.files.iter().map(|file| file.size).sum();
    progress.begin(bytes);
    tracing::info!(%db, replica = source.url(), txid = %plan.end, files = plan.files.len(), bytes, "restoring");
    owner::create_directories(db, owners)?;
    let assembly = read(db, source, &plan).await?;
    let verified = verify(assembly.finish()?, source.url(), plan.end)?;
    owner::prepare_staged(db, owners)?;
    Ok(Fetched { verified, bytes, files: plan.files.len() })
}

async fn read(db: &DbPath, source: &Source<'_>, plan: &Plan) -> Result<Assembly, SourceError> {
    let mut assembly = Assembly::create(db, source.url(), plan)?;
    source.stream(&plan.files, |arrived| assembly.feed(arrived.file, &arrived.bytes, arrived.last)).await?;
    Ok(assembly)
}

fn explain(replica: &str, source: PlanError) -> RestoreError {
    let replica = replica.to_owned();
    match source {
        PlanError::Unreachable { .. } => RestoreError::NoSuchState { replica, source },
        PlanError::NoStart { .. } | PlanError::Gap { .. } => RestoreError::Incomplete { replica, source },
    }
}

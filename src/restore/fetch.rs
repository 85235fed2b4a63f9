//! From a listing to a verified staged file: plan, read with several requests at once, assemble, verify.

use super::assemble::Assembly;
use super::choose::Choice;
use super::progress::Progress;
use super::settings::Owners;
use super::source::{Source, SourceError};
use super::verify::{VerifiedDb, verify};
use super::{owner, v3};
use crate::model::DbPath;
use crate::replica::Plan;

/// What was fetched, beside the file itself.
pub struct Fetched {
    pub verified: VerifiedDb,
    pub bytes: u64,
    pub files: usize,
}

/// Brings the chosen state into the staged file, with the owner and mode of the database to be.
pub async fn fetch(
    db: &DbPath,
    source: &Source<'_>,
    choice: &Choice,
    owners: &Owners,
    progress: &Progress,
) -> Result<Fetched, SourceError> {
    let (bytes, replica) = (choice.bytes(), source.url());
    progress.begin(bytes);
    match choice {
        Choice::Ltx { plan, .. } => {
            let files = plan.files.len();
            tracing::info!(%db, replica, txid = %plan.end, files, bytes, "restoring");
            owner::create_directories(db, owners)?;
            let assembly = read(db, source, plan).await?;
            let verified = verify(assembly.finish()?, replica, plan.end)?;
            owner::prepare_staged(db, owners)?;
            Ok(Fetched { verified, bytes, files })
        }
        Choice::Old { plan, passed_over } => {
            for why in passed_over {
                tracing::warn!(%db, replica, "going back to an older generation of the Litestream 0.3 replica: {why}");
            }
            let (generation, files) = (plan.generation, plan.files().count());
            tracing::info!(%db, replica, %generation, files, bytes, "restoring from Litestream 0.3's format");
            let verified = v3::fetch(db, source, plan, owners).await?;
            Ok(Fetched { verified, bytes, files })
        }
    }
}

async fn read(db: &DbPath, source: &Source<'_>, plan: &Plan) -> Result<Assembly, SourceError> {
    let mut assembly = Assembly::create(db, source.url(), plan)?;
    source.stream(&plan.files, |arrived| assembly.feed(arrived.file, &arrived.bytes, arrived.last)).await?;
    Ok(assembly)
}

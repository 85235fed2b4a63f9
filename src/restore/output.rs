//! `litevisor restore`: a state of the replica into a file of the user's choice, under the same install rule.

use super::error::{Refusal, RestoreError};
use super::fetch::fetch;
use super::install::{install, observe, recover};
use super::progress::Progress;
use super::settings::{Owners, RestoreSettings};
use super::source::{Source, SourceError};
use super::start::{BETWEEN_LOOKS, LOOKS, forget_state};
use crate::model::{DbPath, Txid};
use crate::replica::{Replica, Target};
use crate::store::Store;
use std::path::Path;

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredTo {
    pub txid: Txid,
    pub bytes: u64,
    pub files: usize,
}

/// Restores to `out`. A file of at least one byte there is replaced only with `force`; side files without a database are
/// removed, and those of a replaced one go with it. On failure, and when the future is dropped and `recover` called,
/// what was there is there.
pub async fn restore_to(
    out: &Path,
    store: &dyn Store,
    target: Target,
    settings: &RestoreSettings,
    owners: &Owners,
    force: bool,
    progress: &Progress,
) -> Result<RestoredTo, RestoreError> {
    let db = DbPath::new(out);
    recover(&db)?;
    if observe(&db)?.live && !force {
        let problem = "exists already; choose another output, or replace it with --force";
        return Err(RestoreError::InTheWay { path: out.to_owned(), problem });
    }
    let source = Source::new(store, settings, progress);
    for _ in 0..LOOKS {
        match look_and_restore(&db, &source, target, owners, progress).await {
            Ok(restored) => return Ok(restored),
            Err(SourceError::Failed(error)) => {
                recover(&db)?;
                return Err(error);
            }
            Err(SourceError::Vanished) => tokio::time::sleep(BETWEEN_LOOKS).await,
        }
    }
    recover(&db)?;
    Err(RestoreError::Vanishing { replica: store.url().to_owned() })
}

async fn look_and_restore(
    db: &DbPath,
    source: &Source<'_>,
    target: Target,
    owners: &Owners,
    progress: &Progress,
) -> Result<RestoredTo, SourceError> {
    let listing = source.listing_for(target).await?;
    let replica = || source.url().to_owned();
    match (listing.replica(), target) {
        (Replica::Empty, _) => return Err(RestoreError::NothingThere { replica: replica() }.into()),
        // TXIDs are the newer format's: whoever names one means that.
        (Replica::OldFormat, Target::Latest) => {
            return Err(RestoreError::Refused { replica: replica(), refusal: Refusal::OldFormat }.into());
        }
        (Replica::OldFormat, Target::Txid(_)) | (Replica::Ends(_), _) => {}
    }
    let fetched = fetch(db, source, &listing, target, owners, progress).await?;
    let restored = RestoredTo { txid: fetched.verified.txid, bytes: fetched.bytes, files: fetched.files };
    // Whatever state was recorded is not that of the new file.
    forget_state(db);
    install(fetched.verified)?;
    Ok(restored)
}

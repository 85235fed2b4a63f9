//! `litevisor restore`: a state of the replica into a file of the user's choice, under the same install rule.

use super::choose::{Choice, choose};
use super::error::RestoreError;
use super::fetch::{Fetched, fetch};
use super::install::{install, observe, recover};
use super::progress::Progress;
use super::settings::{Others, Owners, RestoreSettings};
use super::source::{Source, SourceError};
use super::start::{BETWEEN_LOOKS, LOOKS, forget_state};
use super::verify::Origin;
use crate::ltx::v3::Generation;
use crate::model::{DbPath, Moment, Txid, TxidRange};
use crate::replica::Target;
use crate::store::Store;
use std::path::Path;

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredTo {
    /// `Txid::NONE` when it comes from a Litestream 0.3 replica.
    pub txid: Txid,
    pub generation: Option<Generation>,
    /// When that state was committed.
    pub time: Moment,
    /// More may have been committed by the moment that was asked for: this file holds it together with later things.
    pub coarse: Option<TxidRange>,
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
    recover(&db, Others::None)?;
    if observe(&db)?.live && !force {
        let problem = "exists already; choose another output, or replace it with --force";
        return Err(RestoreError::InTheWay { path: out.to_owned(), problem });
    }
    let source = Source::new(store, settings, progress);
    for _ in 0..LOOKS {
        match look_and_restore(&db, &source, target, owners, progress).await {
            Ok(restored) => return Ok(restored),
            Err(SourceError::Failed(error)) => {
                recover(&db, Others::None)?;
                return Err(error);
            }
            Err(SourceError::Vanished) => tokio::time::sleep(BETWEEN_LOOKS).await,
        }
    }
    recover(&db, Others::None)?;
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
    let choice = choose(source, &listing, target).await?;
    let fetched = fetch(db, source, &listing, target, &choice, owners, progress).await?;
    let restored = told(&choice, &fetched);
    // Whatever state was recorded is not that of the new file.
    forget_state(db);
    install(fetched.verified, Others::None)?;
    Ok(restored)
}

fn told(choice: &Choice, fetched: &Fetched) -> RestoredTo {
    let (bytes, files) = (fetched.bytes, fetched.files);
    match (choice, &fetched.verified.origin) {
        (Choice::Ltx { time: asked, coarse, .. }, Origin::Ltx { txid, time, .. }) => RestoredTo {
            txid: *txid,
            generation: None,
            time: asked.unwrap_or(*time),
            coarse: coarse.as_ref().map(|file| file.range),
            bytes,
            files,
        },
        (_, Origin::Ltx { txid, time, .. }) => {
            RestoredTo { txid: *txid, generation: None, time: *time, coarse: None, bytes, files }
        }
        (_, Origin::Old(last)) => RestoredTo {
            txid: Txid::NONE,
            generation: Some(last.name.generation),
            time: Moment(last.modified_ms),
            coarse: None,
            bytes,
            files,
        },
    }
}

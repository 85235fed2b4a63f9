//! `litevisor restore`: restores a state of the replica to a file that the user chooses, under the same
//! install rule.

use super::error::RestoreError;
use super::fetch::{Fetched, fetch};
use super::inspect::tip;
use super::install::{install, observe, recover, refuse_open_file};
use super::keeper::Previous;
use super::plan::{Choice, choose};
use super::progress::Progress;
use super::settings::{Owners, RestoreSettings};
use super::source::{ATTEMPTS, BETWEEN_ATTEMPTS, Source, SourceError};
use super::start::{forget_state, record_restored};
use super::verify::RestoredState;
use crate::lineage::rollback::{Head, RollbackMarker};
use crate::lineage::setup_mark;
use crate::lineage::{self, FileAccess, LocalState, file_times, state_file};
use crate::model::{DbPath, Moment, Txid, TxidRange};
use crate::replica::{Listing, Replica, Target, Tip};
use crate::store::Store;
use crate::v3::Generation;
use std::path::Path;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredTo {
    /// `Txid::NONE` when it comes from a Litestream 0.3 replica.
    pub txid: Txid,
    pub generation: Option<Generation>,
    /// When that state was committed.
    pub time: Moment,
    /// More may have been committed by the moment that was asked for: this file holds it together with later
    /// things.
    pub coarse: Option<TxidRange>,
    pub bytes: u64,
    pub files: usize,
    /// Keys of damaged files: other files led to the same position.
    pub avoided: Vec<String>,
}

/// Where the restored file is going to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// As a file of its own.
    Apart,
    /// As the database that this replica is of: the next run goes on from it.
    InPlace,
    /// As a copy that follows the replica, whatever is there. What is replaced is dropped, or kept beside it.
    Copy(Previous),
}

/// Restores to `out`. A file of at least one byte there is replaced only with `force`; side files without a
/// database are removed, and those of a replaced one go with it. On failure, and when the future is dropped
/// and `recover` called, what was there is there.
pub async fn restore_to(
    out: &Path,
    store: &dyn Store,
    target: Target,
    settings: &RestoreSettings,
    owners: &Owners,
    force: bool,
    progress: &Progress,
) -> Result<RestoredTo, RestoreError> {
    restore(&DbPath::new(out), store, (target, Use::Apart), settings, owners, force, progress).await
}

/// The same, to the path of the replica's own database. The next run continues from the restored state, also
/// from an older one: the record says that it was restored on purpose.
pub async fn restore_in_place(
    db: &DbPath,
    store: &dyn Store,
    target: Target,
    settings: &RestoreSettings,
    owners: &Owners,
    force: bool,
    progress: &Progress,
) -> Result<RestoredTo, RestoreError> {
    restore(db, store, (target, Use::InPlace), settings, owners, force, progress).await
}

/// The newest state, as a copy that is going to follow the replica. Also replaces a file that processes have
/// open: they read the old one until they open it again. `keep`: the file that is there may hold what is
/// nowhere else.
pub async fn restore_copy(
    db: &DbPath,
    store: &dyn Store,
    settings: &RestoreSettings,
    owners: &Owners,
    keep: bool,
    progress: &Progress,
) -> Result<RestoredTo, RestoreError> {
    let purpose = Use::Copy(if keep { Previous::Keep } else { Previous::Drop });
    restore(db, store, (Target::Latest, purpose), settings, owners, true, progress).await
}

async fn restore(
    db: &DbPath,
    store: &dyn Store,
    wanted: (Target, Use),
    settings: &RestoreSettings,
    owners: &Owners,
    force: bool,
    progress: &Progress,
) -> Result<RestoredTo, RestoreError> {
    recover(db, FileAccess::Exclusive)?;
    if observe(db)?.live && !force {
        let problem = "exists already; choose another output, or replace it with --force";
        return Err(RestoreError::InTheWay { path: db.as_path().to_owned(), problem });
    }
    let source = Source::new(store, settings, progress);
    for _ in 0..ATTEMPTS {
        match plan_and_restore(db, &source, wanted, owners).await {
            Ok(restored) => return Ok(restored),
            Err(SourceError::Failed(error)) => {
                recover(db, FileAccess::Exclusive)?;
                return Err(error);
            }
            Err(SourceError::Vanished) => tokio::time::sleep(BETWEEN_ATTEMPTS).await,
        }
    }
    recover(db, FileAccess::Exclusive)?;
    Err(RestoreError::Vanishing { replica: store.url().to_owned() })
}

async fn plan_and_restore(
    db: &DbPath,
    source: &Source<'_>,
    (target, purpose): (Target, Use),
    owners: &Owners,
) -> Result<RestoredTo, SourceError> {
    let listing = source.listing_for(target).await?;
    let choice = choose(source, &listing, target).await?;
    let fetched = fetch(db, source, &listing, target, &choice, owners).await?;
    let newest = match (purpose, target, &choice) {
        (Use::Apart | Use::Copy(_), ..) | (Use::InPlace, Target::Latest, Choice::Ltx { .. }) => None,
        (Use::InPlace, ..) => tip(source, &listing).await?,
    };
    let restored = restored_to(&choice, &fetched);
    let state = fetched.verified.state.clone();
    let page_size = fetched.verified.page_size;
    let previous = match purpose {
        Use::Copy(previous) => previous,
        Use::Apart | Use::InPlace => {
            refuse_open_file(db)?;
            Previous::Drop
        }
    };
    // The record is not about the new file.
    forget_state(db);
    install(fetched.verified, FileAccess::Exclusive, previous)?;
    forget_setup(db);
    match purpose {
        Use::Apart => {}
        Use::Copy(_) => record_restored(db, source.url(), page_size, &state, None),
        // The next run need not restore it again.
        Use::InPlace if target == Target::Latest || is_newest(&state, &listing, newest.as_ref()) => {
            record_restored(db, source.url(), page_size, &state, newest.as_ref());
        }
        Use::InPlace => record_rollback(db, source.url(), &listing, newest.as_ref(), &restored),
    }
    Ok(restored)
}

/// The state that a setup without success has left is replaced on purpose.
fn forget_setup(db: &DbPath) {
    if let Err(error) = setup_mark::remove(std::slice::from_ref(db)) {
        tracing::error!(%db, "the next start brings the replica's newest state back in place of this one: \
            {error}");
    }
}

fn is_newest(state: &RestoredState, listing: &Listing, newest: Option<&Tip>) -> bool {
    match (state, listing.replica()) {
        (RestoredState::Ltx { txid, .. }, Replica::Ends(_)) => {
            newest.is_some_and(|newest| newest.txid == *txid)
        }
        (RestoredState::V3(last), Replica::V3) => {
            Head::of_v3(listing) == Some(Head::V3 { key: last.key.clone() })
        }
        _ => false,
    }
}

/// Records that an older state was restored on purpose. Without this record the next run restores the newest
/// state.
fn record_rollback(
    db: &DbPath,
    replica: &str,
    listing: &Listing,
    newest: Option<&Tip>,
    restored: &RestoredTo,
) {
    let head = match (listing.replica(), newest) {
        (Replica::Ends(_), Some(newest)) => Some(Head::of(newest)),
        _ => Head::of_v3(listing),
    };
    let Some(head) = head else { return };
    let marker = RollbackMarker::new(head, restored.txid, restored.time, file_times(db));
    let origin = lineage::Origin::RolledBack(marker);
    match state_file::store(db, &LocalState::without_position(replica, state_file::new_node_id(), origin)) {
        Ok(()) => tracing::warn!(
            %db, replica,
            "the next run goes on from this older state: it uploads it as the replica's next position. \
             Nothing in the replica is deleted; `litevisor restore --force` without a target brings the \
             newest state back"
        ),
        Err(error) => tracing::error!(
            %db, replica, "the next run will bring the replica's newest state back instead of going on from \
                this one: {error}"
        ),
    }
}

fn restored_to(choice: &Choice, fetched: &Fetched) -> RestoredTo {
    let (txid, generation, time) = match &fetched.verified.state {
        RestoredState::Ltx { txid, time, .. } => (*txid, None, *time),
        RestoredState::V3(last) => (Txid::NONE, Some(last.name.generation), Moment(last.modified_ms)),
    };
    let (asked, coarse) = match (choice, generation) {
        (Choice::Ltx { time, coarse, .. }, None) => (*time, coarse.as_ref().map(|file| file.range)),
        _ => (None, None),
    };
    let Fetched { bytes, files, .. } = *fetched;
    RestoredTo {
        txid,
        generation,
        time: asked.unwrap_or(time),
        coarse,
        bytes,
        files,
        avoided: fetched.avoided.clone(),
    }
}

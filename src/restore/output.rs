//! `litevisor restore`: a state of the replica into a file of the user's choice, under the same install rule.

use super::choose::{Choice, choose};
use super::error::RestoreError;
use super::fetch::{Fetched, fetch};
use super::install::{install, observe, recover};
use super::progress::Progress;
use super::settings::{Others, Owners, RestoreSettings};
use super::source::{Source, SourceError};
use super::start::{BETWEEN_LOOKS, LOOKS, forget_state, record_origin};
use super::survey::tip;
use super::verify::Origin;
use super::wish::{self, Head};
use crate::ltx::v3::Generation;
use crate::model::{DbPath, Moment, Txid, TxidRange};
use crate::replica::{Listing, Replica, Target, Tip};
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

/// Where the restored file is going to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// As a file of its own.
    Apart,
    /// As the database that this replica is of: the next run goes on from it.
    InPlace,
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
    restore(&DbPath::new(out), store, (target, Use::Apart), settings, owners, force, progress).await
}

/// The same, to the place where the replica's database belongs. The next run goes on from what was restored, an older
/// state included: that is then the wish of whoever asked for it.
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

async fn restore(
    db: &DbPath,
    store: &dyn Store,
    wanted: (Target, Use),
    settings: &RestoreSettings,
    owners: &Owners,
    force: bool,
    progress: &Progress,
) -> Result<RestoredTo, RestoreError> {
    recover(db, Others::None)?;
    if observe(db)?.live && !force {
        let problem = "exists already; choose another output, or replace it with --force";
        return Err(RestoreError::InTheWay { path: db.as_path().to_owned(), problem });
    }
    let source = Source::new(store, settings, progress);
    for _ in 0..LOOKS {
        match look_and_restore(db, &source, wanted, owners, progress).await {
            Ok(restored) => return Ok(restored),
            Err(SourceError::Failed(error)) => {
                recover(db, Others::None)?;
                return Err(error);
            }
            Err(SourceError::Vanished) => tokio::time::sleep(BETWEEN_LOOKS).await,
        }
    }
    recover(db, Others::None)?;
    Err(RestoreError::Vanishing { replica: store.url().to_owned() })
}

async fn look_and_restore(
    db: &DbPath,
    source: &Source<'_>,
    (target, purpose): (Target, Use),
    owners: &Owners,
    progress: &Progress,
) -> Result<RestoredTo, SourceError> {
    let listing = source.listing_for(target).await?;
    let choice = choose(source, &listing, target).await?;
    let fetched = fetch(db, source, &listing, target, &choice, owners, progress).await?;
    let newest = match (purpose, target, &choice) {
        (Use::Apart, ..) | (Use::InPlace, Target::Latest, Choice::Ltx { .. }) => None,
        (Use::InPlace, ..) => tip(source, &listing).await?,
    };
    let restored = told(&choice, &fetched);
    let (origin, page_size) = (fetched.verified.origin.clone(), fetched.verified.page_size);
    // Whatever state was recorded is not that of the new file.
    forget_state(db);
    install(fetched.verified, Others::None)?;
    match purpose {
        Use::Apart => {}
        // The next run need not restore it again.
        Use::InPlace if target == Target::Latest || is_newest(&origin, &listing, newest.as_ref()) => {
            record_origin(db, source.url(), page_size, &origin, newest.as_ref());
        }
        Use::InPlace => mark(db, source.url(), &listing, newest.as_ref(), &restored),
    }
    Ok(restored)
}

fn is_newest(origin: &Origin, listing: &Listing, newest: Option<&Tip>) -> bool {
    match (origin, listing.replica()) {
        (Origin::Ltx { txid, .. }, Replica::Ends(_)) => newest.is_some_and(|newest| newest.txid == *txid),
        (Origin::Old(last), Replica::OldFormat) => Head::of_old(listing) == Some(Head::Old { key: last.key.clone() }),
        _ => false,
    }
}

/// An older state was asked for. Without its mark the next run would bring the newest one back.
fn mark(db: &DbPath, replica: &str, listing: &Listing, newest: Option<&Tip>, restored: &RestoredTo) {
    let head = match (listing.replica(), newest) {
        (Replica::Ends(_), Some(newest)) => Some(Head::of(newest)),
        _ => Head::of_old(listing),
    };
    let Some(head) = head else { return };
    match wish::record(db, replica, head, restored.txid, restored.time) {
        Ok(()) => tracing::warn!(
            %db, replica,
            "the next run goes on from this older state: it uploads it as the replica's next position. Nothing in the \
             replica is deleted; `litevisor restore --force` without a target brings the newest state back"
        ),
        Err(error) => tracing::error!(
            %db, replica, "the next run will bring the replica's newest state back instead of going on from this one: {error}"
        ),
    }
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

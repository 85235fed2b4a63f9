//! What happens to one database before the app may start: finish what a kill has left, look, decide, and do it.

use super::choose::{Choice, choose};
use super::decide::{Decision, Kept, Why, decide};
use super::error::{RestoreError, RestoreErrorKind};
use super::fetch::{Fetched, fetch};
use super::install;
use super::old_origin;
use super::progress::Progress;
use super::settings::{OnRestoreFailure, Others, Owners, RestoreSettings};
use super::source::{Source, SourceError};
use super::survey::{Survey, survey, tip};
use super::verify::Origin;
use super::wish::{self, Head};
use crate::local_state::{self, spill};
use crate::model::lineage::{LocalState, WalPosition};
use crate::model::proof::Restored;
use crate::model::{DbChecksum, DbPath, FileChecksum, Moment, PageSize, Txid};
use crate::replica::{Replica, Target, Tip};
use crate::sqlite;
use crate::store::Store;
use std::time::Duration;

/// Files may be merged or expire while they are read; each time there is a new look. More often than this is no
/// coincidence.
pub(super) const LOOKS: u32 = 5;
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// How a database stands when the app may start.
#[derive(Debug)]
pub enum Outcome {
    /// The local file stays.
    KeptLocal {
        why: Kept,
    },
    Restored {
        txid: Txid,
        bytes: u64,
        files: usize,
    },
    /// There was nothing, here and there.
    StartedEmpty,
    /// There is no file, and none was to be made.
    LeftAbsent,
    /// It could not be restored, and the configuration says to start on what is there all the same. It must not be
    /// replicated: nobody knows what it is.
    Unrestored(RestoreError),
}

/// The proof for the start of the app, against the outcome of every database.
pub fn all_prepared(outcomes: &[Outcome]) -> Restored {
    let restored = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Restored { .. })).count();
    tracing::debug!(databases = outcomes.len(), restored, "the app may start");
    Restored::attest()
}

/// Prepares one database. May be dropped at any moment; `recover` then puts back what was there.
pub async fn prepare(
    db: &DbPath,
    store: &dyn Store,
    settings: &RestoreSettings,
    owners: &Owners,
    policy: OnRestoreFailure,
    progress: &Progress,
) -> Result<Outcome, RestoreError> {
    install::recover(db, settings.others)?;
    if settings.others == Others::MayUseOnce && !install::observe(db)?.live {
        tracing::warn!(%db, "there is no database: it is left out");
        return Ok(Outcome::LeftAbsent);
    }
    let error = match looks(db, store, settings, owners, progress).await {
        Ok(outcome) => return Ok(outcome),
        Err(error) => error,
    };
    install::recover(db, settings.others)?;
    match (policy, error.kind()) {
        (OnRestoreFailure::Abort, _) | (_, RestoreErrorKind::Local) => Err(error),
        (OnRestoreFailure::Start, _) => {
            tracing::error!(%db, "starting WITHOUT a restore and WITHOUT replication, as configured: {error}");
            Ok(Outcome::Unrestored(error))
        }
    }
}

async fn looks(
    db: &DbPath,
    store: &dyn Store,
    settings: &RestoreSettings,
    owners: &Owners,
    progress: &Progress,
) -> Result<Outcome, RestoreError> {
    let source = Source::new(store, settings, progress);
    for _ in 0..LOOKS {
        match look_and_act(db, &source, settings.others, owners, progress).await {
            Ok(outcome) => return Ok(outcome),
            Err(SourceError::Failed(error)) => return Err(error),
            Err(SourceError::Vanished) => {
                tracing::info!(replica = source.url(), "files have changed while they were read: looking again");
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        }
    }
    Err(RestoreError::Vanishing { replica: store.url().to_owned() })
}

async fn look_and_act(
    db: &DbPath,
    source: &Source<'_>,
    others: Others,
    owners: &Owners,
    progress: &Progress,
) -> Result<Outcome, SourceError> {
    let survey = survey(db, source).await?;
    match decide(&survey.local, survey.replica, others) {
        Decision::StartEmpty => {
            forget_state(db);
            tracing::info!(%db, replica = source.url(), "starting empty: there is no file and no replica");
            Ok(Outcome::StartedEmpty)
        }
        Decision::KeepLocal(why) => {
            // On top of older LTX files it needs a record, if only Litestream 0.3 has replicated it yet.
            let beneath = match why {
                Kept::Wished => {
                    let tip = tip(source, &survey.listing).await?;
                    tell_wish(db, source.url(), &survey, tip.as_ref());
                    tip
                }
                Kept::FromOldFormat if !old_origin::proves(db, source.url(), &survey.listing) => {
                    tip(source, &survey.listing).await?
                }
                _ => None,
            };
            if let Some(tip) = beneath {
                let (page_size, checksum) = (tip.first.header.page_size, tip.first.checksum);
                record_state(db, &state(source.url(), page_size, tip.txid, checksum, None));
            }
            Ok(keep(db, source.url(), why, survey)?)
        }
        Decision::Refuse(refusal) => Err(RestoreError::Refused { replica: source.url().to_owned(), refusal }.into()),
        Decision::Restore(why) => {
            match why {
                Why::NoLocalFile => {}
                Why::Instead(doubt) => tracing::warn!(
                    %db, replica = source.url(),
                    "replacing the local file by the replica's state, because it does not provably continue it: {doubt}"
                ),
            }
            if others != Others::None {
                install::refuse_any_file(db)?;
            }
            let choice = choose(source, &survey.listing, Target::Latest).await?;
            // What the new state goes on top of, when it comes from the older format.
            let beneath = match choice {
                Choice::Old { .. } => tip(source, &survey.listing).await?,
                Choice::Ltx { .. } => None,
            };
            let fetched = fetch(db, source, &survey.listing, Target::Latest, &choice, owners, progress).await?;
            Ok(put_in_place(db, source.url(), fetched, beneath, others)?)
        }
    }
}

/// Nothing else ever makes an older state the newest one: whoever reads the log must not miss it.
fn tell_wish(db: &DbPath, replica: &str, survey: &Survey, tip: Option<&Tip>) {
    let head = tip.map(Head::of).filter(|_| survey.replica != Replica::OldFormat);
    let found = head.or_else(|| Head::of_old(&survey.listing)).and_then(|head| wish::look(db, replica, &head));
    let state = found.map(|(wish, _)| wish.told()).unwrap_or_default();
    let after = tip.map(|tip| format!(", on top of TXID {}", tip.txid)).unwrap_or_default();
    tracing::warn!(
        %db, replica,
        "keeping the local file: it was restored to an older state ON PURPOSE ({state}). The whole of it becomes the \
         replica's next position{after}; everything before it stays restorable"
    );
}

fn keep(db: &DbPath, replica: &str, why: Kept, survey: Survey) -> Result<Outcome, RestoreError> {
    // What can never be replicated is told now, not when the disk is gone.
    sqlite::check(db).map_err(|source| RestoreError::Unusable { source })?;
    match why {
        Kept::ReplicaEmpty => tracing::info!(%db, replica, "keeping the local file: the replica is empty"),
        Kept::ByState => tracing::info!(%db, replica, "keeping the local file: it continues the replica"),
        Kept::ByWal => {
            tracing::info!(%db, replica, "keeping the local file: its WAL continues the replica");
        }
        Kept::FromOldFormat => {
            tracing::info!(%db, replica, "keeping the local file: it continues Litestream 0.3's newest data");
        }
        // Told with what it is on top of.
        Kept::Wished => {}
        Kept::Ahead => {
            tracing::warn!(%db, replica, "keeping the local file: the replica has lost its newest files");
        }
    }
    if let Some(state) = &survey.adopted {
        record_state(db, state);
    }
    Ok(Outcome::KeptLocal { why })
}

fn put_in_place(
    db: &DbPath,
    replica: &str,
    fetched: Fetched,
    beneath: Option<Tip>,
    others: Others,
) -> Result<Outcome, RestoreError> {
    let Fetched { verified, bytes, files } = fetched;
    let (origin, page_size) = (verified.origin.clone(), verified.page_size);
    // The order matters: the old state never stands beside the new file, nor the new state beside the old one.
    forget_state(db);
    install::install(verified, others)?;
    record_origin(db, replica, page_size, &origin, beneath.as_ref());
    match origin {
        Origin::Ltx { txid, time, .. } => {
            tracing::info!(%db, replica, %txid, of = %time, bytes, files, "restored");
            Ok(Outcome::Restored { txid, bytes, files })
        }
        Origin::Old(last) => {
            let (generation, of) = (last.name.generation, Moment(last.modified_ms));
            tracing::info!(%db, replica, %generation, %of, bytes, files, "restored from Litestream 0.3's format");
            Ok(Outcome::Restored { txid: Txid::NONE, bytes, files })
        }
    }
}

/// Beside the replica's newest state, which is in place now: where replication goes on from. `beneath`: the newest LTX
/// position, if the state comes from the older format.
pub(super) fn record_origin(db: &DbPath, replica: &str, page_size: PageSize, origin: &Origin, beneath: Option<&Tip>) {
    match origin {
        Origin::Ltx { txid, tip, db_checksum, .. } => {
            record_state(db, &state(replica, page_size, *txid, *tip, Some(*db_checksum)));
        }
        Origin::Old(last) => {
            // On top of LTX files that are older: known by their newest one, with another database than theirs, so that
            // the whole of it becomes their next position.
            if let Some(tip) = beneath {
                record_state(db, &state(replica, page_size, tip.txid, tip.first.checksum, None));
            }
            if let Err(error) = old_origin::record(db, replica, last) {
                tracing::warn!(%db, %error, "a restart before the first upload will restore instead of going on");
            }
        }
    }
}

/// The record of a file that holds what the replica holds, and is at no place in a WAL.
fn state(
    replica: &str,
    page_size: PageSize,
    txid: Txid,
    tip: FileChecksum,
    db_checksum: Option<DbChecksum>,
) -> LocalState {
    LocalState {
        replica: replica.to_owned(),
        node_id: local_state::new_node_id(),
        acked: txid,
        sent: txid,
        tip_checksum: Some(tip),
        page_size,
        wal: WalPosition::default(),
        wal_sent: WalPosition::default(),
        db_checksum,
        file: None,
        spilled: None,
    }
}

/// A record that cannot be written counts in this run all the same; the next start on this disk has to find another
/// proof, or restores.
fn record_state(db: &DbPath, state: &LocalState) {
    if let Err(error) = local_state::store(db, state) {
        tracing::warn!(%db, %error, "a restart on this disk will restore instead of going on");
    }
}

/// Segments that wait for the replica belong to the file that goes.
pub(super) fn forget_state(db: &DbPath) {
    match spill::set_aside(db) {
        Ok(None) => {}
        Ok(Some(path)) => tracing::error!(
            %db, "commits of the file that was here had not reached the replica; their LTX files are kept in {}",
            path.display()
        ),
        Err(error) => tracing::error!(%db, "{error}"),
    }
    if let Err(error) = local_state::remove(db) {
        tracing::warn!(%db, "{error}");
    }
    if let Err(error) = old_origin::remove(db) {
        tracing::warn!(%db, "cannot remove the mark of a restore from Litestream 0.3's format: {error}");
    }
    if let Err(error) = wish::remove(db) {
        tracing::warn!(%db, "{error}");
    }
}

//! Prepares one database before the app starts: finish an interrupted restore, inspect, decide, and keep or
//! restore.

use super::error::{RestoreError, RestoreErrorKind};
use super::fetch::{Fetched, fetch};
use super::inspect::{Inspection, inspect, tip};
use super::install;
use super::keeper::Previous;
use super::owner;
use super::plan::{Choice, choose};
use super::progress::Progress;
use super::scratch;
use super::settings::{OnRestoreFailure, Owners, RestoreSettings};
use super::source::{ATTEMPTS, BETWEEN_ATTEMPTS, Source, SourceError};
use super::verify::RestoredState;
use crate::lineage::v3_marker::V3Marker;
use crate::lineage::{
    Decision, Evidence, FileAccess, FileTimes, Kept, LocalState, Origin, Why, decide, file_times, relate,
    state_file,
};
use crate::local_state::place::meta_dir;
use crate::local_state::spill;
use crate::model::proof::Restored;
use crate::model::{DbPath, Moment, PageSize, Txid};
use crate::replica::{Listing, Target, Tip};
use crate::rights;
use crate::sqlite;
use crate::store::Store;

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
    /// No local file and no replica: the app starts with an empty database.
    StartedEmpty,
    /// There is no local file, and none is restored or created (`create_missing`).
    LeftAbsent,
    /// The restore failed, and the configuration says to start on the local file all the same. It must not be
    /// replicated: its content is unknown.
    Unrestored(RestoreError),
}

/// The proof that the app may start, given the outcome of every database.
pub fn all_prepared(outcomes: &[Outcome]) -> Restored {
    let restored = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Restored { .. })).count();
    tracing::debug!(databases = outcomes.len(), restored, "the app may start");
    Restored::attest()
}

/// Prepares one database. May be dropped at any moment; `recover` then restores the previous files.
pub async fn prepare(
    db: &DbPath,
    store: &dyn Store,
    settings: &RestoreSettings,
    owners: &Owners,
    policy: OnRestoreFailure,
    progress: &Progress,
) -> Result<Outcome, RestoreError> {
    install::recover(db, settings.access)?;
    scratch::sweep(&meta_dir(db).unwrap_or_else(|| db.directory().to_owned()));
    if let Some(why) = rights::lacking(db) {
        tracing::warn!(%db, "{why}");
    }
    if !settings.create_missing && !install::observe(db)?.live {
        tracing::warn!(%db, "no local database: left out");
        return Ok(Outcome::LeftAbsent);
    }
    let error = match attempt(db, store, settings, owners, progress).await {
        Ok(outcome) => return Ok(outcome),
        Err(error) => error,
    };
    install::recover(db, settings.access)?;
    match (policy, error.kind()) {
        (OnRestoreFailure::Abort, _) | (_, RestoreErrorKind::Local) => Err(error),
        (OnRestoreFailure::Start, _) => {
            tracing::error!(%db, "starting WITHOUT a restore and WITHOUT replication, as configured: \
                {error}");
            Ok(Outcome::Unrestored(error))
        }
    }
}

async fn attempt(
    db: &DbPath,
    store: &dyn Store,
    settings: &RestoreSettings,
    owners: &Owners,
    progress: &Progress,
) -> Result<Outcome, RestoreError> {
    let source = Source::new(store, settings, progress);
    for _ in 0..ATTEMPTS {
        match inspect_and_act(db, &source, owners).await {
            Ok(outcome) => return Ok(outcome),
            Err(SourceError::Failed(error)) => return Err(error),
            Err(SourceError::Vanished) => {
                tracing::info!(
                    replica = source.url(),
                    "files changed while they were read: inspecting again"
                );
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
        }
    }
    Err(RestoreError::Vanishing { replica: store.url().to_owned() })
}

async fn inspect_and_act(db: &DbPath, source: &Source<'_>, owners: &Owners) -> Result<Outcome, SourceError> {
    let access = source.access();
    let Inspection { listing, evidence } = inspect(db, source).await?;
    if let Some(file) = listing.exhausted() {
        return Err(
            RestoreError::Exhausted { replica: source.url().to_owned(), file: file.key.clone() }.into()
        );
    }
    match decide(&relate(&evidence), evidence.replica, access) {
        Decision::StartEmpty => {
            forget_state(db);
            // The app's user may not be able to make its directory.
            if access == FileAccess::Exclusive && owners.is_named() {
                owner::create_directories(db, owners)?;
            }
            tracing::info!(%db, replica = source.url(), "starting empty: no local database and no replica");
            Ok(Outcome::StartedEmpty)
        }
        Decision::StartOver(doubt) => {
            tracing::warn!(%db, replica = source.url(), "starting empty again, as before: {doubt}");
            forget_state(db);
            install::discard(db)?;
            Ok(Outcome::StartedEmpty)
        }
        Decision::KeepLocal(why) => {
            // The file becomes the next position after the replica's LTX files, if there are any: the record
            // says so.
            let beneath = match why {
                Kept::RolledBack => {
                    let tip = tip(source, &listing).await?;
                    log_rollback(db, source.url(), &evidence, tip.as_ref());
                    tip
                }
                Kept::FromV3 if !evidence.v3_marker => tip(source, &listing).await?,
                _ => None,
            };
            if let Some(tip) = beneath {
                let record = evidence.record.as_ref().filter(|_| why == Kept::RolledBack);
                let origin = record.map_or(Origin::Continued, |record| record.origin.clone());
                record_state(db, &on_top_of(db, &tip, source.url(), origin));
            }
            Ok(keep(db, source.url(), why, &evidence)?)
        }
        Decision::Refuse(refusal) => {
            Err(RestoreError::Refused { replica: source.url().to_owned(), refusal }.into())
        }
        Decision::Restore(why) => {
            match why {
                Why::NoLocalFile => {}
                Why::Instead(doubt) => tracing::warn!(
                    %db, replica = source.url(),
                    "replacing the local file by the replica's state, because it does not provably continue \
                     it: {doubt}"
                ),
            }
            restore_newest(db, source, &listing, owners).await
        }
    }
}

async fn restore_newest(
    db: &DbPath,
    source: &Source<'_>,
    listing: &Listing,
    owners: &Owners,
) -> Result<Outcome, SourceError> {
    let access = source.access();
    match access {
        FileAccess::Exclusive => install::refuse_open_file(db)?,
        FileAccess::Shared => install::refuse_any_file(db)?,
    }
    let choice = choose(source, listing, Target::Latest).await?;
    // The newest LTX position, if the restored state is Litestream 0.3's: the next position follows it.
    let beneath = match choice {
        Choice::V3 { .. } => tip(source, listing).await?,
        Choice::Ltx { .. } => None,
    };
    let fetched = fetch(db, source, listing, Target::Latest, &choice, owners).await?;
    Ok(put_in_place(db, source.url(), fetched, beneath, access)?)
}

/// A warning, as this is the only way in which an older state becomes the newest one.
fn log_rollback(db: &DbPath, replica: &str, evidence: &Evidence, tip: Option<&Tip>) {
    let state = match evidence.record.as_ref().map(|record| &record.origin) {
        Some(Origin::RolledBack(marker)) => marker.describe(),
        _ => String::new(),
    };
    let after = tip.map(|tip| format!(", on top of TXID {}", tip.txid)).unwrap_or_default();
    tracing::warn!(
        %db, replica,
        "keeping the local file: it was restored to an older state ON PURPOSE ({state}). The whole of it \
         becomes the replica's next position{after}; everything before it stays restorable"
    );
}

fn keep(db: &DbPath, replica: &str, why: Kept, evidence: &Evidence) -> Result<Outcome, RestoreError> {
    // A database that cannot be replicated is reported now, and not when the disk is gone.
    sqlite::check(db).map_err(|source| RestoreError::Unusable { source })?;
    match why {
        Kept::ReplicaEmpty => tracing::info!(%db, replica, "keeping the local file: the replica is empty"),
        Kept::ByRecord => tracing::info!(%db, replica, "keeping the local file: it continues the replica"),
        Kept::ByWal => {
            tracing::info!(%db, replica, "keeping the local file: its WAL continues the replica");
        }
        Kept::FromV3 => {
            tracing::info!(%db, replica, "keeping the local file: it continues Litestream 0.3's newest data");
        }
        // Logged by `log_rollback`.
        Kept::RolledBack => {}
        Kept::Ahead => {
            tracing::warn!(%db, replica, "keeping the local file: the replica has lost its newest files");
        }
    }
    let record = match why {
        Kept::ByWal => evidence.wal_holds_tip.clone(),
        Kept::ByRecord | Kept::Ahead => evidence.record_of_copy(),
        _ => None,
    };
    if let Some(state) = record {
        record_state(db, &state);
    }
    Ok(Outcome::KeptLocal { why })
}

fn put_in_place(
    db: &DbPath,
    replica: &str,
    fetched: Fetched,
    beneath: Option<Tip>,
    access: FileAccess,
) -> Result<Outcome, RestoreError> {
    let Fetched { verified, bytes, files, .. } = fetched;
    let state = verified.state.clone();
    let page_size = verified.page_size;
    install::refuse_open_file(db)?;
    // The order matters: the old state never stands beside the new file, nor the new state beside the old
    // one.
    forget_state(db);
    install::install(verified, access, Previous::Keep)?;
    record_restored(db, replica, page_size, &state, beneath.as_ref());
    match state {
        RestoredState::Ltx { txid, time, .. } => {
            tracing::info!(%db, replica, %txid, of = %time, bytes, files, "restored");
            Ok(Outcome::Restored { txid, bytes, files })
        }
        RestoredState::V3(last) => {
            let generation = last.name.generation;
            let of = Moment(last.modified_ms);
            tracing::info!(%db, replica, %generation, %of, bytes, files, "restored from Litestream 0.3's \
                format");
            Ok(Outcome::Restored { txid: Txid::NONE, bytes, files })
        }
    }
}

/// Records the replica's newest state, which is in place now. `beneath`: the newest LTX position, if the
/// state comes from Litestream 0.3's format: the whole database becomes the next position after it.
pub(super) fn record_restored(
    db: &DbPath,
    replica: &str,
    page_size: PageSize,
    restored: &RestoredState,
    beneath: Option<&Tip>,
) {
    let none = |origin| LocalState::without_position(replica, state_file::new_node_id(), origin);
    let state = match restored {
        RestoredState::Ltx { txid, tip, db_checksum, app_locks_exclusively, .. } => LocalState {
            acked: *txid,
            sent: *txid,
            tip_checksum: Some(*tip),
            page_size,
            db_checksum: Some(*db_checksum),
            app_locks_exclusively: *app_locks_exclusively,
            file: complete(db),
            ..none(Origin::Restored)
        },
        RestoredState::V3(last) => {
            let origin = Origin::V3(V3Marker::new(last, file_times(db)));
            beneath.map_or_else(|| none(origin.clone()), |tip| on_top_of(db, tip, replica, origin.clone()))
        }
    };
    record_state(db, &state);
}

/// The record of a file that has another content than the replica's newest position, and becomes the next
/// one: known by the newest file, without a checksum of the database, and at no place in a WAL.
fn on_top_of(db: &DbPath, tip: &Tip, replica: &str, origin: Origin) -> LocalState {
    LocalState {
        acked: tip.txid,
        sent: tip.txid,
        tip_checksum: Some(tip.first.checksum),
        page_size: tip.first.header.page_size,
        file: complete(db),
        ..LocalState::without_position(replica, state_file::new_node_id(), origin)
    }
}

/// A later file in its place is known by its creation. The file needs no WAL.
fn complete(db: &DbPath) -> Option<FileTimes> {
    file_times(db).map(|file| FileTimes { modified_ns: 0, ..file })
}

/// A record that cannot be written is valid in this run all the same; the next start on this disk has to find
/// another proof, or restores.
fn record_state(db: &DbPath, state: &LocalState) {
    if let Err(error) = state_file::store(db, state) {
        tracing::warn!(%db, %error, "a restart on this disk will restore instead of going on");
    }
}

/// Removes the record of a file that is about to be replaced. Its segments that were not uploaded are kept.
pub(super) fn forget_state(db: &DbPath) {
    match spill::set_aside(db) {
        Ok(None) => {}
        Ok(Some(path)) => tracing::error!(
            %db, "commits of the replaced file had not reached the replica; their LTX files are kept in {}",
            path.display()
        ),
        Err(error) => tracing::error!(%db, "{error}"),
    }
    if let Err(error) = state_file::remove(db) {
        tracing::warn!(%db, "{error}");
    }
}

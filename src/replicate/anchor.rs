//! Finds where replication of a local file goes on: asks the replica for its newest file, the local record and the WAL,
//! and has `replica::descent` and `resume` decide. Runs at the start and after every break of the chain. Uploads nothing.

use super::capture::{Capture, CaptureError, Draft};
use super::resume::{self, Local, Resume};
use super::upload;
use crate::local_state::{self, spill};
use crate::model::lineage::{LocalState, SpillEnd};
use crate::model::{DbChecksum, DbPath, Deadline, FileChecksum, Txid};
use crate::replica::tip::{self as replica_tip, Reading};
use crate::replica::{Descent, Listing, RemoteFile, Spilled, Tip, descent, spilled};
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::wal::{Cursor, Salts};

/// Where a session begins.
pub struct Anchor {
    pub capture: Capture,
    pub node_id: u64,
    /// Everything up to here is in the replica.
    pub uploaded: Txid,
    /// Where in the WAL that ends, and the database's checksum there; None where it is not known.
    pub uploaded_at: Option<Cursor>,
    pub uploaded_checksum: Option<DbChecksum>,
    /// The replica's newest file, which another run wrote: by this the record knows it.
    pub tip_checksum: Option<FileChecksum>,
    pub last_timestamp_ms: i64,
    /// What waits in the spill directory, to be uploaded before all else, and where it ends.
    pub spilled: Vec<Spilled>,
    pub spill_end: Option<SpillEnd>,
    pub first: First,
    /// The newest position has no file on level 0 yet: Litestream would start over at TXID 1.
    pub needs_level_0: bool,
}

/// What has to be uploaded before segments from the WAL.
pub enum First {
    Nothing,
    /// The replica is empty: snapshot 1-1.
    Snapshot(Draft),
    /// An image of the whole database as the next segment; with a new snapshot when the page size changed.
    Image {
        draft: Draft,
        new_page_size: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Another writer's history: this file may not be put on top of it.
    #[error("{0}")]
    Foreign(String),
}

/// Every LTX file of the replica, and its newest position; None when it holds no LTX file.
pub async fn look(store: &dyn Store, by: Deadline) -> Result<(Vec<RemoteFile>, Option<Tip>), StoreError> {
    let layout = store.layout();
    let files = Listing::of(layout, &store.list(layout.all_levels(), by).await?).files;
    let get =
        |key: String, range| -> Reading<'_, StoreError> { Box::pin(async move { store.get(&key, range, by).await }) };
    let newest = replica_tip::newest(files.iter().cloned());
    let tip = replica_tip::read(newest, get).await?.map_err(|broken| StoreError {
        kind: StoreErrorKind::Invalid,
        operation: "read",
        subject: format!("{}/{}", store.url(), broken.key),
        detail: broken.problem.to_string(),
    })?;
    Ok((files, tip))
}

/// Blocks (disk only).
pub fn anchor(
    db: &DbPath,
    replica: &str,
    node_id: u64,
    mut capture: Capture,
    tip: Option<Tip>,
) -> Result<Anchor, AnchorError> {
    let state = local_state::load(db).unwrap_or_else(|error| {
        tracing::warn!(%db, %error, "the record of the local file cannot be used");
        None
    });
    let mut uploaded_at = None;
    let mut uploaded_checksum = None;
    let mut waiting = Vec::new();
    let mut spill_end = None;
    let descended = tip.as_ref().map(|tip| (descent(state.as_ref(), replica, tip), tip));
    let first = match descended {
        None => {
            set_aside(db, "the replica is empty, and a snapshot of the database begins it anew");
            First::Snapshot(capture.image()?)
        }
        Some((Descent::Unproven(doubt), _)) => return Err(AnchorError::Foreign(doubt.to_string())),
        Some((Descent::Forked { acked }, tip)) => {
            let by = upload::writer(&tip.first.header, node_id);
            let why = format!("its newest file, TXID {}, was written by {by}; ours went up to {acked}", tip.txid);
            return Err(AnchorError::Foreign(why));
        }
        Some((Descent::Ahead { .. }, tip)) => {
            set_aside(db, "the replica lost what comes before it");
            image(db, &mut capture, tip, "the replica lost files that had been uploaded")?
        }
        Some((Descent::Ours { sent }, tip)) => {
            let recorded = state.as_ref().filter(|_| !sent);
            uploaded_checksum = recorded.and_then(|state| state.db_checksum).or(tip.db_checksum());
            waiting = spilled_after(db, state.as_ref(), tip);
            spill_end = state.as_ref().and_then(|state| state.spilled).filter(|_| !waiting.is_empty());
            let place = match spill_end {
                Some(end) => resume::place(end.wal),
                None => state.as_ref().and_then(|state| resume::wal_end(state, tip, sent)),
            };
            let expected = spill_end.map(|end| end.db_checksum).or(uploaded_checksum);
            match ours(&capture, tip, place, expected)? {
                Resume::Image(why) => image(db, &mut capture, tip, why)?,
                Resume::From(cursor) => {
                    capture.rewind(cursor);
                    uploaded_at = Some(cursor).filter(|_| waiting.is_empty());
                    First::Nothing
                }
                Resume::Same => {
                    uploaded_at = capture.cursor().filter(|_| waiting.is_empty());
                    First::Nothing
                }
            }
        }
    };
    forget_litestream(db);
    Ok(Anchor {
        capture,
        node_id,
        uploaded: tip.as_ref().map_or(Txid::NONE, |tip| tip.txid),
        uploaded_at,
        uploaded_checksum,
        tip_checksum: tip.as_ref().map(|tip| tip.first.checksum),
        last_timestamp_ms: newest_ms(&waiting, tip.as_ref()),
        spilled: waiting,
        spill_end,
        first,
        needs_level_0: tip.is_none_or(|tip| tip.raw().is_none()),
    })
}

fn newest_ms(waiting: &[Spilled], tip: Option<&Tip>) -> i64 {
    let waiting = waiting.last().map(|file| file.header.timestamp_ms);
    waiting.max(tip.map(|tip| tip.first.header.timestamp_ms)).unwrap_or(0)
}

fn ours(
    capture: &Capture,
    tip: &Tip,
    place: Option<(Salts, u64)>,
    expected: Option<DbChecksum>,
) -> Result<Resume, AnchorError> {
    let found = match place {
        Some((salts, end)) => capture.on_chain(salts, end)?,
        None => None,
    };
    // No place in this WAL: the file was restored, or the app started the WAL over, since the hold was taken.
    let found = match (found, expected) {
        (None, Some(expected)) if expected != capture.db_checksum() => capture.beginning_after(expected)?,
        _ => found,
    };
    let (page_size, db_checksum, end) = (capture.page_size(), capture.db_checksum(), capture.cursor());
    Ok(resume::resume(&Local { page_size, db_checksum, end, found }, tip, expected))
}

/// What the spill directory holds for the replica. What does not provably continue it is set aside: the local database,
/// which does, has it all.
fn spilled_after(db: &DbPath, state: Option<&LocalState>, tip: &Tip) -> Vec<Spilled> {
    match spilled::read(db).and_then(|files| spilled::continues(state, tip, files)) {
        Ok(waiting) => {
            for path in &waiting.needless {
                if let Err(error) = spill::remove(path) {
                    tracing::warn!(%db, "{error}");
                }
            }
            if !waiting.upload.is_empty() {
                tracing::info!(%db, files = waiting.upload.len(), "segments that waited on this disk are uploaded");
            }
            waiting.upload
        }
        Err(why) => {
            set_aside(db, &why.to_string());
            Vec::new()
        }
    }
}

fn set_aside(db: &DbPath, why: &str) {
    match spill::set_aside(db) {
        Ok(None) => {}
        Ok(Some(path)) => {
            let path = path.display();
            tracing::error!(%db, "segments that waited on this disk cannot be uploaded one by one, the database is: {why}; kept in {path}");
        }
        Err(error) => tracing::error!(%db, "{error}"),
    }
}

fn image(db: &DbPath, capture: &mut Capture, tip: &Tip, why: &str) -> Result<First, AnchorError> {
    tracing::warn!(%db, after = %tip.txid, "the whole database is uploaded: {why}");
    let new_page_size = capture.page_size() != tip.first.header.page_size;
    Ok(First::Image { draft: capture.image()?, new_page_size })
}

/// Litestream's local copies of segments would be merged into a later compaction of its own, over what we write.
fn forget_litestream(db: &DbPath) {
    let segments = db.litestream_dir().join("ltx");
    if segments.is_dir() {
        match std::fs::remove_dir_all(&segments) {
            Ok(()) => tracing::info!(%db, "removed Litestream's local segments; the replica has them"),
            Err(error) => tracing::warn!(%db, %error, "cannot remove {}", segments.display()),
        }
    }
}

//! Finds where replication of a local file continues: reads the replica's newest files, the record and the
//! WAL, and has `lineage::decide` and `lineage::resume` decide. Runs at the start and after every break of
//! the chain. Uploads nothing.

use super::capture::{Capture, CaptureError, Draft};
use super::upload;
use crate::lineage::decide::{Begin, decide_session};
use crate::lineage::resume::{self, LocalDb, Resume};
use crate::lineage::{LocalState, SpillEnd, Spilled, evidence, spilled};
use crate::local_state::{litestream, spill};
use crate::model::{DbChecksum, DbPath, Deadline, FileChecksum, Txid};
use crate::replica::tip::{self as replica_tip, Reading};
use crate::replica::{Listing, RemoteFile, Tip};
use crate::store::{Store, StoreClock, StoreError, StoreErrorKind};
use crate::wal::{Cursor, Salts};
use std::sync::Arc;

/// Where a session begins.
pub struct ResumePoint {
    pub capture: Capture,
    pub node_id: u64,
    /// Everything up to here is in the replica.
    pub uploaded: Txid,
    /// Where in the WAL that position ends, and the database's checksum there; None: not known.
    pub uploaded_at: Option<Cursor>,
    pub uploaded_checksum: Option<DbChecksum>,
    /// Of the replica's newest file, which another run wrote: the record identifies the file by it.
    pub tip_checksum: Option<FileChecksum>,
    pub last_timestamp_ms: i64,
    /// The store's, where it tells the time.
    pub clock: Option<Arc<StoreClock>>,
    /// The files of the spill directory, to be uploaded first, and where they end.
    pub spilled: Vec<Spilled>,
    pub spill_end: Option<SpillEnd>,
    pub first: First,
    /// The newest position has no file on level 0 yet: Litestream would start over at TXID 1.
    pub needs_level_0: bool,
    /// For the files that will be written.
    pub app_locks_exclusively: bool,
}

/// What has to be uploaded before segments from the WAL.
pub enum First {
    Nothing,
    /// The replica is empty: snapshot 1-1.
    Snapshot(Draft),
    /// The whole database as the next segment.
    FullSnapshot(Draft),
}

#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The replica has another writer's history; this file must not be uploaded on top of it.
    #[error("{0}")]
    Foreign(String),
}

/// Every LTX file of the replica, and its newest position; None when it holds no LTX file.
pub async fn read_replica(
    store: &dyn Store,
    by: Deadline,
) -> Result<(Vec<RemoteFile>, Option<Tip>), StoreError> {
    let layout = store.layout();
    let files = Listing::of(layout, &store.list(layout.all_levels(), by).await?).files;
    let get = |key: String, range| -> Reading<'_, StoreError> {
        Box::pin(async move { store.get(&key, range, by).await })
    };
    let newest = replica_tip::newest(files.iter().cloned());
    let tip = replica_tip::read(newest, get).await?.map_err(|broken| {
        let subject = format!("{}/{}", store.url(), broken.key);
        StoreError::new(StoreErrorKind::Invalid, "read", subject, broken.problem.to_string())
    })?;
    Ok((files, tip))
}

/// Blocks (disk only). `replaced`: another file took the place of the one that was replicated.
pub fn find(
    db: &DbPath,
    replica: &str,
    node_id: u64,
    mut capture: Capture,
    tip: Option<Tip>,
    replaced: bool,
) -> Result<ResumePoint, ResumeError> {
    let found = evidence::of_file(db, true).with_tip(replica, tip);
    let state = found.record.as_ref();
    let tip = found.tip.as_ref();
    let mut uploaded_at = None;
    let mut uploaded_checksum = None;
    let mut waiting = Vec::new();
    let mut spill_end = None;
    let first = match (decide_session(&found), tip) {
        (Begin::New, _) | (_, None) => {
            set_aside(db, "the replica is empty, and a snapshot of the database begins it anew");
            First::Snapshot(capture.full_snapshot()?)
        }
        (Begin::Refused(why), Some(tip)) => return Err(foreign(tip, node_id, &why.to_string())),
        (Begin::Ahead, Some(tip)) => {
            set_aside(db, "the replica lost what comes before it");
            full_snapshot(db, &mut capture, tip, "the replica lost files that had been uploaded")?
        }
        (Begin::Continue { sent }, Some(tip)) => {
            let recorded = state.filter(|_| !sent);
            uploaded_checksum = recorded.and_then(|state| state.db_checksum).or(tip.db_checksum());
            waiting = spilled_after(db, state, tip);
            spill_end = state.and_then(|state| state.spilled).filter(|_| !waiting.is_empty());
            let place = match spill_end {
                Some(end) => resume::wal_place(end.wal),
                None => state.and_then(|state| resume::wal_end(state, tip, sent)),
            };
            let expected = spill_end.map(|end| end.db_checksum).or(uploaded_checksum);
            let resumed = ours(&capture, tip, place, expected)?;
            let resumed = if replaced { resume::of_another(resumed) } else { resumed };
            match resumed {
                Resume::FullSnapshot(why) => full_snapshot(db, &mut capture, tip, why)?,
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
    Ok(ResumePoint {
        capture,
        node_id,
        uploaded: tip.map_or(Txid::NONE, |tip| tip.txid),
        uploaded_at,
        uploaded_checksum,
        tip_checksum: tip.map(|tip| tip.first.checksum),
        last_timestamp_ms: newest_ms(&waiting, tip),
        clock: None,
        spilled: waiting,
        spill_end,
        first,
        needs_level_0: tip.is_none_or(|tip| tip.raw().is_none()),
        app_locks_exclusively: false,
    })
}

/// Names the writer of the replica's newest file, and when it wrote it.
fn foreign(tip: &Tip, node_id: u64, detail: &str) -> ResumeError {
    let by = upload::describe_writer(&tip.first.header, node_id);
    ResumeError::Foreign(format!("its newest file, TXID {}, was written by {by}; {detail}", tip.txid))
}

/// A replica that leaves no number for the next segment.
pub fn refuse_exhausted(tip: Option<&Tip>) -> Result<(), ResumeError> {
    let Some(tip) = tip.filter(|tip| tip.txid > Txid::LAST_TO_GO_ON_FROM) else { return Ok(()) };
    let key = &tip.first.key;
    Err(ResumeError::Foreign(format!(
        "{key} leaves no TXID for what follows it: begin a new replica under another path"
    )))
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
) -> Result<Resume, ResumeError> {
    let found = match place {
        Some((salts, end)) => capture.on_chain(salts, end)?,
        None => None,
    };
    // The place is not in this WAL: the file was restored, or the app restarted the WAL before the hold was
    // taken.
    let found = match (found, expected) {
        (None, Some(expected)) if expected != capture.db_checksum() => capture.beginning_after(expected)?,
        _ => found,
    };
    let page_size = capture.page_size();
    let db_checksum = capture.db_checksum();
    let end = capture.cursor();
    Ok(resume::resume(&LocalDb { page_size, db_checksum, end, found }, tip, expected))
}

/// The files of the spill directory that continue the replica. Files that do not provably continue it are set
/// aside: the local database, which continues it, has all of their content.
fn spilled_after(db: &DbPath, state: Option<&LocalState>, tip: &Tip) -> Vec<Spilled> {
    match spilled::read(db).and_then(|files| spilled::continues(state, tip, files)) {
        Ok(waiting) => {
            for path in &waiting.needless {
                if let Err(error) = spill::remove(path) {
                    tracing::warn!(%db, "{error}");
                }
            }
            if !waiting.upload.is_empty() {
                tracing::info!(%db, files = waiting.upload.len(), "uploading the segments of the spill \
                    directory");
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
            tracing::error!(%db, "the segments of the spill directory cannot be uploaded ({why}): the whole \
                database is uploaded; they are kept in {path}");
        }
        Err(error) => tracing::error!(%db, "{error}"),
    }
}

fn full_snapshot(db: &DbPath, capture: &mut Capture, tip: &Tip, why: &str) -> Result<First, ResumeError> {
    tracing::warn!(%db, after = %tip.txid, "the whole database is uploaded: {why}");
    Ok(First::FullSnapshot(capture.full_snapshot()?))
}

/// Litestream's local copies of segments would be merged into a later compaction of its own, over what we
/// write.
fn forget_litestream(db: &DbPath) {
    match litestream::forget(db) {
        Ok(true) => tracing::info!(%db, "removed Litestream's local segments; the replica has them"),
        Ok(false) => {}
        Err(error) => {
            let segments = db.litestream_dir().join("ltx");
            tracing::warn!(%db, %error, "cannot remove all of {}", segments.display());
        }
    }
}

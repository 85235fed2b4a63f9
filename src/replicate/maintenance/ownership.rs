//! Whether the replica is still this writer's: asked before maintenance does anything after a quiet time
//! (`check`), and by an upload after one (`put_next`). The inventory does not show another writer, who may
//! have taken the replica over or begun it anew, and may rely on what would be merged or deleted. Two small
//! requests tell it; a listing is rarely needed.

use super::inventory::Inventory;
use super::retention::Deletion;
use crate::ltx::{HEADER_BYTES, Header};
use crate::model::{Deadline, Txid, TxidRange};
use crate::replica::Listing;
use crate::replicate::ReplicateSettings;
use crate::replicate::upload::{self, Segment, Stored, UploadError};
use crate::store::layout::Level;
use crate::store::{Store, StoreError, StoreErrorKind};
use std::time::{Duration, Instant};

/// One request.
const REQUEST: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The replica ends where we say.
    Ours,
    /// There is a position behind ours: ours on its way, or another writer's.
    Continued(Txid),
    /// Our newest file is gone, others are there: another history.
    Replaced(Txid),
    /// Nothing is there at all.
    Emptied,
}

/// For this long after our last upload no other writer can have the replica without our next upload noticing
/// it: a writer that continues from our position creates the raw file that we would create, and keeps it for
/// the retention's time.
pub fn sure(settings: &ReplicateSettings) -> Duration {
    const LONGEST: Duration = Duration::from_secs(60);
    settings.retention.map_or(LONGEST, |retention| LONGEST.min(retention.raw / 2))
}

/// Whether the newest raw file, which we know, is still there. No writer removes it before there is a newer
/// one.
async fn still_ends_at(store: &dyn Store, end: Txid, by: Deadline) -> Result<bool, StoreError> {
    there(store, Level::RAW, TxidRange::single(end), by).await
}

/// Puts the segment that continues the replica. None: another writer has continued it from the same position.
///
/// After a quiet time the name of the next file may be free again although another writer has used it, merged
/// the file and deleted it. The file before it, `unsure`, is gone then, too. A process that is frozen after
/// that question creates its file all the same: a put that `begun` longer than `sure` ago is checked again,
/// and its file is removed if the replica has a later position.
pub async fn put_next(
    store: &dyn Store,
    segment: &Segment,
    unsure: Option<Txid>,
    begun: Instant,
    sure: Duration,
) -> Result<Option<Stored>, UploadError> {
    if let Some(end) = unsure
        && !still_ends_at(store, end, Deadline::after(REQUEST)).await?
    {
        return Ok(None);
    }
    let stored = upload::put(store, segment).await?;
    if !matches!(stored, Stored::Yes(_)) || begun.elapsed() <= sure {
        return Ok(Some(stored));
    }
    let layout = store.layout();
    let range = segment.header.range;
    let listed = Listing::of(layout, &store.list(layout.all_levels(), Deadline::after(REQUEST)).await?);
    if listed.files.iter().all(|file| file.range.max <= range.max) {
        return Ok(Some(stored));
    }
    store.delete(&[layout.key(segment.level, range)], Deadline::after(REQUEST)).await?;
    Ok(None)
}

/// A writer that continues from our position creates the raw file behind it, and removes it only after ours:
/// so one of the two questions tells, whenever it is asked.
pub async fn check(store: &dyn Store, inventory: &Inventory, by: Deadline) -> Result<Ownership, StoreError> {
    let end = inventory.end();
    if there(store, Level::RAW, TxidRange::single(end.next()), by).await? {
        return Ok(Ownership::Continued(end.next()));
    }
    // A replica whose newest position has no raw file gets one with the next upload.
    let raw = inventory.newest(Level::RAW).filter(|file| file.range.max == end);
    match raw {
        Some(raw) if !there(store, Level::RAW, raw.range, by).await? => {
            let layout = store.layout();
            let listed = Listing::of(layout, &store.list(layout.all_levels(), by).await?);
            Ok(if listed.files.is_empty() { Ownership::Emptied } else { Ownership::Replaced(end) })
        }
        _ => Ok(Ownership::Ours),
    }
}

/// What makes the deletion of `group` right, if it is not in the replica.
pub async fn missing(
    store: &dyn Store,
    group: &[Deletion],
    by: Deadline,
) -> Result<Option<(Level, TxidRange)>, StoreError> {
    let mut seen = None;
    for replaced in group.iter().map(Deletion::replaced_by) {
        if seen.replace(replaced) == Some(replaced) {
            continue;
        }
        if !there(store, replaced.0, replaced.1, by).await? {
            return Ok(Some(replaced));
        }
    }
    Ok(None)
}

/// Asks for the head: a listing costs ten times as much.
pub async fn there(
    store: &dyn Store,
    level: Level,
    range: TxidRange,
    by: Deadline,
) -> Result<bool, StoreError> {
    let key = store.layout().key(level, range);
    match store.get(&key, Some(0..HEADER_BYTES as u64), by).await {
        Ok(head) => Ok(Header::from_start(&head).is_ok_and(|header| header.range == range)),
        Err(error) if error.kind == StoreErrorKind::NotFound || error.kind.is_unreadable() => Ok(false),
        Err(error) => Err(error),
    }
}

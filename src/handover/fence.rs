//! The fence: the next TXID of a replica, taken by a segment without pages, which changes nothing. From then
//! on every upload of the instance before is refused, whatever it believes: that is how a writer is stopped
//! that does not answer. A reader restores across it; its header says the size and the checksum of the
//! database before it.

use super::record::Position;
use crate::ltx::{Encoder, Header, LtxError};
use crate::model::{Deadline, Moment, Txid, TxidRange};
use crate::replica::listing::Listing;
use crate::replica::tip::{self, Broken, Reading, Tip};
use crate::store::layout::Level;
use crate::store::{Body, Put, Store, StoreError};
use bytes::Bytes;

/// Where the WAL offset of a segment begins that was made from no WAL.
const NO_WAL: i64 = 32;
/// An owner that uploads all the time also sees that it is asked, so it is not overtaken for long.
const TRIES: u32 = 64;

#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot fence {url}: {source}; `litevisor verify` says more")]
    Broken { url: String, source: Broken },
    #[error("cannot fence {url}: {source}")]
    Format { url: String, source: LtxError },
    #[error("cannot fence {url}: its TXIDs are used up")]
    UsedUp { url: String },
    #[error("cannot fence {url}: another instance uploads faster than this one can follow")]
    Overtaken { url: String },
}

/// Takes the next TXID. If a reply is lost, the caller fences again, behind the first fence. None: the
/// replica has no position that anyone could continue from.
pub async fn fence(store: &dyn Store, node_id: u64, by: Deadline) -> Result<Option<Position>, FenceError> {
    let layout = store.layout();
    // The store may repeat a request by itself, and then find its own file.
    let mut tried = None;
    for _ in 0..TRIES {
        let listing = Listing::of(layout, &store.list(layout.all_levels(), by).await?);
        let Some(tip) = read_tip(store, listing, by).await? else { return Ok(None) };
        if tip.txid >= Txid::LAST_TO_GO_ON_FROM {
            return Err(FenceError::UsedUp { url: store.url().to_owned() });
        }
        if tip.raw().is_some_and(|raw| tried.as_ref() == Some(&raw.header)) {
            return Ok(Some(position(&tip.first.header)));
        }
        let header = header(&tip, node_id);
        let bytes =
            encode(&header).map_err(|source| FenceError::Format { url: store.url().to_owned(), source })?;
        let key = layout.key(Level::RAW, header.range);
        if store.put_new(&key, Body::Whole(bytes), header.timestamp_ms, by).await? == Put::Created {
            return Ok(Some(position(&header)));
        }
        tried = Some(header);
    }
    Err(FenceError::Overtaken { url: store.url().to_owned() })
}

async fn read_tip(store: &dyn Store, listing: Listing, by: Deadline) -> Result<Option<Tip>, FenceError> {
    let get = |key: String, range| -> Reading<'_, StoreError> {
        Box::pin(async move { store.get(&key, range, by).await })
    };
    let read = tip::read(tip::newest(listing.files), get).await?;
    read.map_err(|source| FenceError::Broken { url: store.url().to_owned(), source })
}

fn header(tip: &Tip, node_id: u64) -> Header {
    let before = &tip.first.header;
    let timestamp_ms = Moment::now().0.max(before.timestamp_ms.saturating_add(1));
    let range = TxidRange::single(tip.txid.next());
    Header {
        wal_offset: NO_WAL,
        node_id,
        db_checksum: tip.db_checksum(),
        app_locks_exclusively: before.app_locks_exclusively,
        ..Header::new(before.page_size, before.commit, range, timestamp_ms)
    }
}

fn encode(header: &Header) -> Result<Bytes, LtxError> {
    let mut bytes = Vec::new();
    Encoder::start(header, &mut bytes)?.finish(&mut bytes)?;
    Ok(bytes.into())
}

fn position(header: &Header) -> Position {
    Position { txid: header.range.max, checksum: header.db_checksum }
}

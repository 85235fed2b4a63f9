//! One create-only put of one segment, and the question that "exists already" asks: is it ours (a reply was
//! lost), or another writer's? Never overwrites, never retries: that is the task's.

pub mod attempts;
pub mod limits;
pub mod pressure;
mod spill_policy;
pub mod spill_writer;

use super::capture::segment::{Pages, SegmentError, Spool};
use crate::lineage::Spilled;
use crate::local_state::spill;
use crate::ltx::{HEADER_BYTES, Header};
use crate::model::Deadline;
use crate::sqlite::files::read_full;
use crate::store::layout::Level;
use crate::store::{Body, Chunk, Put, Store, StoreError};
use bytes::Bytes;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Up to this many bytes of pages a segment is encoded in memory; above, it is streamed.
pub const WHOLE_BYTES: usize = 16 << 20;
/// The same of a snapshot that is uploaded beside others.
const SMALL_BYTES: usize = 1 << 20;
/// Bytes handed to the store at a time when streaming.
const PIECE_BYTES: usize = 1 << 20;
/// Streams under way at once, of all databases. A producer keeps a thread of the blocking pool while the
/// store takes its time, and the store needs threads of that pool to get on: with all of them producing
/// nothing would move.
static STREAMS: Semaphore = Semaphore::const_new(4);
/// A try may take this long, and longer by what its bytes take on the slowest line that is put up with.
const TRY: Duration = Duration::from_secs(20);
pub const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;

/// A segment with its number: ready to be put, again and again if need be.
#[derive(Clone)]
pub struct Segment {
    pub level: Level,
    pub header: Header,
    pub content: Content,
}

#[derive(Clone)]
pub enum Content {
    Encoded(Bytes),
    /// Shared with the producer: 32 bytes a page, which is 8 MiB for each GiB of a snapshot.
    Pages(Arc<Pages>, Spool),
    /// In the spill directory, encoded.
    Spilled {
        path: PathBuf,
        bytes: u64,
    },
}

impl Content {
    /// Bytes at most.
    pub fn bytes(&self) -> u64 {
        match self {
            Content::Spilled { bytes, .. } => *bytes,
            Content::Encoded(bytes) => bytes.len() as u64,
            Content::Pages(pages, _) => pages.list.len() as u64 * u64::from(pages.files.page_size.get()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the replica. Bytes sent.
    Yes(u64),
    /// An earlier try of this run has arrived after all, with other content: the tip has to be looked at
    /// again.
    Earlier,
    /// Another writer's file has this name.
    Foreign(String),
}

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pages could not be read: the chain has to be looked at again.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

impl Segment {
    pub fn of_spilled(file: Spilled) -> Segment {
        let Spilled { path, bytes, header, .. } = file;
        Segment { level: Level::RAW, header, content: Content::Spilled { path, bytes } }
    }

    /// Blocks (reads pages). Small content is encoded now, so that it no longer needs the WAL.
    pub fn prepare(level: Level, header: Header, pages: Pages) -> Result<Segment, SegmentError> {
        Segment::with_limit(WHOLE_BYTES, level, header, pages)
    }

    /// The same with little memory: what is not small stays in the files until it is sent.
    pub fn of_any_size(level: Level, header: Header, pages: Pages) -> Result<Segment, SegmentError> {
        Segment::with_limit(SMALL_BYTES, level, header, pages)
    }

    fn with_limit(limit: usize, level: Level, header: Header, pages: Pages) -> Result<Segment, SegmentError> {
        let bytes = pages.list.len() * header.page_size.bytes();
        if bytes > limit {
            return Ok(Segment { level, header, content: Content::Pages(Arc::new(pages), Spool::default()) });
        }
        let mut whole = Vec::new();
        pages.encode(&header, usize::MAX, |piece| {
            whole = piece;
            true
        })?;
        Ok(Segment { level, header, content: Content::Encoded(Bytes::from(whole)) })
    }
}

/// Puts the segment under its name, if there is no file of that name. One try, with a deadline of its own.
pub async fn put(store: &dyn Store, segment: &Segment) -> Result<Stored, UploadError> {
    let streamed = !matches!(segment.content, Content::Encoded(_));
    // Held until the producer has ended.
    let _turn = if streamed { STREAMS.acquire().await.ok() } else { None };
    let slowest = Duration::from_secs(segment.content.bytes() / SLOWEST_BYTES_PER_SECOND);
    let by = Deadline::after(TRY + slowest);
    let key = store.layout().key(segment.level, segment.header.range);
    let (body, producer) = match &segment.content {
        Content::Encoded(bytes) => (Body::Whole(bytes.clone()), None),
        Content::Pages(pages, spool) => {
            let (sender, receiver) = mpsc::channel(2);
            let pages = Arc::clone(pages);
            let spool = spool.clone();
            let header = segment.header.clone();
            let producer = tokio::task::spawn_blocking(move || produce(&pages, &spool, &header, &sender));
            (Body::Stream(receiver), Some(producer))
        }
        Content::Spilled { path, .. } => {
            let (sender, receiver) = mpsc::channel(2);
            let path = path.clone();
            let producer = tokio::task::spawn_blocking(move || produce_spilled(&path, &sender));
            (Body::Stream(receiver), Some(producer))
        }
    };
    let put = store.put_new(&key, body, segment.header.timestamp_ms, by).await;
    let sent = match (producer, &segment.content) {
        (Some(producer), _) => match producer.await {
            Ok(Ok(sent)) => sent,
            // The store's own error says more than that it went away.
            Ok(Err(SegmentError::Abandoned)) | Err(_) => 0,
            Ok(Err(error)) => return Err(error.into()),
        },
        (None, Content::Encoded(bytes)) => bytes.len() as u64,
        (None, Content::Pages(..) | Content::Spilled { .. }) => 0,
    };
    match put? {
        Put::Created => Ok(Stored::Yes(sent)),
        Put::Exists => whose(store, &key, &segment.header, by).await,
    }
}

/// Our header holds a node id that is random for each run, the time and the database's checksum: whoever
/// wrote the same one is us. A request that was given up may still be carried out, when its number has been
/// given to something else.
async fn whose(store: &dyn Store, key: &str, ours: &Header, by: Deadline) -> Result<Stored, UploadError> {
    let there = match store.get(key, Some(0..HEADER_BYTES as u64), by).await {
        Err(error) if error.kind.is_unreadable() => {
            return Ok(Stored::Foreign(format!("{key} exists and is not ours: {error}")));
        }
        there => there?,
    };
    match Header::from_start(&there) {
        Ok(header) if header == *ours => Ok(Stored::Yes(0)),
        Ok(header) if header.node_id == ours.node_id => Ok(Stored::Earlier),
        Ok(header) => {
            Ok(Stored::Foreign(format!("{key} was written by {}", describe_writer(&header, ours.node_id))))
        }
        Err(error) => Ok(Stored::Foreign(format!("{key} exists and is not ours: {error}"))),
    }
}

/// Says in words who wrote a file, and when.
pub fn describe_writer(there: &Header, our_node: u64) -> String {
    let who = match there.node_id {
        0 => "Litestream".to_owned(),
        node => format!("another instance (node {node:016x}, this one is {our_node:016x})"),
    };
    format!("{who} at {}", utc(there.timestamp_ms))
}

fn utc(timestamp_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(timestamp_ms);
    time.map_or_else(|_| format!("{timestamp_ms} ms"), |time| format!("{time:.3}"))
}

/// Encodes the pages. When they change on the way, because the WAL had to be let go of, it goes on with the
/// copy that was made before: the same bytes.
pub fn produce(
    pages: &Pages,
    spool: &Spool,
    header: &Header,
    to: &mpsc::Sender<Chunk>,
) -> Result<u64, SegmentError> {
    let mut sent = 0;
    if spool.file().is_none() {
        let encoded = pages.encode(header, PIECE_BYTES, |piece| {
            sent += piece.len() as u64;
            to.blocking_send(Chunk::Data(Bytes::from(piece))).is_ok()
        });
        match encoded {
            Err(error) if matches!(error, SegmentError::Abandoned) || spool.file().is_none() => {
                return Err(error);
            }
            Ok(_) | Err(_) => {}
        }
    }
    if let Some(copy) = spool.file() {
        sent += send_from(copy, sent, to)?;
    }
    to.blocking_send(Chunk::End).map_err(|_| SegmentError::Abandoned)?;
    Ok(sent)
}

/// What the file holds from `offset` on. Nothing, if that is its end.
fn send_from(file: &std::fs::File, mut offset: u64, to: &mpsc::Sender<Chunk>) -> Result<u64, SegmentError> {
    let begin = offset;
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let read =
            read_full(file, offset, &mut piece).map_err(|error| SegmentError::Spool(error.to_string()))?;
        if read == 0 {
            return Ok(offset - begin);
        }
        let chunk = Chunk::Data(Bytes::from(piece).slice(..read));
        to.blocking_send(chunk).map_err(|_| SegmentError::Abandoned)?;
        offset += read as u64;
    }
}

fn produce_spilled(path: &std::path::Path, to: &mpsc::Sender<Chunk>) -> Result<u64, SegmentError> {
    let failed = |error: String| SegmentError::Spilled { path: path.to_owned(), error };
    let mut file = spill::open(path).map_err(|error| failed(error.to_string()))?;
    let mut sent = 0;
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let read = file.read(&mut piece).map_err(|error| failed(error.to_string()))?;
        let chunk = if read == 0 { Chunk::End } else { Chunk::Data(Bytes::from(piece).slice(..read)) };
        to.blocking_send(chunk).map_err(|_| SegmentError::Abandoned)?;
        if read == 0 {
            return Ok(sent);
        }
        sent += read as u64;
    }
}

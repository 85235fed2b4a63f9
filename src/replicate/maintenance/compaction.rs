//! Does one merge: reads the inputs from the replica in bounded pieces, puts the merged file, create-only,
//! while it is being made. Decides nothing; the rules are `ltx::merge`'s. A merge that is dropped leaves
//! nothing behind.

use super::inventory::File;
use super::recent::Recent;
use super::schedule::Job;
use crate::ltx::merge::Step;
use crate::ltx::{HEADER_BYTES, Header, Merge, MergeError};
use crate::model::{Deadline, TxidRange};
use crate::replicate::upload::SLOWEST_BYTES_PER_SECOND;
use crate::store::layout::Level;
use crate::store::{Body, Chunk, Put, Store, StoreError, StoreErrorKind};
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of all inputs that are at hand at once.
const AT_HAND: u64 = 4 << 20;
const LEAST_CHUNK: u64 = 32 << 10;
const MOST_CHUNK: u64 = 1 << 20;
/// Bytes handed to the store at a time. A merged file up to this size is put whole.
const PIECE: usize = 1 << 20;
const TRY: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An input has gone: another program deletes here.
    #[error("{0} is gone")]
    Gone(TxidRange),
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// An input cannot be decrypted.
    #[error("{0} cannot be read: {1}")]
    Unreadable(TxidRange, StoreError),
    /// The merged file's name is taken by something else.
    #[error("{0} exists and is not what its inputs make")]
    Taken(String),
    #[error("internal error: {0}")]
    Panicked(String),
}

impl Failure {
    /// The input that is of no use, if it is one.
    pub fn damaged(&self) -> Option<TxidRange> {
        match self {
            Failure::Merge(error) => error.damaged(),
            Failure::Unreadable(range, _) => Some(*range),
            Failure::Store(_) | Failure::Gone(_) | Failure::Taken(_) | Failure::Panicked(_) => None,
        }
    }
}

/// A merged file in the replica.
pub struct Merged {
    pub level: Level,
    pub range: TxidRange,
    /// 0: it was there already, its size is not known.
    pub size: u64,
    /// All of it, if it is small.
    pub bytes: Option<Bytes>,
}

pub async fn merge(store: &dyn Store, job: &Job, recent: &Recent) -> Result<Merged, Failure> {
    let mut merge = RunningMerge::open(store, job, recent).await?;
    let Step::Head(header) = merge.step().await? else { return Err(MergeError::Nothing.into()) };
    let key = store.layout().key(job.level, header.range);
    let bytes: u64 = merge.inputs.iter().map(|input| input.size).sum();
    let by = Deadline::after(3 * TRY + Duration::from_secs(2 * bytes / SLOWEST_BYTES_PER_SECOND));
    let Step::Piece(first) = merge.step().await? else { return Err(MergeError::Nothing.into()) };
    let (put, size, whole) = match merge.step().await? {
        Step::End(_) => {
            let put = store.put_new(&key, Body::Whole(first.clone()), header.timestamp_ms, by).await?;
            (put, first.len() as u64, Some(first))
        }
        second => {
            let (sender, receiver) = mpsc::channel(2);
            let put = store.put_new(&key, Body::Stream(receiver), header.timestamp_ms, by);
            let (put, sent) = tokio::join!(put, merge.produce(first, second, sender));
            // What the producer says tells more than that it went away; a reader that went away says it
            // itself.
            let sent = sent?;
            (put?, sent, None)
        }
    };
    let level = job.level;
    let range = header.range;
    match put {
        Put::Created => Ok(Merged { level, range, size, bytes: whole }),
        Put::Exists if is_the_same(store, &key, &header).await? => {
            Ok(Merged { level, range, size: 0, bytes: None })
        }
        Put::Exists => Err(Failure::Taken(key)),
    }
}

/// An earlier try of ours, whose reply got lost, or another tool that merged the same.
async fn is_the_same(store: &dyn Store, key: &str, ours: &Header) -> Result<bool, StoreError> {
    let there = match store.get(key, Some(0..HEADER_BYTES as u64), Deadline::after(TRY)).await {
        Err(error) if error.kind.is_unreadable() => return Ok(false),
        there => there?,
    };
    let of = |header: &Header| (header.range, header.page_size, header.commit, header.timestamp_ms);
    Ok(Header::from_start(&there).is_ok_and(|theirs| {
        let another = matches!((theirs.db_checksum, ours.db_checksum), (Some(a), Some(b)) if a != b);
        of(&theirs) == of(ours) && !another
    }))
}

struct RunningMerge<'a> {
    store: &'a dyn Store,
    inputs: Vec<Input>,
    chunk: u64,
    /// Away while it computes.
    merge: Option<Box<Merge>>,
}

struct Input {
    range: TxidRange,
    key: String,
    size: u64,
    /// Read so far.
    at: u64,
}

impl<'a> RunningMerge<'a> {
    async fn open(store: &'a dyn Store, job: &Job, recent: &Recent) -> Result<RunningMerge<'a>, Failure> {
        let ranges: Vec<_> = job.inputs.iter().map(|file| file.range).collect();
        let mut merge = Box::new(Merge::new(&ranges, PIECE)?);
        let mut inputs = Vec::new();
        for (index, file) in job.inputs.iter().enumerate() {
            let key = store.layout().key(file.level, file.range);
            let size = match recent.get(file.level, file.range) {
                Some(bytes) => {
                    merge.feed(index, bytes.clone(), true);
                    bytes.len() as u64
                }
                None => size_of(store, file, &key).await?,
            };
            inputs.push(Input { range: file.range, key, size, at: 0 });
        }
        let chunk = (AT_HAND / inputs.len().max(1) as u64).clamp(LEAST_CHUNK, MOST_CHUNK);
        Ok(RunningMerge { store, inputs, chunk, merge: Some(merge) })
    }

    /// The merge's next step other than a request for more input; computes off the async thread.
    async fn step(&mut self) -> Result<Step, Failure> {
        loop {
            let Some(mut merge) = self.merge.take() else { return Err(MergeError::Nothing.into()) };
            let computed = tokio::task::spawn_blocking(move || {
                let step = merge.step();
                (merge, step)
            });
            let (merge, step) = computed.await.map_err(|error| Failure::Panicked(error.to_string()))?;
            let merge = self.merge.insert(merge);
            match step? {
                Step::Feed(index) => {
                    let Some(input) = self.inputs.get_mut(index) else {
                        return Err(MergeError::Nothing.into());
                    };
                    let bytes = input.read(self.store, self.chunk).await?;
                    merge.feed(index, bytes, input.at >= input.size);
                }
                step => return Ok(step),
            }
        }
    }

    /// Sends the merged file's pieces. Bytes sent.
    async fn produce(&mut self, first: Bytes, second: Step, to: mpsc::Sender<Chunk>) -> Result<u64, Failure> {
        let mut sent = 0;
        let mut step = Step::Piece(first);
        let mut next = Some(second);
        loop {
            let chunk = match step {
                Step::Piece(bytes) => {
                    sent += bytes.len() as u64;
                    Chunk::Data(bytes)
                }
                _ => Chunk::End,
            };
            let over = matches!(chunk, Chunk::End);
            // The store has gone away: its own error says why.
            if to.send(chunk).await.is_err() || over {
                return Ok(sent);
            }
            step = match next.take() {
                Some(step) => step,
                None => self.step().await?,
            };
        }
    }
}

impl Input {
    async fn read(&mut self, store: &dyn Store, chunk: u64) -> Result<Bytes, Failure> {
        let end = self.size.min(self.at.saturating_add(chunk));
        if end <= self.at {
            return Ok(Bytes::new());
        }
        let got = store.get(&self.key, Some(self.at..end), Deadline::after(TRY)).await;
        let bytes = got.map_err(|error| gone(error, self.range))?;
        // Shorter than it was listed: the decoder says what is missing.
        self.at = if bytes.len() as u64 == end - self.at { end } else { self.size };
        Ok(bytes)
    }
}

async fn size_of(store: &dyn Store, file: &File, key: &str) -> Result<u64, Failure> {
    if file.size > 0 {
        return Ok(file.size);
    }
    let found = store.list(key, Deadline::after(TRY)).await?;
    found.iter().find(|object| object.key == key).map(|object| object.size).ok_or(Failure::Gone(file.range))
}

fn gone(error: StoreError, range: TxidRange) -> Failure {
    match error.kind {
        StoreErrorKind::NotFound => Failure::Gone(range),
        kind if kind.is_unreadable() => Failure::Unreadable(range, error),
        _ => Failure::Store(error),
    }
}

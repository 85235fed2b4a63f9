//! One blob made of blocks: sent a few at a time, then named in their order by a conditional commit, which makes the blob
//! appear. In: parts. Out: the blob, or none. What was sent for a commit that never came is no blob; nobody sees it, and
//! Azure drops it after a week. Never: holds more than the parts under way and the one being filled.

use super::service::{Call, Refusal, Service};
use super::{CREATE, IF_NONE_MATCH, METADATA, OCTETS};
use crate::model::Deadline;
use crate::store::parts::Parts;
use crate::store::{Put, StoreError, StoreErrorKind, limit::within, retry};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};

/// Azure's limit.
const MAX_BLOCKS: usize = 50_000;
/// A block that moves slower than this is tried again on a new connection.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
const SHORT_TRY: Duration = Duration::from_secs(30);
/// All blocks that were ever sent for a blob must have names of one length: this is Azure's own tools'.
const NAME_BYTES: usize = 64;

#[derive(Clone)]
pub(super) struct Target {
    pub service: Arc<Service>,
    /// The blob's URL, without a query.
    pub url: String,
    pub subject: String,
}

impl Target {
    pub(super) async fn upload(
        &self,
        first: Bytes,
        source: Parts,
        stamp: String,
        concurrency: usize,
        by: Deadline,
    ) -> Result<Put, StoreError> {
        let upload = random();
        let count = self.send_all(upload, first, source, concurrency, by).await?;
        let list: String = (0..count).map(|number| format!("<Latest>{}</Latest>", name(upload, number))).collect();
        let list = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{list}</BlockList>");
        self.commit(list.into(), stamp, by).await
    }

    /// The next part is cut only when there is room for it; those under way go on while it is made.
    async fn send_all(
        &self,
        upload: [u8; 16],
        first: Bytes,
        mut source: Parts,
        concurrency: usize,
        by: Deadline,
    ) -> Result<usize, StoreError> {
        // Dropped, it ends them all.
        let mut under_way = JoinSet::new();
        // A block cannot be empty; a blob can, of none.
        let mut part = Some(first).filter(|first| !first.is_empty());
        let mut count = 0;
        while let Some(body) = part {
            if count == MAX_BLOCKS {
                return Err(self.invalid("more than 50000 blocks: raise part_size"));
            }
            if under_way.len() >= concurrency
                && let Some(sent) = under_way.join_next().await
            {
                self.sent(sent)?;
            }
            let target = self.clone();
            under_way.spawn(async move { target.send(&name(upload, count), body, by).await });
            count += 1;
            let mut next = std::pin::pin!(source.next());
            part = loop {
                tokio::select! {
                    biased;
                    Some(sent) = under_way.join_next() => self.sent(sent)?,
                    part = &mut next => break part.map_err(|detail| self.invalid(detail))?,
                }
            };
        }
        while let Some(sent) = under_way.join_next().await {
            self.sent(sent)?;
        }
        Ok(count)
    }

    fn sent(&self, sent: Result<Result<(), StoreError>, JoinError>) -> Result<(), StoreError> {
        sent.map_err(|_| self.invalid("sending a block was broken off"))?
    }

    /// A stream cannot be replayed, so a block is repeated for as long as the deadline allows.
    async fn send(&self, name: &str, body: Bytes, by: Deadline) -> Result<(), StoreError> {
        let slowest = Duration::from_secs(body.len() as u64 / SLOWEST_BYTES_PER_SECOND).max(SHORT_TRY);
        let url = format!("{}?comp=block&blockid={}", self.url, super::address::encoded(name));
        let once = |by| {
            let call = Call::put(url.clone(), body.clone());
            within(by, CREATE, &self.subject, async {
                self.service.send(CREATE, call).await.map(drop).map_err(|refusal| self.explain(refusal))
            })
        };
        retry::run(by, slowest, |_, _| {}, once).await
    }

    async fn commit(&self, list: Bytes, stamp: String, by: Deadline) -> Result<Put, StoreError> {
        let url = format!("{}?comp=blocklist", self.url);
        let once = |by| {
            let call = Call::put(url.clone(), list.clone())
                .with(IF_NONE_MATCH, "*")
                .with(METADATA, stamp.clone())
                .with("x-ms-blob-content-type", OCTETS);
            within(by, CREATE, &self.subject, async {
                match self.service.send(CREATE, call).await {
                    Ok(_) => Ok(Ok(Put::Created)),
                    Err(refusal) if refusal.is_exists() => Ok(Ok(Put::Exists)),
                    // Blocks are gone: only a whole new upload can tell.
                    Err(refusal) if refusal.status == 400 => Ok(Err(self.explain(refusal))),
                    Err(refusal) => Err(self.explain(refusal)),
                }
            })
        };
        retry::run(by, SHORT_TRY, |_, _| {}, once).await?
    }

    fn explain(&self, refusal: Refusal) -> StoreError {
        StoreError::new(refusal.kind, CREATE, &self.subject, refusal.detail)
    }

    fn invalid(&self, detail: &str) -> StoreError {
        StoreError::new(StoreErrorKind::Invalid, CREATE, &self.subject, detail)
    }
}

/// No two uploads share the names of their blocks.
fn name(upload: [u8; 16], number: usize) -> String {
    let mut bytes = [0; NAME_BYTES];
    let told = upload.into_iter().chain((number as u64).to_be_bytes());
    bytes.iter_mut().zip(told).for_each(|(byte, value)| *byte = value);
    BASE64_STANDARD.encode(bytes)
}

/// Every `RandomState` is seeded differently; that is random enough to tell uploads apart.
fn random() -> [u8; 16] {
    let halves = [RandomState::new().hash_one(0u8), RandomState::new().hash_one(1u8)];
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(halves.iter().flat_map(|half| half.to_be_bytes())).for_each(|(byte, value)| *byte = value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_names_of_one_length_of_their_own() {
        let (one, other) = (random(), random());
        let numbers = [0, 1, 255, 256, MAX_BLOCKS - 1];
        let names: std::collections::BTreeSet<String> =
            [one, other].into_iter().flat_map(|upload| numbers.map(|number| name(upload, number))).collect();
        assert_eq!(names.len(), 10);
        assert!(names.iter().all(|name| name.len() == 88), "{names:?}");
    }
}

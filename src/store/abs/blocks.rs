//! Uploads one blob in blocks: sends them a few at a time, then names them in their order by a conditional
//! commit, which makes the blob appear. Blocks that were never committed are no blob; Azure drops them after
//! a week.

use super::service::{Call, Service, stored};
use super::{CREATE, IF_NONE_MATCH, METADATA, OCTETS};
use crate::model::Deadline;
use crate::store::Put;
use crate::store::failure::Failure;
use crate::store::limit::{SHORT_TRY, part_try, repeat};
use crate::store::parts::{Parts, send_all};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use std::hash::{BuildHasher, RandomState};

/// Azure's limit.
const MAX_BLOCKS: (usize, &str) = (50_000, "more than 50000 blocks: raise part_size");
/// All blocks that were ever sent for a blob must have names of one length: this is Azure's own tools'.
const NAME_BYTES: usize = 64;

pub(super) struct Target<'a> {
    pub service: &'a Service,
    /// The blob's URL, without a query.
    pub url: String,
}

impl Target<'_> {
    pub(super) async fn upload(
        &self,
        parts: (Bytes, Parts),
        timestamp: String,
        concurrency: usize,
        by: Deadline,
    ) -> Result<Put, Failure> {
        let upload = random();
        let send = |number, body| self.send(name(upload, number), body, by);
        let names = send_all(parts, concurrency, MAX_BLOCKS, send).await?;
        let list: String = names.iter().map(|name| format!("<Latest>{name}</Latest>")).collect();
        let list = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{list}</BlockList>");
        self.commit(list.into(), timestamp, by).await
    }

    /// A stream cannot be replayed, so a block is repeated for as long as the deadline allows. Returns the
    /// block's name.
    async fn send(&self, name: String, body: Bytes, by: Deadline) -> Result<String, Failure> {
        let url = format!("{}?comp=block&blockid={}", self.url, super::address::encoded(&name));
        let once =
            || async { Ok(self.service.send(CREATE, Call::put(url.clone(), body.clone())).await.map(drop)?) };
        repeat(by, part_try(body.len()), once).await.map(|()| name)
    }

    async fn commit(&self, list: Bytes, timestamp: String, by: Deadline) -> Result<Put, Failure> {
        let url = format!("{}?comp=blocklist", self.url);
        let once = || async {
            let call = Call::put(url.clone(), list.clone())
                .with(IF_NONE_MATCH, "*")
                .with(METADATA, timestamp.clone())
                .with("x-ms-blob-content-type", OCTETS);
            match self.service.send(CREATE, call).await {
                Err(refusal) if refusal.already_exists() => Ok(Ok(Put::Exists)),
                // Blocks are gone: only a new upload can succeed.
                Err(refusal) if refusal.status == 400 => Ok(Err(refusal.into())),
                reply => stored(&reply?).map(|()| Ok(Put::Created)),
            }
        };
        repeat(by, SHORT_TRY, once).await?
    }
}

/// No two uploads share the names of their blocks.
fn name(upload: [u8; 16], number: usize) -> String {
    let mut bytes = [0; NAME_BYTES];
    let filled = upload.into_iter().chain((number as u64).to_be_bytes());
    bytes.iter_mut().zip(filled).for_each(|(byte, value)| *byte = value);
    BASE64_STANDARD.encode(bytes)
}

/// Every `RandomState` is seeded differently; that is random enough to keep uploads apart.
fn random() -> [u8; 16] {
    let halves = [RandomState::new().hash_one(0u8), RandomState::new().hash_one(1u8)];
    let mut bytes = [0; 16];
    bytes
        .iter_mut()
        .zip(halves.iter().flat_map(|half| half.to_be_bytes()))
        .for_each(|(byte, value)| *byte = value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_names_of_one_length_of_their_own() {
        let (one, other) = (random(), random());
        let numbers = [0, 1, 255, 256, MAX_BLOCKS.0 - 1];
        let names: std::collections::BTreeSet<String> =
            [one, other].into_iter().flat_map(|upload| numbers.map(|number| name(upload, number))).collect();
        assert_eq!(names.len(), 10);
        assert!(names.iter().all(|name| name.len() == 88), "{names:?}");
    }
}

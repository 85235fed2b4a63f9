//! The requests for the objects of `owner/`. Makes each once, by its deadline; the protocol repeats them.

use super::owner::{self, Epoch, Kind};
use super::protocol::{Beat, Request, Seen, Watch, Watched};
use super::record::{self, Answer, Claim, MOST_BYTES, RecordError, Release};
use crate::model::{Deadline, Moment};
use crate::store::{Body, Put, Store, StoreError, StoreErrorKind};
use bytes::Bytes;
use futures_util::future::try_join4;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot use {subject}: {source}")]
    Record { subject: String, source: RecordError },
    #[error(
        "cannot use {subject}: it is larger than {MOST_BYTES} bytes, so it was not written by litevisor; \
         delete it"
    )]
    Size { subject: String },
    #[error(
        "the store of {url} does not refuse to create an object that exists, so it cannot say which instance \
         comes first: use a store that does (AWS S3, R2, Google, Azure, MinIO, SeaweedFS, a directory), name \
         one for the owner records alone (handover.url), or set handover.enabled = false"
    )]
    Conditions { url: String },
}

#[derive(Clone)]
pub struct Client {
    store: Arc<dyn Store>,
}

impl Client {
    pub fn new(store: Arc<dyn Store>) -> Client {
        Client { store }
    }

    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// Refuses a store that does not decide between two creates.
    pub async fn check(&self, by: Deadline) -> Result<(), HandoverError> {
        match self.store.creates_exclusively(by).await? {
            true => Ok(()),
            false => Err(HandoverError::Conditions { url: self.url().to_owned() }),
        }
    }

    /// Whether an instance has ever claimed here.
    pub async fn has_records(&self, by: Deadline) -> Result<bool, StoreError> {
        Ok(owner::newest(&self.store.list(owner::PREFIX, by).await?).is_some())
    }

    /// The newest claim, and its release.
    pub async fn look(&self, by: Deadline) -> Result<Option<Seen>, HandoverError> {
        let Some(epoch) = owner::newest(&self.store.list(owner::PREFIX, by).await?) else { return Ok(None) };
        let Some(claim) = self.claim_of(epoch, by).await? else { return Ok(None) };
        Ok(Some(Seen { claim, release: self.release_of(epoch, by).await? }))
    }

    pub async fn watch(&self, watch: Watch, by: Deadline) -> Result<Watched, HandoverError> {
        let release = async {
            match watch.release_of {
                Some(epoch) => self.release_of(epoch, by).await,
                None => Ok(None),
            }
        };
        let answer = async {
            match watch.answer_of {
                Some(epoch) => self.answer_of(epoch, by).await,
                None => Ok(None),
            }
        };
        let claimed = async {
            match watch.claim_of {
                Some(epoch) => self.is_claimed(epoch, by).await,
                None => Ok(false),
            }
        };
        let beat = async {
            match watch.beat_of {
                Some(beat) => self.beat_of(beat, by).await,
                None => Ok(None),
            }
        };
        let (release, answer, claimed, beat) = try_join4(release, answer, claimed, beat).await?;
        Ok(Watched { release, answer, claimed, beat })
    }

    /// One request also behind many claims: these come first in the order of names.
    async fn beat_of(&self, beat: Beat, by: Deadline) -> Result<Option<u64>, HandoverError> {
        match beat {
            Beat::Number(epoch, number) => {
                let there = found(self.store.get(&owner::beat_key(epoch, number), Some(0..16), by).await)?;
                Ok(there.map(|_| number))
            }
            Beat::Newest(epoch) => {
                let page = self.store.list_page(owner::PREFIX, &owner::before_beats(epoch), by).await?;
                Ok(owner::newest_beat(&page.objects, epoch))
            }
        }
    }

    /// Writes a heartbeat, and deletes the one before the last.
    pub async fn beat(&self, epoch: Epoch, number: u64, by: Deadline) -> Result<(), HandoverError> {
        let key = owner::beat_key(epoch, number);
        let subject = || format!("{}/{key}", self.url());
        let text =
            record::beat(epoch).map_err(|source| HandoverError::Record { subject: subject(), source })?;
        self.store.put_new(&key, Body::Whole(Bytes::from(text)), Moment::now().0, by).await?;
        if let Some(old) = number.checked_sub(2).filter(|old| *old > 0) {
            self.store.delete(&[owner::beat_key(epoch, old)], by).await?;
        }
        Ok(())
    }

    /// True: the epoch is this instance's, now or since a try whose reply was lost.
    pub async fn claim(&self, claim: &Claim, by: Deadline) -> Result<bool, HandoverError> {
        let text = claim.to_text();
        if self.create(claim.epoch, Kind::Claim, text, by).await? == Put::Created {
            return Ok(true);
        }
        Ok(self.claim_of(claim.epoch, by).await?.is_some_and(|there| there.instance.id == claim.instance.id))
    }

    /// What is there already stays: it was written by an earlier try.
    pub async fn release(&self, release: &Release, by: Deadline) -> Result<(), HandoverError> {
        let stamped = Release { time_ms: Moment::now().0, ..release.clone() };
        self.create(release.epoch, Kind::Release, stamped.to_text(), by).await.map(drop)
    }

    pub async fn answer(&self, answer: &Answer, by: Deadline) -> Result<(), HandoverError> {
        self.create(answer.epoch, Kind::Answer, answer.to_text(), by).await.map(drop)
    }

    /// Deletes what an owner of `own` may delete; returns how many objects. Whatever is left is deleted by a
    /// later owner.
    pub async fn delete_outdated(&self, own: Epoch, by: Deadline) -> Result<usize, HandoverError> {
        let keys = owner::outdated(&self.store.list(owner::PREFIX, by).await?, own);
        if !keys.is_empty() {
            self.store.delete(&keys, by).await?;
        }
        Ok(keys.len())
    }

    async fn claim_of(&self, epoch: Epoch, by: Deadline) -> Result<Option<Claim>, HandoverError> {
        self.read(epoch, Kind::Claim, Claim::parse, by).await
    }

    async fn release_of(&self, epoch: Epoch, by: Deadline) -> Result<Option<Release>, HandoverError> {
        self.read(epoch, Kind::Release, Release::parse, by).await
    }

    async fn answer_of(&self, epoch: Epoch, by: Deadline) -> Result<Option<Answer>, HandoverError> {
        self.read(epoch, Kind::Answer, Answer::parse, by).await
    }

    /// Asks for a few bytes: what the claim says does not matter. For a single one s3rver sends everything.
    async fn is_claimed(&self, epoch: Epoch, by: Deadline) -> Result<bool, HandoverError> {
        let key = owner::key(epoch, Kind::Claim);
        Ok(found(self.store.get(&key, Some(0..16), by).await)?.is_some())
    }

    async fn read<T>(
        &self,
        epoch: Epoch,
        kind: Kind,
        parse: impl FnOnce(&[u8], Epoch) -> Result<T, RecordError>,
        by: Deadline,
    ) -> Result<Option<T>, HandoverError> {
        let key = owner::key(epoch, kind);
        let Some(text) = found(self.store.get(&key, Some(0..MOST_BYTES + 1), by).await)? else {
            return Ok(None);
        };
        let subject = || format!("{}/{key}", self.url());
        if text.len() as u64 > MOST_BYTES {
            return Err(HandoverError::Size { subject: subject() });
        }
        parse(&text, epoch).map(Some).map_err(|source| HandoverError::Record { subject: subject(), source })
    }

    async fn create(
        &self,
        epoch: Epoch,
        kind: Kind,
        text: Result<String, RecordError>,
        by: Deadline,
    ) -> Result<Put, HandoverError> {
        let key = owner::key(epoch, kind);
        let subject = || format!("{}/{key}", self.url());
        let text = text.map_err(|source| HandoverError::Record { subject: subject(), source })?;
        Ok(self.store.put_new(&key, Body::Whole(Bytes::from(text)), Moment::now().0, by).await?)
    }
}

fn found(got: Result<Bytes, StoreError>) -> Result<Option<Bytes>, StoreError> {
    match got {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The request in words, for the log.
pub fn describe(request: &Request) -> &'static str {
    match request {
        Request::Look => "read the newest owner record",
        Request::Watch(_) => "look for other instances",
        Request::Claim(_) => "claim the replica",
        Request::Fence => "fence the instance before this one",
        Request::Answer(_) => "answer the instance that asks for the replica",
        Request::Release(_) => "release the replica",
    }
}

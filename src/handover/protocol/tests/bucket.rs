//! The bucket of the model: owner objects and segments, each created once. What the store does happens at one
//! moment; the request and the reply may be lost or late.

use crate::handover::owner::Epoch;
use crate::handover::protocol::{Beat, Reply, Request, Seen, Watch, Watched};
use crate::handover::record::{Answer, Claim, Position, Positions, Release};
use crate::model::Txid;
use std::collections::{BTreeMap, BTreeSet};

/// One file of the only database; its TXID is its place in the list, from 1.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The state that it was made from, and the state after it.
    pub base: u64,
    pub state: u64,
    pub commits: Vec<u64>,
    /// The run that wrote it.
    pub writer: u64,
    pub is_fence: bool,
}

/// Rules that the model may break, to see that it notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    pub claims_overwrite: bool,
    pub start_before_release: bool,
    pub no_fence: bool,
    pub release_before_flush: bool,
    pub resume_twice: bool,
    pub deletes_too_much: bool,
    /// A standby hears no heartbeat, and so takes over from every owner.
    pub deaf_standby: bool,
}

#[derive(Default)]
pub struct Bucket {
    pub claims: BTreeMap<Epoch, Claim>,
    pub answers: BTreeMap<Epoch, Answer>,
    pub releases: BTreeMap<Epoch, Release>,
    /// The newest heartbeats.
    pub beats: BTreeMap<Epoch, u64>,
    pub segments: Vec<Segment>,
    /// Epochs whose answer and release were deleted.
    pub deleted: BTreeSet<Epoch>,
    pub broken: Broken,
}

pub const DATABASE: &str = "app.db";

pub fn mix(a: u64, b: u64) -> u64 {
    (a ^ b.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ b
}

pub fn at(txid: u64) -> Positions {
    BTreeMap::from([(DATABASE.to_owned(), Position { txid: Txid(txid), checksum: None })])
}

impl Bucket {
    pub fn tip(&self) -> u64 {
        self.segments.len() as u64
    }

    /// The state at a TXID; 0 is the empty database.
    pub fn state(&self, txid: u64) -> u64 {
        txid.checked_sub(1).map_or(0, |index| self.segments[index as usize].state)
    }

    pub fn segment(&self, txid: u64) -> Option<&Segment> {
        self.segments.get(txid.checked_sub(1)? as usize)
    }

    /// Create-only. True: it was created.
    pub fn put(&mut self, txid: u64, segment: Segment) -> bool {
        assert!(txid <= self.tip() + 1, "a gap: {txid} behind {}", self.tip());
        if txid <= self.tip() {
            return false;
        }
        self.segments.push(segment);
        true
    }

    pub fn fence(&mut self, writer: u64) -> u64 {
        let base = self.state(self.tip());
        let txid = self.tip() + 1;
        if !self.broken.no_fence {
            self.put(txid, Segment { base, state: base, commits: Vec::new(), writer, is_fence: true });
        }
        self.tip()
    }

    /// An owner deletes what is older than its epoch: more than litevisor, which keeps some epochs.
    pub fn delete_outdated(&mut self, own: Epoch) -> usize {
        let limit = if self.broken.deletes_too_much { u64::MAX } else { own.get() };
        let before = self.deleted.len();
        self.deleted
            .extend(self.releases.keys().chain(self.answers.keys()).filter(|epoch| epoch.get() < limit));
        self.deleted.len() - before
    }

    fn is_there(&self, epoch: &Epoch) -> bool {
        !self.deleted.contains(epoch)
    }

    /// A release is asked for that was deleted, by an instance to which it may matter: it is not the next
    /// epoch that decides.
    pub fn misses(&self, request: &Request) -> Option<Epoch> {
        let Request::Watch(Watch { release_of: Some(epoch), claim_of: Some(next), .. }) = request else {
            return None;
        };
        (self.deleted.contains(epoch) && !self.claims.contains_key(next)).then_some(*epoch)
    }

    /// The last two are kept.
    fn beat(&self, beat: Beat) -> Option<u64> {
        match beat {
            Beat::Newest(epoch) => self.beats.get(&epoch).copied(),
            Beat::Number(epoch, number) => {
                let newest = self.beats.get(&epoch).copied().unwrap_or_default();
                (number <= newest && number + 2 > newest).then_some(number)
            }
        }
    }

    pub fn answer(&mut self, request: &Request, writer: u64) -> Reply {
        match request {
            Request::Look => Reply::Looked(self.claims.last_key_value().map(|(epoch, claim)| Seen {
                claim: claim.clone(),
                release: self.releases.get(epoch).filter(|_| self.is_there(epoch)).cloned(),
            })),
            Request::Watch(Watch { release_of, answer_of, claim_of, beat_of }) => Reply::Watched(Watched {
                release: release_of
                    .filter(|epoch| self.is_there(epoch))
                    .and_then(|epoch| self.releases.get(&epoch).cloned()),
                answer: answer_of
                    .filter(|epoch| self.is_there(epoch))
                    .and_then(|epoch| self.answers.get(&epoch).cloned()),
                claimed: claim_of.is_some_and(|epoch| self.claims.contains_key(&epoch)),
                beat: beat_of.and_then(|beat| self.beat(beat)),
            }),
            Request::Claim(claim) => {
                if self.broken.claims_overwrite {
                    self.claims.insert(claim.epoch, claim.clone());
                    return Reply::Claimed { ours: true };
                }
                let there = self.claims.entry(claim.epoch).or_insert_with(|| claim.clone());
                Reply::Claimed { ours: there.instance.id == claim.instance.id }
            }
            Request::Fence => Reply::Fenced(at(self.fence(writer))),
            Request::Answer(answer) => {
                self.answers.entry(answer.epoch).or_insert_with(|| answer.clone());
                Reply::Written
            }
            Request::Release(release) => {
                self.deleted.remove(&release.epoch);
                self.releases.entry(release.epoch).or_insert_with(|| release.clone());
                Reply::Written
            }
        }
    }
}

//! Random interleavings of an app that commits and answers, a replica, a second writer and a gate. No client
//! may know of a commit that is not in the replica. A gate that looks before it reads is found.

use super::decide::{Decision, Proof, Prospect, decide};
use super::held::Held;
use super::*;

#[derive(Clone, Copy, PartialEq)]
enum Order {
    ReadThenLook,
    LookThenRead,
}

#[derive(Default)]
struct Model {
    committed: u8,
    uploaded: u8,
    fenced: bool,
    /// What the app has sent and the gate has not read: the newest commit that each answer acknowledges or
    /// shows.
    sent: Vec<u8>,
    held: Held,
    closed: bool,
    /// Between the two halves of the gate's step.
    read: Option<Vec<u8>>,
    looked: Option<Option<Ticket>>,
}

impl Model {
    fn look(&self) -> Option<Ticket> {
        (self.committed != self.uploaded || self.fenced).then_some(Ticket(self.committed.into()))
    }

    fn gate_step(&mut self, order: Order) {
        match (order, &self.read, &self.looked) {
            (Order::ReadThenLook, None, _) => self.read = Some(std::mem::take(&mut self.sent)),
            (Order::LookThenRead, _, None) => self.looked = Some(self.look()),
            _ => {
                let bytes = self.read.take().unwrap_or_else(|| std::mem::take(&mut self.sent));
                let ticket = self.looked.take().unwrap_or_else(|| self.look());
                if ticket.is_none() {
                    while self.held.release_first().is_some() {}
                }
                self.held.push(&bytes, ticket, Instant::now());
            }
        }
    }

    /// The newest commit that the client is told of.
    fn deliver(&mut self) -> u8 {
        while let Some(mark) = self.held.first_mark() {
            let proof = match mark.ticket.0 <= self.uploaded.into() {
                _ if self.fenced => Proof::Fenced,
                true => Proof::Durable,
                false => Proof::Missing,
            };
            match decide(proof, Duration::ZERO, Duration::from_secs(1), Prospect::Open, OnFailure::Close) {
                Decision::Pass => drop(self.held.release_first()),
                Decision::Close(_) => self.closed = true,
                _ => {}
            }
            if self.held.first_mark() == Some(mark) {
                break;
            }
        }
        let told = if self.closed { &[][..] } else { self.held.writable() };
        let newest = told.iter().max().copied().unwrap_or(0);
        let count = told.len();
        self.held.written(count);
        newest
    }
}

/// Whether a client is told of a commit that is not in the replica.
fn lies(seed: u64, order: Order) -> bool {
    let mut model = Model::default();
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..200 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        match random % 100 {
            0..10 if model.committed < u8::MAX => model.committed += 1,
            10..35 => model.sent.push(model.committed),
            35..50 if !model.fenced => model.uploaded = model.committed,
            50..51 => model.fenced = true,
            51..80 => model.gate_step(order),
            _ => {
                if model.deliver() > model.uploaded {
                    return true;
                }
            }
        }
    }
    false
}

#[test]
fn no_client_knows_more_than_the_replica() {
    const LIVES: u64 = 5_000;
    let wrong = |order| (0..LIVES).filter(|seed| lies(*seed, order)).count();
    assert_eq!(wrong(Order::ReadThenLook), 0);
    assert!(wrong(Order::LookThenRead) > 100, "the model must find a gate that looks too early");
}

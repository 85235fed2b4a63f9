//! What the app has sent on one connection and the client has not got yet, in order. Pure.
//!
//! A mark says from which byte on the proof of which ticket is needed. Bytes without a mark of their own wait
//! for those before them. An empty queue has no memory.

use crate::model::Ticket;
use std::collections::VecDeque;
use std::time::Instant;

/// While anything is held, the app is read until this many bytes wait.
pub const LIMIT: usize = 256 << 10;
/// When this many bytes are held on all connections together, each may hold `LEAST`.
const TOTAL: u64 = 64 << 20;
const LEAST: usize = 4 << 10;
/// So are this many marks: small chunks must not cost more memory than large ones.
const MARKS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The position of the first byte that it is about.
    pub from: u64,
    pub ticket: Ticket,
    pub since: Instant,
}

#[derive(Default)]
pub struct Held {
    bytes: VecDeque<u8>,
    marks: VecDeque<Mark>,
    /// The position of the first byte of `bytes` in everything that the app has sent.
    sent: u64,
}

impl Held {
    fn end(&self) -> u64 {
        self.sent + self.bytes.len() as u64
    }

    /// Adds bytes behind those that wait. Without bytes: the end of the stream.
    pub fn push(&mut self, bytes: &[u8], ticket: Option<Ticket>, now: Instant) {
        if let Some(ticket) = ticket {
            self.marks.push_back(Mark { from: self.end(), ticket, since: now });
        }
        self.bytes.extend(bytes);
    }

    /// Bytes that went to the client without waiting here.
    pub fn passed(&mut self, count: usize) {
        self.sent += count as u64;
    }

    /// The oldest proof that is needed.
    pub fn first_mark(&self) -> Option<Mark> {
        self.marks.front().copied()
    }

    /// The first mark's bytes may go.
    pub fn release_first(&mut self) -> Option<Mark> {
        let mark = self.marks.pop_front();
        if self.marks.is_empty() {
            self.marks = VecDeque::new();
        }
        mark
    }

    /// What may be written now; the rest of it may follow.
    pub fn writable(&self) -> &[u8] {
        let (first, _) = self.bytes.as_slices();
        let free = self.marks.front().map_or(self.bytes.len(), |mark| usize_of(mark.from - self.sent));
        first.get(..free.min(first.len())).unwrap_or_default()
    }

    pub fn written(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
        self.sent += count as u64;
        if self.bytes.is_empty() {
            self.bytes = VecDeque::new();
        }
    }

    /// Bytes that wait for a proof.
    pub fn withheld(&self) -> u64 {
        self.marks.front().map_or(0, |mark| self.end() - mark.from)
    }

    /// Neither bytes nor an end wait.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.marks.is_empty()
    }

    /// How many bytes may be read from the app, when `all` bytes are held on all connections. A client that
    /// does not read gets no queue here: it has the kernel's.
    pub fn room(&self, all: u64) -> usize {
        let limit = if all < TOTAL { LIMIT } else { LEAST };
        match (self.marks.len(), self.bytes.len()) {
            (0, 0) => limit,
            (0, _) | (MARKS.., _) => 0,
            (_, waiting) => limit.saturating_sub(waiting),
        }
    }
}

/// A queue's length always fits.
fn usize_of(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(held: &mut Held) -> String {
        let mut text = Vec::new();
        while !held.writable().is_empty() {
            text.extend_from_slice(held.writable());
            held.written(held.writable().len());
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn bytes_leave_in_order_as_far_as_they_are_proven() {
        let mut held = Held::default();
        let now = Instant::now();
        held.passed(100);
        held.push(b"abc", None, now);
        held.push(b"def", Some(Ticket(1)), now);
        held.push(b"ghi", None, now);
        held.push(b"jkl", Some(Ticket(2)), now);
        held.push(b"", Some(Ticket(3)), now);
        assert_eq!((held.withheld(), take(&mut held)), (9, "abc".into()));
        assert_eq!(held.first_mark().map(|mark| mark.ticket), Some(Ticket(1)));
        held.release_first();
        assert_eq!((held.withheld(), take(&mut held)), (3, "defghi".into()));
        held.release_first();
        assert_eq!((held.withheld(), take(&mut held)), (0, "jkl".into()));
        assert!(!held.is_empty(), "the end is held, too");
        held.release_first();
        assert!(held.is_empty() && held.room(0) == LIMIT);
    }

    #[test]
    fn what_waits_is_limited() {
        let mut held = Held::default();
        let now = Instant::now();
        held.push(&[0; 1000], None, now);
        assert_eq!(held.room(0), 0, "only the client is slow");
        held.written(1000);
        held.push(&[0; 1000], Some(Ticket(1)), now);
        assert_eq!(held.room(TOTAL - 1), LIMIT - 1000);
        assert_eq!(held.room(TOTAL), LEAST - 1000);
        held.push(&vec![0; LIMIT - 1000], None, now);
        assert_eq!((held.room(0), held.room(TOTAL)), (0, 0));
        let mut held = Held::default();
        (0..MARKS).for_each(|_| held.push(b"x", Some(Ticket(1)), now));
        assert_eq!(held.room(0), 0);
        held.release_first();
        assert!(held.room(0) > 0);
    }
}

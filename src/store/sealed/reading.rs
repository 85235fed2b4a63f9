//! One object of a replica as its bytes arrive: what it begins with, then its content. Pure.

use super::head::{Found, MAGIC, find};
use super::keys::Keys;
use super::payload::{ContentKey, NONCE, Opener};
use super::problem::Problem;
use bytes::Bytes;
use std::ops::Range;

/// What is known of an object once its beginning was read.
#[derive(Clone)]
pub enum Known {
    Plain,
    /// The key of its content, and where that begins.
    Sealed {
        key: ContentKey,
        at: u64,
    },
}

pub struct Reading {
    state: State,
    want: Range<u64>,
    /// Found at the beginning, to be remembered.
    found: Option<Known>,
}

enum State {
    /// The first bytes.
    Begin(Vec<u8>),
    /// At this place of the object.
    Plain(u64),
    Sealed(Opener),
    Failed(Problem),
}

/// What the first bytes of an object say. None: there are too few of them. `either`: it may be plain although
/// there are keys.
pub fn unlock(keys: Option<&Keys>, either: bool, bytes: &[u8]) -> Result<Option<Known>, Problem> {
    let Some(keys) = keys else {
        return match MAGIC.iter().zip(bytes).all(|(a, b)| a == b) {
            false => Ok(Some(Known::Plain)),
            true if bytes.len() >= MAGIC.len() => Err(Problem::Encrypted),
            true => Ok(None),
        };
    };
    match find(bytes)? {
        Found::Short => Ok(None),
        Found::Plain if either => Ok(Some(Known::Plain)),
        Found::Plain => Err(Problem::Plain),
        Found::Head(head) => {
            let at = head.bytes + NONCE;
            let Some(nonce) = bytes.get(head.bytes..at) else { return Ok(None) };
            let file_key = keys.unwrap(&head)?;
            head.verify(bytes, &file_key)?;
            Ok(Some(Known::Sealed { key: ContentKey::new(&file_key, nonce)?, at: at as u64 }))
        }
    }
}

impl Reading {
    /// The object is read from its first byte.
    pub fn begin(want: Range<u64>) -> Reading {
        Reading { state: State::Begin(Vec::new()), want, found: None }
    }

    /// A plain object is read from `want` on.
    pub fn plain(want: &Range<u64>) -> Reading {
        Reading { state: State::Plain(want.start), want: want.clone(), found: None }
    }

    /// The file is read where `sealed_range(want)` begins.
    pub fn sealed(key: ContentKey, want: Range<u64>) -> Reading {
        Reading { state: State::Sealed(Opener::new(key, want.clone())), want, found: None }
    }

    pub fn feed(&mut self, keys: Option<&Keys>, either: bool, bytes: Bytes, take: &dyn Fn(Bytes)) {
        if let Err(problem) = self.step(keys, either, bytes, take) {
            self.state = State::Failed(problem);
        }
    }

    fn step(
        &mut self,
        keys: Option<&Keys>,
        either: bool,
        bytes: Bytes,
        take: &dyn Fn(Bytes),
    ) -> Result<(), Problem> {
        match &mut self.state {
            State::Failed(_) => Ok(()),
            State::Sealed(opener) => opener.feed(&bytes, take),
            State::Plain(at) => {
                let begin = *at;
                *at = begin.saturating_add(bytes.len() as u64);
                let wanted = usize::try_from(self.want.end.saturating_sub(begin)).unwrap_or(usize::MAX);
                let wanted = bytes.slice(..bytes.len().min(wanted));
                if !wanted.is_empty() {
                    take(wanted);
                }
                Ok(())
            }
            State::Begin(held) => {
                // What comes first is enough, as a rule.
                let first = if held.is_empty() { bytes } else { [held.as_slice(), &bytes].concat().into() };
                match unlock(keys, either, &first)? {
                    None => {
                        self.state = State::Begin(first.to_vec());
                        Ok(())
                    }
                    Some(known) => self.begun(known, first, take),
                }
            }
        }
    }

    fn begun(&mut self, known: Known, first: Bytes, take: &dyn Fn(Bytes)) -> Result<(), Problem> {
        self.found = Some(known.clone());
        match known {
            Known::Plain => {
                self.state = State::Plain(0);
                self.step(None, true, first, take)
            }
            Known::Sealed { key, at } => {
                let mut opener = Opener::new(key, self.want.clone());
                let content = usize::try_from(at).ok().and_then(|at| first.get(at..)).unwrap_or_default();
                let fed = opener.feed(content, take);
                self.state = State::Sealed(opener);
                fed
            }
        }
    }

    /// There are no more bytes.
    pub fn finish(
        &mut self,
        keys: Option<&Keys>,
        either: bool,
        take: &dyn Fn(Bytes),
    ) -> Result<Option<Known>, Problem> {
        match &mut self.state {
            State::Failed(problem) => return Err(problem.clone()),
            State::Plain(_) => {}
            State::Sealed(opener) => opener.finish(take)?,
            // Not even the beginning: an empty object, or one that is cut short.
            State::Begin(held) => {
                let held = std::mem::take(held);
                match keys {
                    Some(_) if !either => return Err(Problem::Truncated),
                    _ if held.is_empty() => {}
                    _ => take(Bytes::from(held)),
                }
            }
        }
        Ok(self.found.take())
    }
}

//! Which position was the newest at a moment: pure. A file's time is in its header. The listing's time is
//! close to it at best (a copied directory or a replaced object is as new as the copy), so it only says which
//! headers to read: those near the moment, and some between if a listing proves wrong, until the answer is
//! exact.
//!
//! The time of a position is that of the oldest file that ends there: a snapshot is written later than its
//! position.

use super::chain::{Plan, PlanError, beyond, farthest, first_key};
use super::listing::RemoteFile;
use crate::model::{Moment, Txid};
use crate::store::layout::Level;
use std::collections::{BTreeMap, HashMap};

/// What the headers say, Unix milliseconds by key.
pub type Times = HashMap<String, i64>;

/// Headers asked for at once when the listing's times are of no use.
const PROBES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    pub plan: Plan,
    /// When the state that is reached was committed.
    pub time: Moment,
    /// More may have been committed by the wanted moment, but it is in this file together with what came
    /// later.
    pub coarse: Option<RemoteFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Found(Dated),
    /// The headers of these are needed first. Never empty, and never one whose time is known.
    Ask(Vec<RemoteFile>),
}

/// The newest state of which everything had been committed by `limit`, inclusive. After the last file that is
/// the latest one. `files` are those of one listing, at least one.
pub fn plan_at(files: &[RemoteFile], limit: Moment, times: &Times) -> Result<Answer, PlanError> {
    let positions = Positions::of(files, limit, times);
    let usable: Vec<RemoteFile> =
        files.iter().filter(|file| positions.within(file.range.max)).cloned().collect();
    let mut plan = farthest(&usable, Txid(u64::MAX));
    let end = plan.end;
    let goes_on = |file: &&RemoteFile| file.range.min <= end.next() && file.range.max > end;
    // Of those that lead on, the one that leads least far decides; of equal ones, the finest.
    let next = files
        .iter()
        .filter(goes_on)
        .min_by_key(|file| (file.range.max, std::cmp::Reverse(file.range.min), file.level));
    let after = next.or(beyond(files, end));
    let border = [Some(end), after.map(|file| file.range.max)];
    let ask = positions.ask(files, border.into_iter().flatten());
    if !ask.is_empty() {
        return Ok(Answer::Ask(ask));
    }
    match (plan.files.is_empty(), next, after) {
        (true, None, _) => return Err(PlanError::NoStart { first: first_key(files) }),
        (true, Some(first), _) => {
            return Err(PlanError::BeforeFirst { first: positions.time(first.range.max) });
        }
        // What had been committed by then is lost: anything else that is given would be taken for it.
        (false, None, Some(beyond)) if positions.within(beyond.range.max) => {
            return Err(PlanError::Gap { end, beyond: beyond.key.clone() });
        }
        _ => {}
    }
    let coarse = after.filter(|file| file.range.max > end.next() || file.level == Level::SNAPSHOT).cloned();
    plan.not_after = Some(limit);
    Ok(Answer::Found(Dated { time: positions.time(end), plan, coarse }))
}

/// What is known of the time of each position.
struct Positions<'a> {
    known: BTreeMap<Txid, Known>,
    times: &'a Times,
    limit: i64,
    /// The newest position that is surely within the limit, and the oldest behind it that is surely not.
    low: Txid,
    high: Txid,
}

#[derive(Clone, Copy)]
struct Known {
    /// The oldest of the files that end here, by the headers that were read, by the listing where none was,
    /// and by the listing for all. `i64::MAX`: none.
    exact: i64,
    guess: i64,
    listed: i64,
}

impl Known {
    /// Every header is known, or one is that is old enough.
    fn is_sure(&self, limit: i64) -> bool {
        self.guess == i64::MAX || self.exact <= limit
    }

    fn time(&self, limit: i64) -> i64 {
        if self.is_sure(limit) { self.exact } else { self.exact.min(self.guess) }
    }
}

impl Positions<'_> {
    fn of<'a>(files: &[RemoteFile], limit: Moment, times: &'a Times) -> Positions<'a> {
        // The last moment of all stands for "no file" below.
        let limit = limit.0.min(i64::MAX - 1);
        let mut known: BTreeMap<Txid, Known> = BTreeMap::new();
        let nothing = Known { exact: i64::MAX, guess: i64::MAX, listed: i64::MAX };
        for file in files {
            let position = known.entry(file.range.max).or_insert(nothing);
            position.listed = position.listed.min(file.modified_ms);
            match times.get(&file.key) {
                Some(time) => position.exact = position.exact.min(*time),
                None => position.guess = position.guess.min(file.modified_ms),
            }
        }
        let mut positions = Positions { known, times, limit, low: Txid::NONE, high: Txid(u64::MAX) };
        let sure = |positions: &Positions, within: bool| -> Vec<Txid> {
            let fits = |known: &Known| known.is_sure(limit) && (known.exact <= limit) == within;
            positions.known.iter().filter(|(_, known)| fits(known)).map(|(txid, _)| *txid).collect()
        };
        positions.low = sure(&positions, true).last().copied().unwrap_or(Txid::NONE);
        let later = sure(&positions, false).into_iter().find(|txid| *txid > positions.low);
        positions.high = later.unwrap_or(Txid(u64::MAX));
        positions
    }

    fn time(&self, position: Txid) -> Moment {
        Moment(self.known.get(&position).map_or(0, |known| known.time(self.limit)))
    }

    /// Whether it was committed by the limit, as far as is known: positions are as old as their order.
    fn within(&self, position: Txid) -> bool {
        match self.known.get(&position) {
            Some(known) if known.is_sure(self.limit) => known.exact <= self.limit,
            _ if position <= self.low => true,
            _ if position >= self.high => false,
            known => known.is_some_and(|known| known.time(self.limit) <= self.limit),
        }
    }

    /// The files whose headers are needed to be sure of the positions at the border.
    fn ask(&self, files: &[RemoteFile], border: impl Iterator<Item = Txid>) -> Vec<RemoteFile> {
        let unsure =
            |position: &Txid| self.known.get(position).is_some_and(|known| !known.is_sure(self.limit));
        let mut wanted: Vec<Txid> = border.filter(unsure).collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        if self.listing_is_wrong() {
            let open: Vec<Txid> = self
                .known
                .keys()
                .copied()
                .filter(unsure)
                .filter(|txid| (self.low..self.high).contains(txid))
                .collect();
            wanted.extend(open.iter().step_by(open.len().div_ceil(PROBES).max(1)));
        }
        let unknown =
            |file: &&RemoteFile| wanted.contains(&file.range.max) && !self.times.contains_key(&file.key);
        files.iter().filter(unknown).cloned().collect()
    }

    /// Somewhere a header says something else than the listing, as to the limit.
    fn listing_is_wrong(&self) -> bool {
        let lies = |known: &Known| (known.exact <= self.limit) != (known.listed <= self.limit);
        self.known.values().any(|known| known.is_sure(self.limit) && lies(known))
    }
}

#[cfg(test)]
mod tests;

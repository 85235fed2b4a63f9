//! Which files bring a database to the wanted state, as Litestream 0.5 plans it: pure. The newest snapshot that does not
//! pass the target, then always the file that leads farthest.

use super::listing::RemoteFile;
use super::moment::{Answer, plan_at};
use crate::model::{Moment, Txid};
use crate::store::layout::Level;
use std::cmp::Reverse;

/// The state that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    #[default]
    Latest,
    /// Exactly this position, which must be the end of a file.
    Txid(Txid),
    /// Everything that had been committed by then. `moment::plan_at` finds the position.
    Time(Moment),
}

/// The files to apply, in this order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub files: Vec<RemoteFile>,
    /// The position reached.
    pub end: Txid,
    /// No file may have been written later than this, except for snapshots, which are written after their position.
    pub not_after: Option<Moment>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("nothing can be restored: no file of the replica begins at TXID 1 (the first is {first})")]
    NoStart { first: String },
    #[error("the replica has a gap: its files lead up to TXID {end}, and {beyond} does not continue them")]
    Gap { end: Txid, beyond: String },
    #[error("there is no backup that old: the first state that can be restored is of {first}")]
    BeforeFirst { first: Moment },
    #[error("TXID {wanted} cannot be restored: the files lead up to TXID {reached} and no file ends there")]
    Unreachable { wanted: Txid, reached: Txid },
}

/// `files` are those of one listing, in any order, at least one. For a time the store's own times are taken for true.
pub fn plan(files: &[RemoteFile], target: Target) -> Result<Plan, PlanError> {
    match target {
        Target::Latest => {
            let plan = farthest(files, Txid(u64::MAX));
            // What claims to go on and cannot be used is a gap, too: to leave it out would be an older state, silently.
            match beyond(files, plan.end) {
                _ if plan.files.is_empty() => Err(PlanError::NoStart { first: first_key(files) }),
                Some(beyond) => Err(PlanError::Gap { end: plan.end, beyond: beyond.key.clone() }),
                None => Ok(plan),
            }
        }
        Target::Txid(wanted) => match farthest(files, wanted) {
            plan if plan.end == wanted => Ok(plan),
            Plan { end: reached, .. } => Err(PlanError::Unreachable { wanted, reached }),
        },
        Target::Time(limit) => {
            let times = files.iter().map(|file| (file.key.clone(), file.modified_ms)).collect();
            match plan_at(files, limit, &times)? {
                Answer::Found(dated) => Ok(dated.plan),
                // Every time is known.
                Answer::Ask(_) => Err(PlanError::NoStart { first: first_key(files) }),
            }
        }
    }
}

/// As far as the files lead without passing `limit`, perhaps nowhere.
pub(super) fn farthest(files: &[RemoteFile], limit: Txid) -> Plan {
    let mut chosen: Vec<RemoteFile> = base(files, limit).cloned().into_iter().collect();
    let mut end = chosen.first().map_or(Txid::NONE, |file| file.range.max);
    let usable = |file: &&RemoteFile| file.level < Level::SNAPSHOT && file.range.max <= limit;
    let mut steps: Vec<&RemoteFile> = files.iter().filter(usable).collect();
    steps.sort_by_key(|file| file.range.min);
    let mut steps = steps.into_iter().peekable();
    // A step leads as far as any file that begins before its end: what it left behind is never needed again.
    loop {
        let next = std::iter::from_fn(|| steps.next_if(|file| file.range.min <= end.next())).max_by_key(rank);
        let Some(file) = next.filter(|file| file.range.max > end) else { break };
        end = file.range.max;
        chosen.push(file.clone());
    }
    Plan { files: chosen, end, not_after: None }
}

/// The first file that leads on beyond `end` and cannot be used.
pub(super) fn beyond(files: &[RemoteFile], end: Txid) -> Option<&RemoteFile> {
    files.iter().filter(|file| file.range.max > end).min_by_key(|file| file.range)
}

/// The newest snapshot within the limit. One that does not begin at 1 is no snapshot.
fn base(files: &[RemoteFile], limit: Txid) -> Option<&RemoteFile> {
    files
        .iter()
        .filter(|file| file.level == Level::SNAPSHOT && file.range.min == Txid::FIRST && file.range.max <= limit)
        .max_by_key(|file| file.range.max)
}

/// The best continuation: it leads farthest; of those, the one that covers most; of those, the most compacted; then the
/// oldest.
fn rank(file: &&RemoteFile) -> impl Ord + use<> {
    (file.range.max, Reverse(file.range.min), file.level, Reverse(file.modified_ms))
}

pub(super) fn first_key(files: &[RemoteFile]) -> String {
    files.iter().min_by_key(|file| file.range).map(|file| file.key.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;

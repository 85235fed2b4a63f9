//! Which files bring a database to the wanted state, as Litestream 0.5 plans it: pure. The newest snapshot that does not
//! pass the target, then always the file that leads farthest.

use super::listing::RemoteFile;
use crate::model::Txid;
use crate::store::layout::Level;
use std::cmp::Reverse;

/// The state that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Latest,
    /// Exactly this position, which must be the end of a file.
    Txid(Txid),
}

/// The files to apply, in this order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub files: Vec<RemoteFile>,
    /// The position reached.
    pub end: Txid,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("nothing can be restored: no file of the replica begins at TXID 1 (the first is {first})")]
    NoStart { first: String },
    #[error("the replica has a gap: its files lead up to TXID {end}, and {beyond} does not continue them")]
    Gap { end: Txid, beyond: String },
    #[error("TXID {wanted} cannot be restored: the files lead up to TXID {reached} and no file ends there")]
    Unreachable { wanted: Txid, reached: Txid },
}

/// `files` are those of one listing, in any order, at least one.
pub fn plan(files: &[RemoteFile], target: Target) -> Result<Plan, PlanError> {
    let limit = match target {
        Target::Latest => Txid(u64::MAX),
        Target::Txid(txid) => txid,
    };
    let mut chosen: Vec<RemoteFile> = base(files, limit).cloned().into_iter().collect();
    let mut end = chosen.first().map_or(Txid::NONE, |file| file.range.max);
    while end < limit
        && let Some(file) = step(files, end, limit)
    {
        end = file.range.max;
        chosen.push(file.clone());
    }
    match target {
        Target::Txid(wanted) if end != wanted => Err(PlanError::Unreachable { wanted, reached: end }),
        Target::Latest if chosen.is_empty() => Err(PlanError::NoStart { first: first_key(files) }),
        Target::Latest => match files.iter().filter(|file| file.range.max > end).min_by_key(|f| f.range) {
            Some(beyond) => Err(PlanError::Gap { end, beyond: beyond.key.clone() }),
            None => Ok(Plan { files: chosen, end }),
        },
        Target::Txid(_) => Ok(Plan { files: chosen, end }),
    }
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
fn step(files: &[RemoteFile], end: Txid, limit: Txid) -> Option<&RemoteFile> {
    files
        .iter()
        .filter(|file| file.level < Level::SNAPSHOT)
        .filter(|file| file.range.min <= end.next() && file.range.max > end && file.range.max <= limit)
        .max_by_key(|file| (file.range.max, Reverse(file.range.min), file.level, Reverse(file.modified_ms)))
}

fn first_key(files: &[RemoteFile]) -> String {
    files.iter().min_by_key(|file| file.range).map(|file| file.key.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! The files that lead from an empty database as far as possible, one after the other: pure.

use super::listing::RemoteFile;
use crate::model::{Moment, Txid};
use crate::store::layout::Level;
use std::cmp::Reverse;

/// The files to apply, in this order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub files: Vec<RemoteFile>,
    /// The position reached.
    pub end: Txid,
    /// No file may have been written later than this, except for snapshots, which are written after their
    /// position.
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
        .filter(|file| {
            file.level == Level::SNAPSHOT && file.range.min == Txid::FIRST && file.range.max <= limit
        })
        .max_by_key(|file| file.range.max)
}

/// The best continuation: it leads farthest; of those, the one that covers most; of those, the most
/// compacted; then the oldest.
fn rank(file: &&RemoteFile) -> impl Ord + use<> {
    (file.range.max, Reverse(file.range.min), file.level, Reverse(file.modified_ms))
}

pub(super) fn first_key(files: &[RemoteFile]) -> String {
    files.iter().min_by_key(|file| file.range).map(|file| file.key.clone()).unwrap_or_default()
}

//! Which files bring a database to the wanted state, as Litestream 0.5 plans it: pure. The newest snapshot
//! that does not pass the target, then always the file that leads farthest.

use super::chain::{Plan, PlanError, beyond, farthest, first_key};
use super::listing::RemoteFile;
use super::moment::{Answer, plan_at};
use crate::model::{Moment, Txid};

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

/// `files` are those of one listing, in any order, at least one. For a time the store's own times are taken
/// for true.
pub fn plan(files: &[RemoteFile], target: Target) -> Result<Plan, PlanError> {
    match target {
        Target::Latest => {
            let plan = farthest(files, Txid(u64::MAX));
            // What claims to go on and cannot be used is a gap, too: to leave it out would be an older state,
            // silently.
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

#[cfg(test)]
mod tests;

//! How many calls a store got, by operation and by result. One call counts once, however many requests it
//! takes.

use super::StoreErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    List,
    Get,
    Put,
    Delete,
}

impl Operation {
    /// Calls of a service: it knows nothing of keys.
    pub const ALL: [Operation; 4] = [Operation::List, Operation::Get, Operation::Put, Operation::Delete];

    pub fn name(self) -> &'static str {
        match self {
            Operation::List => "list",
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::Delete => "delete",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    Ok,
    /// A create-only put met an object.
    Exists,
    Failed(StoreErrorKind),
    /// The caller dropped the call.
    GivenUp,
}

impl CallResult {
    pub const ALL: [CallResult; 8] = [
        CallResult::Ok,
        CallResult::Exists,
        CallResult::Failed(StoreErrorKind::NotFound),
        CallResult::Failed(StoreErrorKind::Denied),
        CallResult::Failed(StoreErrorKind::Unreachable),
        CallResult::Failed(StoreErrorKind::TimedOut),
        CallResult::Failed(StoreErrorKind::Invalid),
        CallResult::GivenUp,
    ];

    pub fn name(self) -> &'static str {
        match self {
            CallResult::Ok => "ok",
            CallResult::Exists => "exists",
            CallResult::Failed(StoreErrorKind::NotFound) => "not_found",
            CallResult::Failed(StoreErrorKind::Denied) => "denied",
            CallResult::Failed(StoreErrorKind::Unreachable) => "unreachable",
            CallResult::Failed(StoreErrorKind::TimedOut) => "timed_out",
            CallResult::Failed(StoreErrorKind::Invalid) => "invalid",
            CallResult::Failed(StoreErrorKind::Key) => "key",
            CallResult::Failed(StoreErrorKind::Damaged) => "damaged",
            CallResult::GivenUp => "given_up",
        }
    }
}

/// The calls of one store.
#[derive(Debug, Default)]
pub struct Counts([[AtomicU64; CallResult::ALL.len()]; Operation::ALL.len()]);

impl Counts {
    fn cell(&self, operation: Operation, result: CallResult) -> Option<&AtomicU64> {
        let row = Operation::ALL.iter().position(|known| *known == operation)?;
        let column = CallResult::ALL.iter().position(|known| *known == result)?;
        self.0.get(row)?.get(column)
    }

    pub fn get(&self, operation: Operation, result: CallResult) -> u64 {
        self.cell(operation, result).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Counts a call when the value that this returns is dropped, as given up unless its `result` was set.
    pub(super) fn begin(&self, operation: Operation) -> Counting<'_> {
        Counting { counts: self, operation, result: CallResult::GivenUp }
    }

    fn add(&self, operation: Operation, result: CallResult) {
        if let Some(cell) = self.cell(operation, result) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A call that has not ended.
pub(super) struct Counting<'a> {
    counts: &'a Counts,
    operation: Operation,
    pub result: CallResult,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.counts.add(self.operation, self.result);
    }
}

//! Why a dialect could not do what it was asked. `bucket` adds the operation and the subject, which makes it
//! a `StoreError`.

use super::{StoreErrorKind, retry::Repeatable};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub kind: StoreErrorKind,
    /// What the service said, and what the user can do where that is known.
    pub detail: String,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    pub about: About,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The subject of the call.
    Call,
    /// One of the objects that are to be deleted: its name in the service.
    Deleted(String),
    /// The client could not be built.
    Connection,
}

impl Failure {
    pub(super) fn new(kind: StoreErrorKind, detail: impl Into<String>) -> Failure {
        Failure { kind, detail: detail.into(), retry_after: None, about: About::Call }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Failure {
        Failure::new(StoreErrorKind::Invalid, detail)
    }

    pub(super) fn unreachable(detail: impl Into<String>) -> Failure {
        Failure::new(StoreErrorKind::Unreachable, detail)
    }

    /// The answer is not the store's own. `problem`: what is wrong with it.
    pub(super) fn suspicious(problem: &str) -> Failure {
        Failure::unreachable(not_the_stores_own(problem))
    }

    /// Puts what was tried in front of the detail.
    pub(super) fn context(self, context: &str) -> Failure {
        Failure { detail: format!("{context}: {}", self.detail), ..self }
    }

    /// While this object was deleted.
    pub(super) fn deleting(self, name: &str) -> Failure {
        Failure { about: About::Deleted(name.to_owned()), ..self }
    }
}

impl From<(StoreErrorKind, String)> for Failure {
    fn from((kind, detail): (StoreErrorKind, String)) -> Failure {
        Failure::new(kind, detail)
    }
}

impl Repeatable for Failure {
    fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// What to say about an answer that does not come from the store.
pub(super) fn not_the_stores_own(problem: &str) -> String {
    format!(
        "{problem}: this is not the store's own answer; check whether a proxy or a login page is in between"
    )
}

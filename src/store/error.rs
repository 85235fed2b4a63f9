//! The error of a store: operation, subject, and the kind that callers branch on.

use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No such object.
    NotFound,
    /// Credentials missing, wrong or expired, or the right is not granted; a missing bucket too.
    Denied,
    /// No connection, reset, 5xx, 429: may heal.
    Unreachable,
    /// The deadline passed, or the other side fell silent.
    TimedOut,
    /// Encrypted, and the configured keys do not open it; or plain, although keys are configured.
    Key,
    /// What is stored under the name is not what was encrypted.
    Damaged,
    /// The reply or the local input makes no sense (truncated body, impossible range, producer gone).
    Invalid,
}

impl StoreErrorKind {
    /// Whether the object is there and says nothing that can be used.
    pub fn is_unreadable(self) -> bool {
        matches!(self, StoreErrorKind::Key | StoreErrorKind::Damaged)
    }

    /// Whether the same request may succeed later although nothing is changed.
    pub fn may_heal(self) -> bool {
        matches!(self, StoreErrorKind::Unreachable | StoreErrorKind::TimedOut)
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub struct StoreError {
    pub kind: StoreErrorKind,
    /// What was tried: "list", "get", "put", …
    pub operation: &'static str,
    /// The object or replica, as a URL without secrets.
    pub subject: String,
    /// What the other side said, and what the user can do where that is known.
    pub detail: String,
    /// The other side asked not to be asked again before (`Retry-After`).
    pub retry_after: Option<Duration>,
}

impl StoreError {
    pub fn new(
        kind: StoreErrorKind,
        operation: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
    ) -> StoreError {
        StoreError { kind, operation, subject: subject.into(), detail: detail.into(), retry_after: None }
    }

    pub fn with_retry_after(self, retry_after: Option<Duration>) -> StoreError {
        StoreError { retry_after, ..self }
    }

    /// Whether the same request may succeed later although nothing is changed.
    pub fn may_heal(&self) -> bool {
        self.kind.may_heal()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.subject, self.detail)
    }
}

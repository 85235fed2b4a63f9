//! Holds every call to its deadline. In: the deadline and the work. Out: the work's result, or `TimedOut`. Never: retries.

use super::{StoreError, StoreErrorKind};
use crate::model::Deadline;
use std::future::Future;

/// Runs `work` until `by`; then the work is dropped, which ends its request.
pub(super) async fn within<T>(
    by: Deadline,
    operation: &'static str,
    subject: &str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    if by.passed() {
        return Err(timed_out(operation, subject, "no time was left to try"));
    }
    match tokio::time::timeout_at(by.instant().into(), work).await {
        Ok(result) => result,
        Err(_) => {
            Err(timed_out(operation, subject, "no answer in the time allowed; is the store reachable from here?"))
        }
    }
}

fn timed_out(operation: &'static str, subject: &str, detail: &str) -> StoreError {
    StoreError::new(StoreErrorKind::TimedOut, operation, subject, detail)
}

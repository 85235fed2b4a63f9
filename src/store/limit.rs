//! Holds work to its deadline, and repeats the requests of an upload whose content cannot be produced again.

use super::StoreErrorKind;
use super::failure::Failure;
#[cfg(feature = "http")]
use super::retry;
use crate::model::Deadline;
use std::future::Future;
#[cfg(feature = "http")]
use std::time::Duration;

/// A part that moves slower than this is sent again on a new connection.
#[cfg(feature = "http")]
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
/// For a request without content.
#[cfg(feature = "http")]
pub(super) const SHORT_TRY: Duration = Duration::from_secs(30);

/// Runs `work` until `by`; then the work is dropped, which ends its request.
pub(super) async fn within<T>(
    by: Deadline,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let timed_out = |detail: &str| Err(Failure::new(StoreErrorKind::TimedOut, detail));
    if by.passed() {
        return timed_out("no time was left to try");
    }
    match tokio::time::timeout_at(by.instant().into(), work).await {
        Ok(result) => result,
        Err(_) => timed_out("no answer in the time allowed; is the store reachable from here?"),
    }
}

/// Repeats one request of an upload until it succeeds or `by` is near. Each try gets at most `per_try`.
#[cfg(feature = "http")]
pub(super) async fn repeat<T, Work>(
    by: Deadline,
    per_try: Duration,
    request: impl Fn() -> Work,
) -> Result<T, Failure>
where
    Work: Future<Output = Result<T, Failure>>,
{
    retry::run(by, per_try, |_, _| {}, |by| within(by, request())).await
}

/// How long one try to send a part may take.
#[cfg(feature = "http")]
pub(super) fn part_try(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 / SLOWEST_BYTES_PER_SECOND).max(SHORT_TRY)
}

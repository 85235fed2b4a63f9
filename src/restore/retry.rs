//! Tries a request of the store again until it succeeds, fails for good, or the deadline is near.

use crate::model::Deadline;
use crate::store::StoreError;
use std::future::Future;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Each try gets at most `per_try`. `on_retry` hears of every failure that is tried again.
pub async fn run<T, Op, Work>(
    by: Deadline,
    per_try: Duration,
    mut on_retry: impl FnMut(&StoreError, u32),
    mut op: Op,
) -> Result<T, StoreError>
where
    Op: FnMut(Deadline) -> Work,
    Work: Future<Output = Result<T, StoreError>>,
{
    let (mut attempt, mut wait) = (1, FIRST);
    loop {
        let error = match op(by.within(per_try)).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if !error.may_heal() || by.left() < FIRST {
            return Err(error);
        }
        on_retry(&error, attempt);
        tokio::time::sleep(wait.min(by.left() / 2)).await;
        (attempt, wait) = (attempt.saturating_add(1), (wait * 2).min(LONGEST));
    }
}

//! When to try again. Owns: the policy (`next`, pure) and its one doer (`run`). In: a deadline, the length of one try,
//! what to do. Out: the first success, or the last error. Never: repeats what cannot heal, or waits past the deadline.

use super::{StoreError, StoreErrorKind};
use crate::model::Deadline;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    After(Duration),
    GiveUp,
}

/// What to do after try number `attempt` (from 1) failed with `kind` and `left` remains. `jitter` is in 0..1: several
/// databases that lost the same store must not come back in step.
pub fn next(attempt: u32, kind: StoreErrorKind, left: Duration, jitter: f64) -> Verdict {
    if !kind.may_heal() || left < FIRST {
        return Verdict::GiveUp;
    }
    let wait = growing(attempt, jitter);
    // Near the deadline half of the rest is kept for the try itself.
    Verdict::After(wait.min(left / 2))
}

fn growing(attempt: u32, jitter: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

/// The wait after try number `attempt` (from 1) of work that is never given up.
pub fn pause(attempt: u32) -> Duration {
    growing(attempt, random())
}

/// Repeats `op` until it succeeds, fails for good, or `by` is near. Each try gets at most `per_try`. `on_retry` hears
/// of every failure that is tried again, with the number of the try that failed.
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
    let mut attempt = 1;
    loop {
        let error = match op(by.within(per_try)).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match next(attempt, error.kind, by.left(), random()) {
            Verdict::GiveUp => return Err(error),
            Verdict::After(wait) => {
                on_retry(&error, attempt);
                tokio::time::sleep(wait).await;
                attempt = attempt.saturating_add(1);
            }
        }
    }
}

/// A number in 0..1. Every `RandomState` is seeded differently; that is random enough to spread retries.
fn random() -> f64 {
    f64::from((RandomState::new().hash_one(0u8) >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(3600);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn waits_double_up_to_the_cap_and_spread_by_half() {
        for (attempt, shortest, longest) in
            [(1, 50, 100), (2, 100, 200), (3, 200, 400), (6, 1600, 3200), (7, 2500, 5000), (u32::MAX, 2500, 5000)]
        {
            assert_eq!(
                next(attempt, StoreErrorKind::Unreachable, LONG, 0.0),
                Verdict::After(ms(shortest)),
                "{attempt}"
            );
            assert_eq!(next(attempt, StoreErrorKind::TimedOut, LONG, 1.0), Verdict::After(ms(longest)), "{attempt}");
        }
    }

    #[test]
    fn what_cannot_heal_is_not_repeated() {
        for kind in [StoreErrorKind::NotFound, StoreErrorKind::Denied, StoreErrorKind::Invalid] {
            assert_eq!(next(1, kind, LONG, 0.5), Verdict::GiveUp, "{kind:?}");
        }
    }

    #[test]
    fn the_deadline_is_never_slept_through() {
        assert_eq!(next(9, StoreErrorKind::Unreachable, ms(1000), 1.0), Verdict::After(ms(500)));
        assert_eq!(next(1, StoreErrorKind::Unreachable, ms(99), 0.0), Verdict::GiveUp);
        assert_eq!(next(1, StoreErrorKind::Unreachable, Duration::ZERO, 0.0), Verdict::GiveUp);
    }

    fn failure(kind: StoreErrorKind) -> StoreError {
        StoreError::new(kind, "test", "nothing", "on purpose")
    }

    #[tokio::test]
    async fn run_repeats_until_success_and_tells_of_each_failure() {
        let tries = Cell::new(0);
        let mut heard = Vec::new();
        let result = run(
            Deadline::after(LONG),
            ms(50),
            |error, attempt| heard.push((error.kind, attempt)),
            |by| {
                tries.set(tries.get() + 1);
                assert!(by.left() <= ms(50), "each try has its own limit");
                let outcome = if tries.get() < 3 { Err(failure(StoreErrorKind::Unreachable)) } else { Ok(tries.get()) };
                async move { outcome }
            },
        )
        .await;
        assert_eq!(result.unwrap(), 3);
        assert_eq!(heard, [(StoreErrorKind::Unreachable, 1), (StoreErrorKind::Unreachable, 2)]);
    }

    #[tokio::test]
    async fn run_ends_with_the_last_error_by_the_deadline() {
        let started = Instant::now();
        let result: Result<(), _> =
            run(Deadline::after(ms(400)), LONG, |_, _| {}, |_| async { Err(failure(StoreErrorKind::TimedOut)) }).await;
        assert_eq!(result.unwrap_err().kind, StoreErrorKind::TimedOut);
        assert!(started.elapsed() >= ms(200), "gave up after {:?}", started.elapsed());

        let denied: Result<(), _> = run(
            Deadline::after(LONG),
            LONG,
            |_, _| panic!("nothing to tell"),
            |_| async { Err(failure(StoreErrorKind::Denied)) },
        )
        .await;
        assert_eq!(denied.unwrap_err().kind, StoreErrorKind::Denied);
    }

    #[test]
    fn random_numbers_stay_in_range_and_differ() {
        let numbers: Vec<f64> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|n| (0.0..=1.0).contains(n)));
        assert!(numbers.iter().any(|n| (n - numbers[0]).abs() > 0.01));
    }
}

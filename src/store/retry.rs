//! When to try again: the policy (`decide`, pure) and the loop that follows it (`run`). It does not repeat
//! what cannot heal, and does not wait past the deadline.

use super::{StoreError, StoreErrorKind};
use crate::model::Deadline;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// The pause after an error that does not heal by itself is this many times as long.
const STUBBORN: u32 = 6;
/// However long a store asks to be left alone.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// At the last flush no pause is longer.
const HURRIED: Duration = Duration::from_millis(500);
/// While answers wait, a pause after an error that may heal by itself is no longer.
const AWAITED: Duration = Duration::from_secs(1);

/// What waits for the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    Nothing,
    /// Answers that the gate holds.
    Answers,
    /// The app's stop.
    LastFlush,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    After(Duration),
    GiveUp,
}

/// What to do after try number `attempt` (from 1) failed with `kind` and `left` remains. `jitter` is in 0..1:
/// several databases that lost the same store must not come back in step.
pub fn decide(attempt: u32, kind: StoreErrorKind, left: Duration, jitter: f64) -> RetryDecision {
    if !kind.may_heal() || left < FIRST {
        return RetryDecision::GiveUp;
    }
    let wait = growing(attempt, jitter);
    // Near the deadline half of the rest is kept for the try itself.
    RetryDecision::After(wait.min(left / 2))
}

/// The wait, when the other side asked for a longer one: as long as it asked for, but near the deadline no
/// longer than half of the rest.
fn honoured(wait: Duration, asked: Option<Duration>, left: Duration) -> Duration {
    wait.max(asked.unwrap_or_default().min(left / 2))
}

/// The value of a `Retry-After` header in seconds. The other form, a date, is left to our own pauses.
pub(super) fn retry_after(value: Option<&str>) -> Option<Duration> {
    value?.trim().parse().ok().map(Duration::from_secs)
}

fn growing(attempt: u32, jitter: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

/// The wait after try number `attempt` (from 1) of work that is never given up.
pub fn pause(attempt: u32, urgency: Urgency) -> Duration {
    pause_of(growing(attempt, random()), true, None, urgency)
}

/// The same after this error. What does not heal by itself is not asked for all the time, and a store that
/// asks for more time gets it, but a minute is enough.
pub fn pause_after(error: &StoreError, attempt: u32, urgency: Urgency) -> Duration {
    pause_of(growing(attempt, random()), error.kind.may_heal(), error.retry_after, urgency)
}

fn pause_of(pause: Duration, heals: bool, asked: Option<Duration>, urgency: Urgency) -> Duration {
    let pause = match (heals, urgency) {
        (true, Urgency::Answers) => pause.min(AWAITED),
        (true, Urgency::Nothing | Urgency::LastFlush) | (false, Urgency::Answers) => pause,
        (false, Urgency::Nothing | Urgency::LastFlush) => pause * STUBBORN,
    };
    let pause = pause.max(asked.unwrap_or_default().min(LONGEST_ASKED));
    if urgency == Urgency::LastFlush { pause.min(HURRIED) } else { pause }
}

/// An error that says whether another try makes sense.
pub trait Repeatable {
    fn kind(&self) -> StoreErrorKind;
    /// The other side asked not to be asked again before (`Retry-After`).
    fn retry_after(&self) -> Option<Duration>;
}

impl Repeatable for StoreError {
    fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Repeats `op` until it succeeds, fails for good, or `by` is near. Each try gets at most `per_try`.
/// `on_retry` gets every failure that is tried again, with the number of the try that failed.
pub async fn run<T, E, Op, Work>(
    by: Deadline,
    per_try: Duration,
    mut on_retry: impl FnMut(&E, u32),
    mut op: Op,
) -> Result<T, E>
where
    E: Repeatable,
    Op: FnMut(Deadline) -> Work,
    Work: Future<Output = Result<T, E>>,
{
    let mut attempt = 1;
    loop {
        let error = match op(by.within(per_try)).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match decide(attempt, error.kind(), by.left(), random()) {
            RetryDecision::GiveUp => return Err(error),
            RetryDecision::After(wait) => {
                on_retry(&error, attempt);
                tokio::time::sleep(honoured(wait, error.retry_after(), by.left())).await;
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
        for (attempt, shortest, longest) in [
            (1, 50, 100),
            (2, 100, 200),
            (3, 200, 400),
            (6, 1600, 3200),
            (7, 2500, 5000),
            (u32::MAX, 2500, 5000),
        ] {
            assert_eq!(
                decide(attempt, StoreErrorKind::Unreachable, LONG, 0.0),
                RetryDecision::After(ms(shortest)),
                "{attempt}"
            );
            assert_eq!(
                decide(attempt, StoreErrorKind::TimedOut, LONG, 1.0),
                RetryDecision::After(ms(longest)),
                "{attempt}"
            );
        }
    }

    #[test]
    fn what_cannot_heal_is_not_repeated() {
        for kind in [StoreErrorKind::NotFound, StoreErrorKind::Denied, StoreErrorKind::Invalid] {
            assert_eq!(decide(1, kind, LONG, 0.5), RetryDecision::GiveUp, "{kind:?}");
        }
    }

    #[test]
    fn the_deadline_is_never_slept_through() {
        assert_eq!(decide(9, StoreErrorKind::Unreachable, ms(1000), 1.0), RetryDecision::After(ms(500)));
        assert_eq!(decide(1, StoreErrorKind::Unreachable, ms(99), 0.0), RetryDecision::GiveUp);
        assert_eq!(decide(1, StoreErrorKind::Unreachable, Duration::ZERO, 0.0), RetryDecision::GiveUp);
    }

    #[test]
    fn a_store_that_asks_for_time_gets_it_within_the_deadline() {
        for (wait, asked, left, expected) in [
            (100, None, 10_000, 100),
            (100, Some(3), 10_000, 3000),
            (100, Some(3), 4000, 2000),
            (100, Some(3600), 4000, 2000),
            (5000, Some(1), 60_000, 5000),
        ] {
            assert_eq!(
                honoured(ms(wait), asked.map(Duration::from_secs), ms(left)),
                ms(expected),
                "{asked:?} {left}"
            );
        }
        for (value, expected) in
            [(Some("7"), Some(7)), (Some(" 7 "), Some(7)), (Some("Fri, 31 Dec"), None), (None, None)]
        {
            assert_eq!(retry_after(value), expected.map(Duration::from_secs));
        }
    }

    #[test]
    fn pauses_are_short_when_a_flush_or_an_answer_waits() {
        use Urgency::*;
        for (pause, heals, asked, urgency, expected) in [
            (4000, true, None, Nothing, 4000),
            (4000, false, None, Nothing, 24_000),
            (1000, true, Some(20), Nothing, 20_000),
            (1000, true, Some(3600), Nothing, 60_000),
            (4000, true, None, Answers, 1000),
            (100, true, None, Answers, 100),
            (4000, false, None, Answers, 4000),
            (4000, true, Some(20), Answers, 20_000),
            (1000, false, Some(20), LastFlush, 500),
            (100, true, None, LastFlush, 100),
        ] {
            assert_eq!(pause_of(ms(pause), heals, asked.map(Duration::from_secs), urgency), ms(expected));
        }
    }

    fn failure(kind: StoreErrorKind) -> StoreError {
        StoreError::new(kind, "test", "nothing", "on purpose")
    }

    #[tokio::test]
    async fn run_repeats_until_success_and_tells_of_each_failure() {
        let tries = Cell::new(0);
        let mut reported = Vec::new();
        let result = run(
            Deadline::after(LONG),
            ms(50),
            |error: &StoreError, attempt| reported.push((error.kind, attempt)),
            |by| {
                tries.set(tries.get() + 1);
                assert!(by.left() <= ms(50), "each try has its own limit");
                let outcome =
                    if tries.get() < 3 { Err(failure(StoreErrorKind::Unreachable)) } else { Ok(tries.get()) };
                async move { outcome }
            },
        )
        .await;
        assert_eq!(result.unwrap(), 3);
        assert_eq!(reported, [(StoreErrorKind::Unreachable, 1), (StoreErrorKind::Unreachable, 2)]);
    }

    #[tokio::test]
    async fn run_ends_with_the_last_error_by_the_deadline() {
        let started = Instant::now();
        let result: Result<(), StoreError> = run(
            Deadline::after(ms(400)),
            LONG,
            |_, _| {},
            |_| async { Err(failure(StoreErrorKind::TimedOut)) },
        )
        .await;
        assert_eq!(result.unwrap_err().kind, StoreErrorKind::TimedOut);
        assert!(started.elapsed() >= ms(200), "gave up after {:?}", started.elapsed());

        let denied: Result<(), StoreError> = run(
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

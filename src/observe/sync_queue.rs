//! Groups the syncs that clients request over the network, where everyone who reaches the port may ask: many
//! requests cause no more uploads than steady writing does. A request that comes during a sync joins the next
//! batch, because the running sync may have begun before the client's commit. Batches begin at least
//! `spacing` apart.

use super::sync::{SyncAnswer, SyncRequest};
use crate::model::Deadline;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// Longer sync intervals save requests under steady writing; a client that asks for a sync does not wait that
/// long.
const LONGEST_SPACING: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub enum SyncOutcome {
    Answered(SyncAnswer),
    EngineGone,
    /// The next sync may begin after this time, which is past the deadline.
    TooOften(Duration),
    Late,
}

/// None: all databases.
type Subject = Option<String>;
type Answer = watch::Receiver<Option<SyncOutcome>>;

struct Batch {
    answer: Answer,
    begins: Instant,
    /// The latest deadline of the requests in this batch.
    by: Instant,
}

#[derive(Default)]
struct Batches {
    /// Batches that have not begun.
    next: HashMap<Subject, Batch>,
    running: HashMap<Subject, Answer>,
    begun: HashMap<Subject, Instant>,
}

impl Batches {
    /// When a sync of this subject may begin. A sync of all databases counts for each of them, and each of
    /// them for all.
    fn free_at(&self, subject: &Subject, spacing: Duration) -> Option<Instant> {
        let counts = |other: &Subject| subject.is_none() || other.is_none() || other == subject;
        let last = self.begun.iter().filter(|(other, _)| counts(other)).map(|(_, at)| *at).max();
        last.map(|last| last + spacing)
    }
}

#[derive(Clone)]
pub struct SyncQueue {
    spacing: Duration,
    syncs: mpsc::UnboundedSender<SyncRequest>,
    batches: Arc<Mutex<Batches>>,
}

impl SyncQueue {
    pub fn new(spacing: Duration, syncs: mpsc::UnboundedSender<SyncRequest>) -> SyncQueue {
        SyncQueue { spacing: spacing.min(LONGEST_SPACING), syncs, batches: Arc::default() }
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `more`: how much later the engine may answer.
    pub async fn sync(&self, subject: Subject, by: Instant, more: Duration) -> SyncOutcome {
        let mut answer = match self.join(subject, by) {
            Ok(answer) => answer,
            Err(wait) => return SyncOutcome::TooOften(wait),
        };
        match tokio::time::timeout_at((by + more).into(), answer.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(SyncOutcome::EngineGone),
            Ok(Err(_)) => SyncOutcome::EngineGone,
            Err(_) => SyncOutcome::Late,
        }
    }

    /// Joins the next batch of this subject. The error is the time until a batch may begin.
    fn join(&self, subject: Subject, by: Instant) -> Result<Answer, Duration> {
        let mut batches = self.batches();
        let now = Instant::now();
        if let Some(batch) = batches.next.get_mut(&subject) {
            if batch.begins > by {
                return Err(batch.begins - now);
            }
            batch.by = batch.by.max(by);
            return Ok(batch.answer.clone());
        }
        let begins = batches.free_at(&subject, self.spacing).map_or(now, |free| free.max(now));
        if begins > by {
            return Err(begins - now);
        }
        let (sender, answer) = watch::channel(None);
        batches.next.insert(subject.clone(), Batch { answer: answer.clone(), begins, by });
        let before = batches.running.get(&subject).cloned();
        tokio::spawn(self.clone().batch(subject, sender, begins, before));
        Ok(answer)
    }

    async fn batch(
        self,
        subject: Subject,
        to: watch::Sender<Option<SyncOutcome>>,
        begins: Instant,
        before: Option<Answer>,
    ) {
        if let Some(mut before) = before {
            let _ = before.wait_for(Option::is_some).await;
        }
        tokio::time::sleep_until(begins.into()).await;
        let by = {
            let mut batches = self.batches();
            let Some(batch) = batches.next.remove(&subject) else { return };
            batches.begun.insert(subject.clone(), Instant::now());
            batches.running.insert(subject.clone(), batch.answer);
            batch.by
        };
        let (reply, answer) = oneshot::channel();
        let request = SyncRequest { db: subject.clone(), by: Deadline::at(by), reply };
        let outcome = match self.syncs.send(request) {
            Ok(()) => answer.await.map_or(SyncOutcome::EngineGone, SyncOutcome::Answered),
            Err(_) => SyncOutcome::EngineGone,
        };
        let mut batches = self.batches();
        batches.running.remove(&subject);
        // An unknown name uploads nothing, and must not fill the map.
        if !matches!(outcome, SyncOutcome::Answered(SyncAnswer::Done(_))) {
            batches.begun.remove(&subject);
        }
        drop(batches);
        let _ = to.send(Some(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: Duration = Duration::from_millis(200);

    type Seen = Arc<Mutex<Vec<(Instant, Subject)>>>;

    /// Counts what the engine is asked, and answers after `took`.
    fn engine(took: Duration) -> (SyncQueue, Seen) {
        let (syncs, mut asked) = mpsc::unbounded_channel::<SyncRequest>();
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(request) = asked.recv().await {
                log.lock().unwrap().push((Instant::now(), request.db.clone()));
                tokio::time::sleep(took).await;
                let unknown = request.db.as_deref() == Some("/unknown");
                let answer = if unknown { SyncAnswer::Unknown } else { SyncAnswer::Done(Vec::new()) };
                let _ = request.reply.send(answer);
            }
        });
        (SyncQueue::new(SPACING, syncs), seen)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn a_flood_shares_few_rounds_and_each_begins_after_it_was_asked_for() {
        let (queue, seen) = engine(Duration::from_millis(20));
        let begun = Instant::now();
        let mut asks = tokio::task::JoinSet::new();
        while begun.elapsed() < SPACING * 5 {
            for subject in [None, Some("/a.db".to_owned())] {
                let queue = queue.clone();
                asks.spawn(async move {
                    let asked = Instant::now();
                    let outcome = queue.sync(subject, soon(), SPACING).await;
                    assert!(matches!(outcome, SyncOutcome::Answered(SyncAnswer::Done(_))), "{outcome:?}");
                    asked
                });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let last = asks.join_all().await.into_iter().max().unwrap();
        let seen = seen.lock().unwrap().clone();
        let batches = u32::try_from(seen.len()).unwrap();
        assert!(
            batches >= 2 && SPACING * (batches / 2).saturating_sub(1) <= begun.elapsed(),
            "{batches} in {:?}",
            begun.elapsed()
        );
        assert!(seen.iter().any(|(at, _)| *at >= last), "the last asker's commit is in the last batch");
    }

    #[tokio::test]
    async fn the_first_is_immediate_and_who_cannot_wait_is_told() {
        let (queue, seen) = engine(Duration::ZERO);
        let begun = Instant::now();
        queue.sync(None, soon(), SPACING).await;
        assert!(begun.elapsed() < SPACING, "{:?}", begun.elapsed());
        let outcome =
            queue.sync(Some("/a.db".into()), Instant::now() + Duration::from_millis(1), SPACING).await;
        assert!(matches!(outcome, SyncOutcome::TooOften(wait) if wait <= SPACING), "{outcome:?}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn unknown_names_are_forgotten_and_a_dead_engine_is_told() {
        let (queue, _) = engine(Duration::ZERO);
        for _ in 0..3 {
            let outcome = queue.sync(Some("/unknown".into()), soon(), SPACING).await;
            assert!(matches!(outcome, SyncOutcome::Answered(SyncAnswer::Unknown)), "{outcome:?}");
            assert!(queue.batches().begun.is_empty());
        }
        let (syncs, asked) = mpsc::unbounded_channel();
        drop(asked);
        let outcome = SyncQueue::new(SPACING, syncs).sync(None, soon(), SPACING).await;
        assert!(matches!(outcome, SyncOutcome::EngineGone), "{outcome:?}");
    }
}

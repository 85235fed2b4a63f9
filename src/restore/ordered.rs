//! Futures that run side by side and are taken in the order in which they were added.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

pub struct Ordered<'a, T> {
    slots: VecDeque<Slot<'a, T>>,
    taker: Arc<Taker>,
}

enum Slot<'a, T> {
    Running(Pin<Box<dyn Future<Output = T> + Send + 'a>>, Arc<Bell>),
    Done(T),
}

/// Whoever waits for the next result.
#[derive(Default)]
struct Taker(Mutex<Option<Waker>>);

/// One future's waker: with many on the way, only those that were woken are polled.
struct Bell {
    rung: AtomicBool,
    taker: Arc<Taker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let waker = self.taker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Taker {
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Ordered<'_, T> {
    fn default() -> Self {
        Ordered { slots: VecDeque::new(), taker: Arc::default() }
    }
}

impl<'a, T> Ordered<'a, T> {
    pub fn push(&mut self, work: impl Future<Output = T> + Send + 'a) {
        let bell = Bell { rung: AtomicBool::new(true), taker: Arc::clone(&self.taker) };
        self.slots.push_back(Slot::Running(Box::pin(work), Arc::new(bell)));
    }

    /// How many have been added and not been taken.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The result of the one that was added first; the others go on meanwhile. None when there is none.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// The same, for whoever has more to look at.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.taker.lock().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        for slot in &mut self.slots {
            if let Slot::Running(work, bell) = slot
                && bell.rung.swap(false, Ordering::AcqRel)
                && let Poll::Ready(value) = work.as_mut().poll(&mut Context::from_waker(&Arc::clone(bell).into()))
            {
                *slot = Slot::Done(value);
            }
        }
        match self.slots.pop_front() {
            None => Poll::Ready(None),
            Some(Slot::Done(value)) => Poll::Ready(Some(value)),
            Some(running) => {
                self.slots.push_front(running);
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::{Barrier, Notify};

    #[tokio::test]
    async fn all_run_at_once_and_come_in_order() {
        let (gate, barrier) = (Arc::new(Notify::new()), Arc::new(Barrier::new(3)));
        let mut ordered = Ordered::default();
        for n in 0..3 {
            let (gate, barrier) = (gate.clone(), barrier.clone());
            ordered.push(async move {
                // Ends only if all three run side by side; the last one lets the first go.
                barrier.wait().await;
                match n {
                    0 => gate.notified().await,
                    2 => gate.notify_one(),
                    _ => {}
                }
                n
            });
        }
        assert_eq!(ordered.len(), 3);
        let mut taken = Vec::new();
        while let Some(n) = ordered.next().await {
            taken.push(n);
        }
        assert_eq!(taken, [0, 1, 2]);
    }
}

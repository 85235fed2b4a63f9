//! The engine thread's sign of life: a task of its runtime writes it, so a thread that hangs in a call or a
//! lock writes none.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub struct Pulse {
    every: Duration,
    last: Mutex<Instant>,
}

impl Pulse {
    pub fn new(every: Duration) -> Pulse {
        Pulse { every, last: Mutex::new(Instant::now()) }
    }

    fn last(&self) -> MutexGuard<'_, Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn age(&self) -> Duration {
        self.last().elapsed()
    }

    /// For as long as the engine's runtime exists.
    pub async fn beat(&self) {
        loop {
            *self.last() = Instant::now();
            tokio::time::sleep(self.every).await;
        }
    }
}

//! What has arrived of one piece, over all tries.

use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub struct Arrivals(Mutex<State>);

struct State {
    parts: Vec<Bytes>,
    bytes: u64,
    /// When something last arrived; at first, when it was asked for.
    last: Instant,
}

impl Default for Arrivals {
    fn default() -> Self {
        Arrivals(Mutex::new(State { parts: Vec::new(), bytes: 0, last: Instant::now() }))
    }
}

impl Arrivals {
    pub fn take(&self, bytes: Bytes) {
        let mut state = self.lock();
        state.last = Instant::now();
        state.bytes += bytes.len() as u64;
        state.parts.push(bytes);
    }

    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    pub fn into_parts(self) -> Vec<Bytes> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).parts
    }

    /// Ends once nothing has arrived for so long, from now on.
    pub async fn silent_for(&self, limit: Duration) {
        self.lock().last = Instant::now();
        loop {
            let left = limit.saturating_sub(self.lock().last.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The bytes of one piece that have arrived, over all attempts.

use super::memory::{Memory, Parts};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub struct Arrivals {
    state: Mutex<State>,
    memory: Arc<Memory>,
    /// Long pieces go through buffers that are used again; of a short one the bytes are kept as they came.
    copy: bool,
}

struct State {
    parts: Parts,
    /// Those that were taken away included.
    bytes: u64,
    /// When something last arrived; at first, when it was asked for.
    last: Instant,
}

impl Arrivals {
    pub fn new(memory: &Arc<Memory>, copy: bool) -> Arrivals {
        let state = State { parts: Parts::new(memory), bytes: 0, last: Instant::now() };
        Arrivals { state: Mutex::new(state), memory: Arc::clone(memory), copy }
    }

    pub fn take(&self, bytes: Bytes) {
        let mut state = self.lock();
        state.last = Instant::now();
        state.bytes += bytes.len() as u64;
        if self.copy {
            state.parts.copy(&bytes);
        } else {
            state.parts.share(bytes);
        }
    }

    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// What can be used already, if it is at least so many bytes.
    pub fn ready(&self, least: usize) -> Option<Parts> {
        let mut state = self.lock();
        (state.parts.len() >= least).then(|| state.parts.take_full()).filter(|parts| !parts.is_empty())
    }

    /// All that is left.
    pub fn rest(&self) -> Parts {
        std::mem::replace(&mut self.lock().parts, Parts::new(&self.memory))
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

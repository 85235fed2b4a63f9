//! The number of bytes that are requested or wait to be used, and their buffers. Buffers are reused, so that
//! the kernel need not clear new memory for each byte of a large restore. Dropping `Parts` gives back the
//! bytes and the buffer, on any thread. The limit is decided elsewhere (`pieces`).

use bytes::Bytes;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Of one buffer.
const BUFFER: usize = 256 << 10;

#[derive(Default)]
pub struct Memory {
    /// Signed: an object may turn out longer than what was asked for.
    out: AtomicI64,
    waiting: Mutex<Option<Waker>>,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Memory {
    /// Bytes that were asked for and are not used up.
    pub fn out(&self) -> u64 {
        u64::try_from(self.out.load(Ordering::Acquire)).unwrap_or_default()
    }

    pub fn ask(&self, bytes: i64) {
        self.out.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Wakes `waker` once something is used up.
    pub fn when_freed(&self, waker: &Waker) {
        *lock(&self.waiting) = Some(waker.clone());
    }

    fn used_up(&self, bytes: i64) {
        self.out.fetch_sub(bytes, Ordering::AcqRel);
        let waiting = lock(&self.waiting).take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    fn buffer(&self) -> Vec<u8> {
        lock(&self.free).pop().unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }
}

enum Part {
    /// As it came.
    Shared(Bytes),
    /// Copied into a buffer of ours.
    Own(Vec<u8>),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Shared(bytes) => bytes,
            Part::Own(buffer) => buffer,
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Part::Shared(_) => true,
            Part::Own(buffer) => buffer.len() == BUFFER,
        }
    }
}

/// Bytes in the order in which they came.
pub struct Parts {
    memory: Arc<Memory>,
    parts: Vec<Part>,
    bytes: usize,
}

impl Parts {
    pub fn new(memory: &Arc<Memory>) -> Parts {
        Parts { memory: Arc::clone(memory), parts: Vec::new(), bytes: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(Part::bytes)
    }

    pub fn share(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.parts.push(Part::Shared(bytes));
    }

    pub fn copy(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            if self.parts.last().is_none_or(Part::is_full) {
                self.parts.push(Part::Own(self.memory.buffer()));
            }
            let Some(Part::Own(buffer)) = self.parts.last_mut() else { return };
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER.saturating_sub(buffer.len())));
            buffer.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Everything but a buffer that is still being filled.
    pub fn take_full(&mut self) -> Parts {
        let filling = self.parts.pop_if(|part| !part.is_full());
        let left = filling.as_ref().map_or(0, |part| part.bytes().len());
        let full = Parts {
            memory: Arc::clone(&self.memory),
            parts: std::mem::take(&mut self.parts),
            bytes: self.bytes - left,
        };
        self.parts.extend(filling);
        self.bytes = left;
        full
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let own = self.parts.drain(..).filter_map(|part| match part {
            Part::Own(mut buffer) => {
                buffer.clear();
                Some(buffer)
            }
            Part::Shared(_) => None,
        });
        lock(&self.memory.free).extend(own);
        if self.bytes > 0 {
            self.memory.used_up(i64::try_from(self.bytes).unwrap_or(i64::MAX));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(parts: &Parts) -> Vec<u8> {
        parts.iter().flatten().copied().collect()
    }

    #[test]
    fn what_came_is_there_in_order_and_is_given_back() {
        let memory = Arc::new(Memory::default());
        let bytes: Vec<u8> = (0..BUFFER * 5 / 2).map(|at| (at % 251) as u8).collect();
        memory.ask(bytes.len() as i64);
        let mut parts = Parts::new(&memory);
        for piece in bytes.chunks(100_003) {
            parts.copy(piece);
        }
        let full = parts.take_full();
        assert_eq!((full.len(), parts.len()), (2 * BUFFER, BUFFER / 2));
        assert_eq!([all(&full), all(&parts)].concat(), bytes);
        drop(full);
        assert_eq!((memory.out(), lock(&memory.free).len()), (BUFFER as u64 / 2, 2));
        parts.copy(&bytes[..BUFFER]);
        assert_eq!(lock(&memory.free).len(), 1, "used again");
        drop(parts);
        // More came than was asked for.
        assert_eq!((memory.out(), lock(&memory.free).len()), (0, 3));
        memory.ask(BUFFER as i64);
        assert_eq!(memory.out(), 0);
    }

    #[test]
    fn shared_bytes_are_full_at_once() {
        let memory = Arc::new(Memory::default());
        let mut parts = Parts::new(&memory);
        parts.share(Bytes::from_static(b"abc"));
        parts.copy(b"def");
        assert_eq!((all(&parts.take_full()), all(&parts)), (b"abc".to_vec(), b"def".to_vec()));
        parts.share(Bytes::from_static(b"g"));
        assert_eq!(all(&parts.take_full()), b"defg", "what is behind a part says that it is at its end");
        assert!(parts.is_empty());
    }
}

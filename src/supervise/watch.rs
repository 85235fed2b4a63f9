//! What the main thread waits for: the signal queue, and an eventfd that any thread can write to. Without a
//! deadline it sleeps until one of them is ready.

use super::claim::Claimed;
use crate::model::Signal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A received signal. The queue keeps every real-time signal, which a handler cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub signal: Signal,
    /// The PID of the sender; 0 for the kernel and for other namespaces.
    pub sender: u32,
}

pub struct Watch {
    claimed: Claimed,
    eventfd: Arc<EventFd>,
}

/// Wakes the main thread, from any thread. Does not block.
#[derive(Clone)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    pub fn wake(&self) {
        // EAGAIN: it is set already.
        let _ = self.0.write(1);
    }
}

impl Watch {
    pub fn new(claimed: Claimed) -> std::io::Result<Watch> {
        let eventfd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Watch { claimed, eventfd: Arc::new(eventfd) })
    }

    pub fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    pub fn release_descriptors(&mut self) {
        self.claimed.release_descriptors();
    }

    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.eventfd))
    }

    /// The next queued signal, if any.
    pub fn signal(&self) -> Option<Received> {
        let info = self.claimed.signals.read_signal().ok().flatten()?;
        Some(Received { signal: Signal(i32::try_from(info.ssi_signo).ok()?), sender: info.ssi_pid })
    }

    /// Sleeps until a signal is queued, the eventfd is written, or `until` has passed.
    pub fn wait(&self, until: Option<Instant>) {
        let timeout =
            until.map_or(PollTimeout::NONE, |at| timeout(at.saturating_duration_since(Instant::now())));
        let mut fds = [
            PollFd::new(self.claimed.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.eventfd.as_fd(), PollFlags::POLLIN),
        ];
        // An error or a spurious return costs one more round of the caller's loop, nothing else.
        let _ = poll(&mut fds, timeout);
        let _ = self.eventfd.read();
    }
}

/// Rounded up, so that the deadline has passed when poll returns.
fn timeout(left: Duration) -> PollTimeout {
    let millis = left.as_micros().div_ceil(1000);
    PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_round_up_and_never_overflow() {
        assert_eq!(timeout(Duration::ZERO).as_millis(), Some(0));
        assert_eq!(timeout(Duration::from_micros(1)).as_millis(), Some(1));
        assert_eq!(timeout(Duration::from_micros(2500)).as_millis(), Some(3));
        assert_eq!(timeout(Duration::from_secs(31_536_000)).as_millis(), Some(i32::MAX as u32));
    }
}

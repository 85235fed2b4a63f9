//! What the supervising thread sleeps on: the signal queue, and a wake-up that any thread may ring.
//! Never wakes by itself: without a deadline it sleeps until something happens.

use super::claim::Claimed;
use crate::model::Signal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A signal as it was received. The queue keeps real-time signals apart and counts them, as no handler can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub signal: Signal,
    /// Process that sent it, as seen from here; 0 for the kernel and for other namespaces.
    pub sender: u32,
}

pub struct Watch {
    claimed: Claimed,
    bell: Arc<EventFd>,
}

/// Rings the bell; from any thread, never blocks.
#[derive(Clone)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    pub fn wake(&self) {
        // Full (EAGAIN) means that it rings already.
        let _ = self.0.write(1);
    }
}

impl Watch {
    pub fn new(claimed: Claimed) -> std::io::Result<Watch> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Watch { claimed, bell: Arc::new(bell) })
    }

    pub fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    pub fn let_go_of_descriptors(&mut self) {
        self.claimed.let_go_of_descriptors();
    }

    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.bell))
    }

    /// The next queued signal, if any.
    pub fn signal(&self) -> Option<Received> {
        let info = self.claimed.signals.read_signal().ok().flatten()?;
        Some(Received { signal: Signal(i32::try_from(info.ssi_signo).ok()?), sender: info.ssi_pid })
    }

    /// Sleeps until a signal is queued, the bell rings, or `until` has passed.
    pub fn wait(&self, until: Option<Instant>) {
        let timeout = until.map_or(PollTimeout::NONE, |at| timeout(at.saturating_duration_since(Instant::now())));
        let mut fds = [
            PollFd::new(self.claimed.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.bell.as_fd(), PollFlags::POLLIN),
        ];
        // An error or a spurious return costs one more round of the caller's loop, nothing else.
        let _ = poll(&mut fds, timeout);
        let _ = self.bell.read();
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

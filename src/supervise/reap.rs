//! The only file that waits for children. Nothing else in this program may: a second reaper (`std::process` with
//! output, `tokio::process`) and this one would steal each other's statuses.

use crate::model::{AppExit, Signal};
use nix::libc;

/// What one round of waiting brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// How the app ended, when it did.
    pub app: Option<AppExit>,
    /// Other children, most of them adopted orphans.
    pub others: usize,
    /// No child is left at all. We adopt orphans, so no descendant is left either.
    pub childless: bool,
}

/// Waits for everything that has ended. One SIGCHLD may stand for many children.
pub fn reap(app: Option<i32>) -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match wait(-1, libc::WNOHANG) {
            Waited::Ended(pid, exit) if Some(pid) == app => reaped.app = Some(exit),
            Waited::Ended(..) => reaped.others += 1,
            Waited::Nothing => return reaped,
            Waited::Childless => {
                reaped.childless = true;
                return reaped;
            }
        }
    }
}

/// Waits for a child that is about to end: a fork that could not exec.
pub(super) fn reap_failed_spawn(pid: i32) {
    let _ = wait(pid, 0);
}

enum Waited {
    Ended(i32, AppExit),
    Nothing,
    Childless,
}

/// nix's `waitpid` consumes a child killed by a real-time signal and then answers EINVAL: its status would be lost.
fn wait(pid: i32, flags: i32) -> Waited {
    let mut status = 0;
    // SAFETY: `status` is a live, writable integer.
    let ended = unsafe { libc::waitpid(pid, &mut status, flags) };
    match ended {
        0 => Waited::Nothing,
        1.. => Waited::Ended(ended, decode(status)),
        _ => Waited::Childless,
    }
}

fn decode(status: i32) -> AppExit {
    if libc::WIFSIGNALED(status) {
        AppExit::Signal(Signal(libc::WTERMSIG(status)))
    } else {
        AppExit::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(decode(0), AppExit::Code(0));
        assert_eq!(decode(255 << 8), AppExit::Code(255));
        assert_eq!(decode(15), AppExit::Signal(Signal(15)));
        assert_eq!(decode(11 | 0x80), AppExit::Signal(Signal(11)), "with a core dump");
        assert_eq!(decode(64), AppExit::Signal(Signal(64)), "real-time");
    }
}

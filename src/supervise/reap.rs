//! The only file that waits for children. Nothing else in this program may: a second reaper (`std::process`
//! with output, `tokio::process`) and this one would steal each other's statuses.

use crate::model::{AppExit, Signal};
use nix::libc;

/// The result of one round of waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// The app's exit, if it has exited.
    pub app: Option<AppExit>,
    /// Other children, most of them adopted orphans.
    pub others: usize,
    /// No child is left. litevisor adopts orphans, so no descendant is left either.
    pub childless: bool,
}

/// Waits for all children that have exited. One SIGCHLD may stand for many of them.
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

/// Waits for a child that is about to exit because its exec has failed.
pub(super) fn reap_failed_spawn(pid: i32) {
    let _ = wait(pid, 0);
}

/// The children of this process, found by a wait for each number: nothing hides a child from its parent.
/// Takes some milliseconds for the usual 32,768 numbers, a second for four million.
pub(super) fn children(highest: i32) -> Vec<i32> {
    (1..=highest).filter(|pid| is_child(*pid)).collect()
}

pub(super) fn is_child(pid: i32) -> bool {
    let id = libc::id_t::try_from(pid).unwrap_or_default();
    // SAFETY: all bits zero are a siginfo that says nothing; WNOWAIT leaves the child's status where it is.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) == 0
    }
}

/// Waits for the guard (`guard`), which no other wait in this file sees. False while it still runs.
pub(super) fn reap_guard(pid: i32) -> bool {
    !matches!(wait(pid, libc::WNOHANG | libc::__WCLONE), Waited::Nothing)
}

enum Waited {
    Ended(i32, AppExit),
    Nothing,
    Childless,
}

/// nix's `waitpid` consumes a child killed by a real-time signal and then answers EINVAL: its status would be
/// lost.
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

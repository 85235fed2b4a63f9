//! Sending signals. In: a process or a group, a signal by number (nix knows no real-time signals).

use crate::model::Signal;
use nix::libc;

/// To one process. A process that is gone is no error: that is what was wanted.
pub(super) fn process(pid: i32, signal: Signal) {
    send(pid, signal);
}

/// To every member of a process group.
pub(super) fn group(group: i32, signal: Signal) {
    send(-group, signal);
}

/// As PID 1: to everything in the namespace but ourselves.
pub(super) fn everything(signal: Signal) {
    send(-1, signal);
}

/// Somebody, alive or zombie, is in this group.
pub(super) fn group_exists(group: i32) -> bool {
    send(-group, Signal(0))
}

/// False when there is nobody to send it to. EPERM means that there is somebody.
fn send(target: i32, signal: Signal) -> bool {
    // SAFETY: kill takes two integers and touches no memory.
    let result = unsafe { libc::kill(target, signal.0) };
    result == 0 || nix::Error::last() != nix::Error::ESRCH
}

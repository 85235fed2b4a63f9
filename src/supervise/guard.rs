//! The guard: a small process that ends the app when litevisor is killed (`kill -9`, the OOM killer). It
//! exists if litevisor is not PID 1; when PID 1 ends, the kernel ends all processes of the namespace. The
//! parent-death signal alone would not be enough: it reaches only the direct child, and not after a change of
//! its user, so an app behind a shell would continue without replication.
//!
//! The guard is forked before any thread exists. It sleeps in `read` on a pipe whose other end only litevisor
//! holds; litevisor writes there which group is the app's. Processes that have left the group are found by a
//! mark that every process of the app inherits: the soft limit of file locks, which Linux ignores since 2.4.
//! `wait` does not report the guard (it has no exit signal); it is in no group or session of litevisor, and
//! holds none of its descriptors and secrets.

use super::kill::{self, Sender, Sent};
use super::{environ, procs, reap};
use crate::model::Signal;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{chdir, pipe2};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// As `ps` shows it.
const NAME: &std::ffi::CStr = c"litevisor-guard";
/// Rounds of SIGKILL, with `PAUSE` between them: a process that forks meanwhile is found in the next round.
const ROUNDS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Guard {
    pid: i32,
    /// None once it is closed.
    pipe: Option<OwnedFd>,
    mark: u64,
}

/// The app's group and its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WatchedApp {
    /// 0: no process of the app is left.
    group: i32,
    user: Option<u32>,
}

impl Guard {
    /// None if it cannot be started: then only the parent-death signal remains.
    pub(super) fn start() -> Option<Guard> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).ok()?;
        // Below the usual limit (unlimited), and random, so that no other process has it by chance.
        let mark = RandomState::new().hash_one(std::process::id()) >> 2 | 1 << 60;
        // SAFETY: no other thread exists yet, so the child has no restrictions. No flags and no exit signal:
        // a fork that `wait` does not report.
        match unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) } {
            -1 => None,
            0 => {
                // Here it must be closed: the end of the last writer is the end of litevisor.
                drop(write);
                watch(&read, mark);
                // SAFETY: ends the process without running anything of the parent's.
                unsafe { libc::_exit(0) }
            }
            pid => Some(Guard { pid: i32::try_from(pid).ok()?, pipe: Some(write), mark }),
        }
    }

    /// The soft limit of file locks of the app, and of everything that it starts.
    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    /// The app has been started with this group.
    pub(super) fn watch_over(&self, group: i32, user: Option<u32>) {
        self.send(WatchedApp { group, user });
    }

    /// No process of the app is left.
    pub(super) fn stand_down(&self) {
        self.send(WatchedApp { group: 0, user: None });
    }

    /// Writes a few bytes to an empty pipe, which does not block. A guard that has ended makes no difference.
    fn send(&self, app: WatchedApp) {
        let bytes = app.encode();
        if let Some(pipe) = &self.pipe {
            // SAFETY: a live buffer and its length. SIGPIPE is blocked in all our threads.
            unsafe { libc::write(pipe.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        }
    }
}

impl Drop for Guard {
    /// The guard ends when the pipe closes; waiting for it leaves no zombie to litevisor's parent.
    fn drop(&mut self) {
        self.pipe = None;
        for _ in 0..20 {
            if reap::reap_guard(self.pid) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl WatchedApp {
    const SIZE: usize = 8;

    fn encode(self) -> [u8; Self::SIZE] {
        let [a, b, c, d] = self.group.to_ne_bytes();
        let [e, f, g, h] = self.user.unwrap_or(u32::MAX).to_ne_bytes();
        [a, b, c, d, e, f, g, h]
    }

    fn decode([a, b, c, d, e, f, g, h]: [u8; Self::SIZE]) -> WatchedApp {
        let user = u32::from_ne_bytes([e, f, g, h]);
        WatchedApp { group: i32::from_ne_bytes([a, b, c, d]), user: (user != u32::MAX).then_some(user) }
    }
}

/// The guard's main function.
fn watch(pipe: &OwnedFd, mark: u64) {
    apart(pipe.as_raw_fd());
    let mut app = WatchedApp { group: 0, user: None };
    let mut message = [0; WatchedApp::SIZE];
    loop {
        // SAFETY: a live buffer and its length. Messages are shorter than what a pipe writes in one piece.
        match unsafe { libc::read(pipe.as_raw_fd(), message.as_mut_ptr().cast(), message.len()) } {
            n if usize::try_from(n) == Ok(WatchedApp::SIZE) => app = WatchedApp::decode(message),
            -1 if nix::errno::Errno::last() == nix::errno::Errno::EINTR => {}
            _ => break,
        }
    }
    if app.group != 0 {
        end(app, mark);
    }
}

/// Shares only the pipe with litevisor: it keeps no output, session or directory of litevisor in use. All
/// signals are blocked already.
fn apart(pipe: RawFd) {
    environ::forget_everything();
    environ::forget_arguments(NAME.to_bytes());
    let _ = chdir("/");
    // SAFETY: system calls on plain integers and one C string; no descriptor above and below the pipe is used
    // here.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        // The OOM killer must choose the guard last.
        let pipe = pipe.unsigned_abs();
        let most = libc::c_uint::MAX;
        if pipe > 0 {
            close_range(0, pipe - 1);
        }
        close_range(pipe + 1, most);
    }
}

/// Kernels before 5.9 have no `close_range`.
///
/// # Safety
/// Nothing in this process may use a descriptor of that range any more.
unsafe fn close_range(first: u32, last: u32) {
    // SAFETY: as the caller promises.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
            for fd in first..=last.min(65_535) {
                libc::close(fd as RawFd);
            }
        }
    }
}

fn end(app: WatchedApp, mark: u64) {
    let sender = Sender::new(app.user);
    for _ in 0..ROUNDS {
        let group = sender.group(app.group, Signal::KILL);
        let marked: Vec<i32> = procs::with_lock_limit(mark);
        for &pid in &marked {
            sender.process(pid, Signal::KILL);
        }
        if marked.is_empty() && (group == Sent::Gone || !kill::lives_in_group(app.group)) {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_the_pipe_comes_out() {
        for app in [
            WatchedApp { group: 0, user: None },
            WatchedApp { group: 4_194_304, user: Some(0) },
            WatchedApp { group: 7, user: Some(12_345) },
        ] {
            assert_eq!(WatchedApp::decode(app.encode()), app);
        }
    }
}

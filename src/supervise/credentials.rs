//! The rights of this thread: which capabilities are in effect, and work done as another user. The kernel
//! keeps both for each thread, and the bare system calls change one thread alone; the C library's functions
//! would change all of them.

use nix::libc::{self, c_int};

const CAP_KILL: u32 = 5;
const CAP_SETUID: u32 = 7;

/// Any process may be signalled. An unknown answer counts as no.
pub(super) fn may_signal_anyone() -> bool {
    effective(CAP_KILL)
}

/// Any user may be taken on.
pub(super) fn may_change_user() -> bool {
    effective(CAP_SETUID)
}

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3: two words for each set.
const VERSION: u32 = 0x2008_0522;

/// Of the first 32 capabilities.
fn effective(capability: u32) -> bool {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: a live header, and room for the two structures that this version writes.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    let [first, _] = data;
    result == 0 && first.effective & (1 << capability) != 0
}

/// Does `work` with `uid` as the effective user of this thread, or unchanged if that is not allowed. The real
/// and the saved user stay, so that the thread can always return, and that user's processes get no right over
/// this one: for those rights the kernel checks the real and the saved user.
pub(super) fn as_user<T>(uid: u32, work: impl FnOnce() -> T) -> T {
    const KEEP: c_int = -1;
    // SAFETY: system calls that take integers, and change this thread and two flags of the process alone.
    unsafe {
        let before = libc::geteuid();
        let dumpable = libc::prctl(libc::PR_GET_DUMPABLE);
        let mut parent_death = 0;
        libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut parent_death);
        if libc::syscall(libc::SYS_setresuid, KEEP, uid, KEEP) != 0 {
            return work();
        }
        let done = work();
        libc::syscall(libc::SYS_setresuid, KEEP, before, KEEP);
        // A change of the user clears both flags: the process could no longer be inspected in /proc.
        libc::prctl(libc::PR_SET_DUMPABLE, dumpable);
        libc::prctl(libc::PR_SET_PDEATHSIG, parent_death);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own text is the judge.
    #[test]
    fn capabilities_are_those_of_the_thread() {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let set = u64::from_str_radix(line.trim(), 16).unwrap();
        for (capability, answer) in [(CAP_KILL, may_signal_anyone()), (CAP_SETUID, may_change_user())] {
            assert_eq!(answer, set & (1 << capability) != 0, "{capability}");
        }
    }

    #[test]
    fn the_user_is_another_one_for_the_work_alone() {
        // SAFETY: takes nothing.
        let euid = || unsafe { libc::geteuid() };
        // SAFETY: takes no further argument.
        let dumpable = || unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        let (before, flag) = (euid(), dumpable());
        let inside = as_user(12_345, euid);
        assert_eq!(inside, if may_change_user() { 12_345 } else { before });
        assert_eq!((euid(), dumpable()), (before, flag));
    }
}

//! The child between fork and exec: follows the `Plan`, which is complete before the fork, and becomes the
//! app's program, or writes a `Failure` to the pipe.
//!
//! Nothing here allocates, locks, logs or returns: the parent has threads, and a lock that one of them held
//! at the fork stays locked in the child for ever. For the same reason the bare system calls change the ids:
//! the C library's functions would signal threads that do not exist here.

use super::claim::Inherited;
use super::command::{Command, NAMES_US};
use super::program;
use super::user::Identity;
use nix::errno::Errno;
use nix::libc::{self, c_char, c_int};
use nix::sys::signal::SigSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const SHELL: &CStr = c"/bin/sh";

/// What the child needs, in the form that the system calls take.
pub(super) struct Plan {
    command: Command,
    /// Null-terminated, into `command`.
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// argv of `/bin/sh FILE ARGS...`; the child puts the file in.
    shell: Vec<*const c_char>,
    pub(super) identity: Option<Identity>,
    pub(super) working_dir: Option<CString>,
    pub(super) no_new_privs: bool,
    pub(super) take_terminal: bool,
    /// Entered with the app's rights, if litevisor's are not enough (no CAP_DAC_OVERRIDE).
    pub(super) directory: Option<CString>,
    /// The soft limit of file locks by which the guard finds the app's processes.
    pub(super) mark: Option<u64>,
    mask: SigSet,
    child_ignored: bool,
    pipe_ignored: bool,
    files: Option<libc::rlimit>,
    core: Option<libc::rlimit>,
    parent: c_int,
    report: RawFd,
    /// Variables that name litevisor's PID: the index in `env`, and the new entry.
    names_us: Vec<(usize, Entry)>,
}

/// A variable's name, `=`, ten digits, NUL.
type Entry = [u8; ENTRY];
const ENTRY: usize = 32;

/// The step that failed; a number in the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Group,
    Groups,
    Gid,
    Uid,
    /// The child could still return to the old user.
    Regained,
    NoNewPrivs,
    ParentDeath,
    Directory,
    WorkingDir,
    Files,
    Mask,
    Exec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: Errno,
    /// The index of the command's candidate.
    pub(super) candidate: u32,
}

impl Plan {
    pub(super) fn new(command: Command, inherited: &Inherited, report: &OwnedFd) -> Plan {
        let pointers = |words: &[CString]| words.iter().map(|word| word.as_ptr()).collect::<Vec<_>>();
        let terminated = |mut words: Vec<*const c_char>| {
            words.push(std::ptr::null());
            words
        };
        let mut shell = vec![SHELL.as_ptr(), std::ptr::null()];
        shell.extend(pointers(command.argv.get(1..).unwrap_or_default()));
        let names_us = command.names_us.iter().map(|index| (*index, [0; ENTRY])).collect();
        Plan {
            names_us,
            argv: terminated(pointers(&command.argv)),
            env: terminated(pointers(&command.env)),
            shell: terminated(shell),
            command,
            identity: None,
            working_dir: None,
            no_new_privs: false,
            take_terminal: false,
            directory: None,
            mark: None,
            mask: inherited.mask,
            child_ignored: inherited.child_ignored,
            pipe_ignored: inherited.pipe_ignored,
            files: inherited.files,
            core: inherited.core,
            parent: nix::unistd::getpid().as_raw(),
            report: report.as_raw_fd(),
        }
    }

    pub(super) fn candidate(&self, failure: &Failure) -> &CStr {
        self.command.candidates.get(failure.candidate as usize).map_or(c"", CString::as_c_str)
    }

    pub(super) fn candidates(&self) -> &[CString] {
        &self.command.candidates
    }

    /// In the child only.
    pub(super) fn run(&mut self) -> ! {
        self.name_app();
        let failure = match self.prepare() {
            Err(failure) => failure,
            Ok(()) => self.exec(),
        };
        let message = failure.encode();
        // SAFETY: a live buffer and its length; _exit ends the process without running anything of the
        // parent's.
        unsafe {
            libc::write(self.report, message.as_ptr().cast(), message.len());
            libc::_exit(127)
        }
    }

    /// Socket activation and systemd's watchdog name a process by its PID: it must be the app's.
    fn name_app(&mut self) {
        // SAFETY: a bare system call.
        let pid = unsafe { libc::getpid() };
        for (index, buffer) in &mut self.names_us {
            let old = self.command.env.get(*index).map_or(&[][..], |entry| entry.to_bytes());
            let Some(name) = NAMES_US.iter().find(|name| old.starts_with(name.as_bytes())) else { continue };
            write_entry(buffer, name, pid.unsigned_abs());
            if let Some(entry) = self.env.get_mut(*index) {
                *entry = buffer.as_ptr().cast();
            }
        }
    }

    /// The order matters: the terminal while signals are blocked (else SIGTTOU stops us); groups before the
    /// ids that allow them; the parent-death signal after the ids, which clear it; the mask last.
    fn prepare(&self) -> Result<(), Failure> {
        // SAFETY: every call is a bare system call (or documented async-signal-safe) on plain integers.
        unsafe {
            check(Step::Group, libc::setpgid(0, 0))?;
            if self.take_terminal {
                // The app runs without the terminal, too.
                libc::tcsetpgrp(0, libc::getpid());
            }
        }
        if let Some(identity) = &self.identity {
            become_user(identity)?;
        }
        // SAFETY: as above; the path is a live C string, limits and mask live structures.
        unsafe {
            if self.no_new_privs {
                check(Step::NoNewPrivs, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            }
            check(Step::ParentDeath, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
            if libc::getppid() != self.parent {
                // It died before the line above: there is no process left to report to.
                libc::_exit(libc::EXIT_FAILURE);
            }
            if let Some(directory) = &self.directory {
                check(Step::Directory, libc::chdir(directory.as_ptr()))?;
            }
            if let Some(directory) = &self.working_dir {
                check(Step::WorkingDir, libc::chdir(directory.as_ptr()))?;
            }
            // litevisor may have raised the limit. Open descriptors above the limit stay open, and close at
            // the exec.
            if let Some(files) = &self.files {
                check(Step::Files, libc::setrlimit(libc::RLIMIT_NOFILE, files))?;
            }
            if let Some(core) = &self.core {
                // Raising it to the old value is always allowed: the hard limit is unchanged.
                libc::setrlimit(libc::RLIMIT_CORE, core);
            }
            if let Some(mark) = self.mark {
                mark_limit(mark);
            }
            // Rust's runtime ignores SIGPIPE; an ignored signal would stay ignored over exec.
            if !self.pipe_ignored {
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            }
            if self.child_ignored {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            }
            check(Step::Mask, libc::sigprocmask(libc::SIG_SETMASK, self.mask.as_ref(), std::ptr::null_mut()))
        }
    }

    /// As execvp: further candidates after "not there" and "not allowed", the shell for a file without a
    /// format.
    fn exec(&mut self) -> Failure {
        let mut denied = None;
        let mut last = Errno::ENOENT;
        let several = self.command.candidates.len() > 1;
        for (index, file) in (0u32..).zip(&self.command.candidates) {
            // SAFETY: null-terminated arrays of pointers to C strings that `self` owns.
            unsafe { libc::execve(file.as_ptr(), self.argv.as_ptr(), self.env.as_ptr()) };
            last = Errno::last();
            if last == Errno::ENOEXEC {
                if holds_binary(file) {
                    return Failure { step: Step::Exec, errno: last, candidate: index };
                }
                if let Some(slot) = self.shell.get_mut(1) {
                    *slot = file.as_ptr();
                }
                // SAFETY: as above.
                unsafe { libc::execve(SHELL.as_ptr(), self.shell.as_ptr(), self.env.as_ptr()) };
                return Failure { step: Step::Exec, errno: Errno::ENOEXEC, candidate: index };
            }
            match last {
                Errno::EACCES => denied = denied.or(Some(index)),
                Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
                errno => return Failure { step: Step::Exec, errno, candidate: index },
            }
        }
        match denied {
            Some(candidate) => Failure { step: Step::Exec, errno: Errno::EACCES, candidate },
            None if several => Failure { step: Step::Exec, errno: Errno::ENOENT, candidate: 0 },
            None => Failure { step: Step::Exec, errno: last, candidate: 0 },
        }
    }
}

/// Without allocating. The rest of the buffer is NUL.
fn write_entry(buffer: &mut Entry, name: &str, pid: u32) {
    let digits = pid.checked_ilog10().unwrap_or(0);
    let number = (0..=digits).rev().filter_map(|place| u8::try_from(pid / 10u32.pow(place) % 10).ok());
    let text = name.bytes().chain(number.map(|digit| b'0' + digit));
    for (slot, byte) in buffer.iter_mut().zip(text) {
        *slot = byte;
    }
}

/// A file that cannot be read may be a script all the same.
fn holds_binary(file: &CStr) -> bool {
    let mut head = [0; program::HEAD];
    // SAFETY: system calls on a live C string and a live buffer with its length.
    let length = unsafe {
        let fd = libc::open(file.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let length = libc::read(fd, head.as_mut_ptr().cast(), head.len());
        libc::close(fd);
        length
    };
    head.get(..usize::try_from(length).unwrap_or(0)).is_some_and(program::is_binary)
}

/// The hard limit stays; a kernel that knows no such limit refuses.
fn mark_limit(mark: u64) {
    // SAFETY: a live structure; all bits zero are a valid one.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_LOCKS, &raw mut limit);
        limit.rlim_cur = (mark as libc::rlim_t).min(limit.rlim_max);
        libc::setrlimit(libc::RLIMIT_LOCKS, &raw const limit);
    }
}

/// For good: real, effective and saved ids, and the way back is tried.
fn become_user(identity: &Identity) -> Result<(), Failure> {
    let uid = identity.uid;
    let gid = identity.gid;
    // SAFETY: bare system calls; the group list is live for the call.
    unsafe {
        check_long(
            Step::Groups,
            libc::syscall(libc::SYS_setgroups, identity.groups.len(), identity.groups.as_ptr()),
        )?;
        check_long(Step::Gid, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check_long(Step::Uid, libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        let regained = uid != 0 && libc::syscall(libc::SYS_setresuid, 0, 0, 0) == 0;
        if regained || libc::getuid() != uid || libc::geteuid() != uid || libc::getegid() != gid {
            return Err(Failure { step: Step::Regained, errno: Errno::EPERM, candidate: 0 });
        }
    }
    Ok(())
}

fn check(step: Step, result: c_int) -> Result<(), Failure> {
    check_long(step, result.into())
}

fn check_long(step: Step, result: libc::c_long) -> Result<(), Failure> {
    if result == -1 { Err(Failure { step, errno: Errno::last(), candidate: 0 }) } else { Ok(()) }
}

impl Failure {
    pub(super) const SIZE: usize = 9;

    fn encode(self) -> [u8; Self::SIZE] {
        let [a, b, c, d] = (self.errno as i32).to_ne_bytes();
        let [e, f, g, h] = self.candidate.to_ne_bytes();
        [self.step as u8, a, b, c, d, e, f, g, h]
    }

    pub(super) fn decode([step, a, b, c, d, e, f, g, h]: [u8; Self::SIZE]) -> Failure {
        let steps = [
            Step::Group,
            Step::Groups,
            Step::Gid,
            Step::Uid,
            Step::Regained,
            Step::NoNewPrivs,
            Step::ParentDeath,
            Step::Directory,
            Step::WorkingDir,
            Step::Files,
            Step::Mask,
        ];
        Failure {
            step: steps.into_iter().find(|known| *known as u8 == step).unwrap_or(Step::Exec),
            errno: Errno::from_raw(i32::from_ne_bytes([a, b, c, d])),
            candidate: u32::from_ne_bytes([e, f, g, h]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_is_named() {
        for pid in [0, 1, 9, 10, 4_194_304, u32::MAX] {
            for name in NAMES_US {
                let mut buffer = [0; ENTRY];
                write_entry(&mut buffer, name, pid);
                let text = CStr::from_bytes_until_nul(&buffer).unwrap();
                assert_eq!(text.to_str().unwrap(), format!("{name}{pid}"));
            }
        }
    }

    #[test]
    fn what_went_in_the_pipe_comes_out() {
        for step in [
            Step::Group,
            Step::Groups,
            Step::Gid,
            Step::Uid,
            Step::Regained,
            Step::Files,
            Step::Mask,
            Step::Exec,
        ] {
            let failure = Failure { step, errno: Errno::EACCES, candidate: 0x1234_5678 };
            assert_eq!(Failure::decode(failure.encode()), failure);
        }
    }
}

//! Between fork and exec, in the child. In: a `Plan`, complete before the fork. Out: the app's program, or a `Failure`
//! in the pipe. Never allocates, locks, logs or returns: the parent has threads, and a lock that one of them held at
//! the fork stays held here for ever. For the same reason ids are changed by the bare system calls: the C library's
//! functions want to tell threads that are not here.

use super::claim::Inherited;
use super::command::Command;
use super::user::Identity;
use nix::errno::Errno;
use nix::libc::{self, c_char, c_int};
use nix::sys::signal::SigSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const SHELL: &CStr = c"/bin/sh";

/// Everything that the child needs, as the system calls take it.
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
    mask: SigSet,
    child_ignored: bool,
    files: Option<libc::rlimit>,
    core: Option<libc::rlimit>,
    parent: c_int,
    report: RawFd,
    /// Place of LISTEN_PID in `env`, and room for the new entry.
    listen_pid: Option<(usize, [u8; LISTEN_PID_SIZE])>,
}

/// `LISTEN_PID=`, ten digits, NUL.
const LISTEN_PID_SIZE: usize = 22;

/// The step that failed; a number in the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Group,
    Groups,
    Gid,
    Uid,
    /// The old user could be regained.
    Regained,
    NoNewPrivs,
    ParentDeath,
    WorkingDir,
    Files,
    Mask,
    Exec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: Errno,
    /// Which of the command's candidates.
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
        let listen_pid = command.listen_pid.map(|index| (index, [0; LISTEN_PID_SIZE]));
        Plan {
            listen_pid,
            argv: terminated(pointers(&command.argv)),
            env: terminated(pointers(&command.env)),
            shell: terminated(shell),
            command,
            identity: None,
            working_dir: None,
            no_new_privs: false,
            take_terminal: false,
            mask: inherited.mask,
            child_ignored: inherited.child_ignored,
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
        self.name_listener();
        let failure = match self.prepare() {
            Err(failure) => failure,
            Ok(()) => self.exec(),
        };
        let message = failure.encode();
        // SAFETY: a live buffer and its length; _exit ends the process without running anything of the parent's.
        unsafe {
            libc::write(self.report, message.as_ptr().cast(), message.len());
            libc::_exit(127)
        }
    }

    /// Socket activation names the process that the sockets are for: it is not us but the app.
    fn name_listener(&mut self) {
        let Some((index, buffer)) = &mut self.listen_pid else { return };
        // SAFETY: a bare system call.
        let pid = unsafe { libc::getpid() };
        write_listen_pid(buffer, pid.unsigned_abs());
        if let Some(entry) = self.env.get_mut(*index) {
            *entry = buffer.as_ptr().cast();
        }
    }

    /// The order matters: the terminal while signals are blocked (else SIGTTOU stops us); groups before the ids that
    /// allow them; the parent-death signal after the ids, which clear it; the mask last.
    fn prepare(&self) -> Result<(), Failure> {
        // SAFETY: every call is a bare system call (or documented async-signal-safe) on plain integers.
        unsafe {
            check(Step::Group, libc::setpgid(0, 0))?;
            if self.take_terminal {
                // Not having it is no reason not to run.
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
                libc::_exit(libc::EXIT_FAILURE); // Died before the line above: nobody is left to tell.
            }
            if let Some(directory) = &self.working_dir {
                check(Step::WorkingDir, libc::chdir(directory.as_ptr()))?;
            }
            // Ours may have been raised. Open descriptors above the limit stay open, and close at the exec.
            if let Some(files) = &self.files {
                check(Step::Files, libc::setrlimit(libc::RLIMIT_NOFILE, files))?;
            }
            if let Some(core) = &self.core {
                // Back up to where it was, below the same hard limit: that is always allowed.
                libc::setrlimit(libc::RLIMIT_CORE, core);
            }
            // Rust's runtime ignores SIGPIPE; an ignored signal would stay ignored over exec.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            if self.child_ignored {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            }
            check(Step::Mask, libc::sigprocmask(libc::SIG_SETMASK, self.mask.as_ref(), std::ptr::null_mut()))
        }
    }

    /// As execvp: further candidates after "not there" and "not allowed", the shell for a file without a format.
    fn exec(&mut self) -> Failure {
        let mut denied = None;
        let mut last = Errno::ENOENT;
        let several = self.command.candidates.len() > 1;
        for (index, file) in (0u32..).zip(&self.command.candidates) {
            // SAFETY: null-terminated arrays of pointers to C strings that `self` owns.
            unsafe { libc::execve(file.as_ptr(), self.argv.as_ptr(), self.env.as_ptr()) };
            last = Errno::last();
            if last == Errno::ENOEXEC {
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
fn write_listen_pid(buffer: &mut [u8; LISTEN_PID_SIZE], pid: u32) {
    let digits = pid.checked_ilog10().unwrap_or(0);
    let number = (0..=digits).rev().filter_map(|place| u8::try_from(pid / 10u32.pow(place) % 10).ok());
    let text = b"LISTEN_PID=".iter().copied().chain(number.map(|digit| b'0' + digit));
    for (slot, byte) in buffer.iter_mut().zip(text) {
        *slot = byte;
    }
}

/// For good: real, effective and saved ids, and the way back is tried.
fn become_user(identity: &Identity) -> Result<(), Failure> {
    let (uid, gid) = (identity.uid, identity.gid);
    // SAFETY: bare system calls; the group list is live for the call.
    unsafe {
        check_long(Step::Groups, libc::syscall(libc::SYS_setgroups, identity.groups.len(), identity.groups.as_ptr()))?;
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
    fn the_listener_is_named() {
        for pid in [0, 1, 9, 10, 4_194_304, u32::MAX] {
            let mut buffer = [0; LISTEN_PID_SIZE];
            write_listen_pid(&mut buffer, pid);
            let text = CStr::from_bytes_until_nul(&buffer).unwrap();
            assert_eq!(text.to_str().unwrap(), format!("LISTEN_PID={pid}"));
        }
    }

    #[test]
    fn what_went_in_the_pipe_comes_out() {
        for step in
            [Step::Group, Step::Groups, Step::Gid, Step::Uid, Step::Regained, Step::Files, Step::Mask, Step::Exec]
        {
            let failure = Failure { step, errno: Errno::EACCES, candidate: 0x1234_5678 };
            assert_eq!(Failure::decode(failure.encode()), failure);
        }
    }
}

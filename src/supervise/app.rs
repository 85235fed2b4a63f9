//! The app's main process and its group: starts it, signals it, takes the terminal back. `reap` waits for it.
//!
//! Must be called on the main thread: the app gets SIGKILL when the thread that forked it ends, so that it
//! does not continue to write without replication.

use super::child::{Failure, Plan, Step};
use super::claim::{Claimed, Inherited};
use super::command::Command;
use super::guard::Guard;
use super::kill::{Sender, Sent};
use super::notify_socket::NotifyOwner;
use super::reap::reap_failed_spawn;
use super::remaining::ProcessTree;
use super::settings::{AppSettings, SignalTo};
use super::spawn_error::SpawnError;
use super::user::{self, Identity};
use super::{procs, program, receiver};
use crate::model::Signal;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{
    ForkResult, Pid, chdir, fork, getegid, geteuid, getpgrp, getuid, pipe2, setpgid, tcgetpgrp, tcsetpgrp,
};
use std::ffi::{CStr, CString, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[derive(Debug)]
pub struct App {
    pid: Pid,
    has_terminal: bool,
    sender: Sender,
    signal_to: SignalTo,
    uid: u32,
    /// The working directory was removed: the app runs in `/`.
    pub lost_directory: bool,
}

/// The result of a signal to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub sent: Sent,
    /// The signal went to the whole group, not to the main process alone.
    pub group: bool,
}

impl App {
    /// Returns when the program runs, or has failed to start.
    pub fn spawn(settings: &AppSettings, claimed: &Claimed) -> Result<App, SpawnError> {
        let started = spawn(settings, claimed);
        if started.is_err() {
            claimed.stand_down();
        }
        started
    }

    /// The PID, and the number of the process group.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Whose messages are the app's own.
    pub fn notify_owner(&self) -> NotifyOwner {
        NotifyOwner { pid: self.pid(), uid: self.uid }
    }

    /// To the main process or the group, as `signal_to` says.
    pub fn signal(&self, signal: Signal) -> Delivery {
        let group = receiver::sends_to_group(self.signal_to, procs::command_line(self.pid()).as_deref());
        let sent = if group { self.signal_group(signal) } else { self.sender.process(self.pid(), signal) };
        Delivery { sent, group }
    }

    pub fn signal_group(&self, signal: Signal) -> Sent {
        self.sender.group(self.pid(), signal)
    }

    /// From now on `tree` follows this app.
    pub fn join(&self, tree: &mut ProcessTree) {
        tree.app_started(self.pid(), self.sender);
    }

    /// After the app's exit: litevisor's group is the terminal's foreground group again, so that Ctrl-C
    /// reaches it and a shell that waits for it is not stopped.
    pub fn return_terminal(&self) {
        if self.has_terminal && tcgetpgrp(std::io::stdin()) == Ok(self.pid) {
            let _ = tcsetpgrp(std::io::stdin(), getpgrp());
        }
    }
}

fn spawn(settings: &AppSettings, claimed: &Claimed) -> Result<App, SpawnError> {
    let (entered, lost) = enter(&claimed.inherited);
    let started = start(settings, claimed, entered);
    // litevisor itself works in `/`, so that it keeps no file system busy.
    let _ = chdir("/");
    claimed.inherited.left.set(true);
    started.map(|app| App { lost_directory: lost, ..app })
}

/// Returns to the inherited working directory, which litevisor leaves after the first start of the app. (The
/// first app needs no right to enter it: a child begins where its parent is.) Returns the directory that the
/// child itself must enter, because only the app's user may; and whether the directory was removed.
fn enter(inherited: &Inherited) -> (Option<CString>, bool) {
    if !inherited.left.get() {
        return (None, false);
    }
    let Some(directory) = &inherited.directory else { return (None, true) };
    match chdir(directory) {
        Ok(()) => (None, false),
        Err(Errno::EACCES | Errno::EPERM) => (c_path(directory).ok(), false),
        Err(_) => (None, true),
    }
}

fn start(settings: &AppSettings, claimed: &Claimed, directory: Option<CString>) -> Result<App, SpawnError> {
    let inherited = &claimed.inherited;
    let identity = settings.user.as_deref().map(user::lookup).transpose()?;
    let command = Command::new(settings, &inherited.environment, identity.as_ref())
        .map_err(|nul| SpawnError::Nul(nul.0))?;
    let parent_failed = |call| move |source| SpawnError::Parent { call, source };
    let (report, report_write) = pipe2(OFlag::O_CLOEXEC).map_err(parent_failed("pipe"))?;

    let user = identity.as_ref().map(|identity| identity.uid);
    let mut plan = Plan::new(command, inherited, &report_write);
    plan.directory = directory;
    plan.mark = claimed.guard.as_ref().map(Guard::mark);
    plan.identity = identity.filter(|identity| !already(identity));
    plan.working_dir = settings.working_dir.as_deref().map(c_path).transpose()?;
    plan.no_new_privs = settings.no_new_privs;
    plan.take_terminal = in_foreground();

    // SAFETY: `run` makes only async-signal-safe calls and does not return.
    let pid = match unsafe { fork() }.map_err(parent_failed("fork"))? {
        ForkResult::Child => plan.run(),
        ForkResult::Parent { child } => child,
    };
    drop(report_write);
    // In both processes, so that the group exists whichever runs first. It fails after the exec, when the
    // child has done it.
    let _ = setpgid(pid, pid);
    if let Some(guard) = &claimed.guard {
        guard.watch_over(pid.as_raw(), user);
    }

    let sender = Sender::new(user);
    let signal_to = settings.signal_to;
    let uid = user.unwrap_or_else(|| getuid().as_raw());
    let app = App { pid, has_terminal: plan.take_terminal, sender, signal_to, uid, lost_directory: false };
    let mut message = [0; Failure::SIZE];
    match std::fs::File::from(report).read_exact(&mut message) {
        // exec has closed the pipe.
        Err(_) => Ok(app),
        Ok(()) => {
            reap_failed_spawn(app.pid());
            app.return_terminal();
            Err(explain(Failure::decode(message), &plan, settings, inherited))
        }
    }
}

/// Whether stdin is a terminal and litevisor is in its foreground group: only then the app gets the terminal.
fn in_foreground() -> bool {
    tcgetpgrp(std::io::stdin()) == Ok(getpgrp())
}

/// Whether litevisor is unprivileged and already that user: nothing to change.
fn already(identity: &Identity) -> bool {
    let uid = geteuid().as_raw();
    uid != 0 && uid == identity.uid && getuid().as_raw() == uid && getegid().as_raw() == identity.gid
}

fn c_path(path: &Path) -> Result<CString, SpawnError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| SpawnError::Nul(path.into()))
}

fn explain(failure: Failure, plan: &Plan, settings: &AppSettings, inherited: &Inherited) -> SpawnError {
    let user = settings.user.as_deref().unwrap_or_default();
    let step = match failure.step {
        Step::Exec => return explain_exec(failure, plan, settings),
        Step::Group => "setpgid".to_string(),
        Step::Groups => format!("setgroups for user `{user}` (root needs the capability SETGID for it)"),
        Step::Gid => format!("setresgid for user `{user}` (root needs the capability SETGID for it)"),
        Step::Uid => format!("setresuid for user `{user}` (root needs the capability SETUID for it)"),
        Step::Regained => format!("user `{user}` could become root again"),
        Step::NoNewPrivs => "prctl(PR_SET_NO_NEW_PRIVS)".to_string(),
        Step::ParentDeath => "prctl(PR_SET_PDEATHSIG)".to_string(),
        Step::Directory => format!("directory {:?}", inherited.directory.as_deref().unwrap_or(Path::new(""))),
        Step::WorkingDir => {
            format!("working directory {:?}", settings.working_dir.as_deref().unwrap_or(Path::new("")))
        }
        Step::Files => "setrlimit(RLIMIT_NOFILE)".to_string(),
        Step::Mask => "sigprocmask".to_string(),
    };
    SpawnError::Setup { step, source: failure.errno }
}

fn explain_exec(failure: Failure, plan: &Plan, settings: &AppSettings) -> SpawnError {
    let file = os(plan.candidate(&failure));
    let directory = settings.working_dir.as_deref().unwrap_or(Path::new(""));
    if failure.errno != Errno::ENOENT {
        let machine =
            (failure.errno == Errno::ENOEXEC).then(|| program::foreign_machine(&head(&directory.join(file))));
        return match machine.flatten() {
            Some(machine) => SpawnError::ForeignMachine { file: file.into(), machine },
            None => SpawnError::CannotExecute { file: file.into(), source: failure.errno },
        };
    }
    let program = settings.command.first().cloned().unwrap_or_default();
    let there = plan.candidates().iter().map(|file| os(file)).find(|file| directory.join(file).exists());
    let searched = !program.as_bytes().contains(&b'/');
    match (there, searched) {
        (Some(file), _) => {
            let hint = ": it is there, but the interpreter or loader that it names is not".to_string();
            SpawnError::NotFound { file: file.into(), hint }
        }
        (None, true) => SpawnError::NotFound { file: program, hint: " in PATH".to_string() },
        (None, false) => SpawnError::NotFound { file: program, hint: String::new() },
    }
}

/// The beginning of a file; empty if it cannot be read.
fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    let opened = std::fs::OpenOptions::new().read(true).open(path);
    let _ = opened.and_then(|file| file.take(program::HEAD as u64).read_to_end(&mut head));
    head
}

fn os(text: &CStr) -> &OsStr {
    OsStr::from_bytes(text.to_bytes())
}

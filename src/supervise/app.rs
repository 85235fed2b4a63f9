//! The app's main process and its group: starts it, signals it, takes the terminal back. In: settings and what was
//! inherited. Out: `App`, or a `SpawnError` that names the file and the reason. Waiting is `reap`'s.
//!
//! Must be called on the main thread: the app gets SIGKILL when the thread that forked it ends, so that it never goes
//! on writing without us.

use super::child::{Failure, Plan, Step};
use super::claim::{Claimed, Inherited};
use super::command::Command;
use super::kill;
use super::reap::reap_failed_spawn;
use super::settings::AppSettings;
use super::spawn_error::SpawnError;
use super::user::{self, Identity};
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
}

impl App {
    /// Returns once the program runs, or has failed to.
    pub fn spawn(settings: &AppSettings, claimed: &Claimed) -> Result<App, SpawnError> {
        spawn(settings, &claimed.inherited)
    }

    /// Also the number of its process group.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub fn signal_group(&self, signal: Signal) {
        kill::group(self.pid(), signal);
    }

    /// When the app has ended: Ctrl-C is ours again, and a shell that waits for us is not left in the background.
    pub fn return_terminal(&self) {
        if self.has_terminal && tcgetpgrp(std::io::stdin()) == Ok(self.pid) {
            let _ = tcsetpgrp(std::io::stdin(), getpgrp());
        }
    }
}

fn spawn(settings: &AppSettings, inherited: &Inherited) -> Result<App, SpawnError> {
    // Before a restart we have left it. Here, with our rights: the app's user may not reach it by its path.
    if let Some(directory) = &inherited.directory {
        chdir(directory).map_err(|source| SpawnError::Setup { step: format!("directory {directory:?}"), source })?;
    }
    let started = start(settings, inherited);
    // The app has its working directory; ours must not keep a file system busy.
    let _ = chdir("/");
    started
}

fn start(settings: &AppSettings, inherited: &Inherited) -> Result<App, SpawnError> {
    let identity = settings.user.as_deref().map(user::lookup).transpose()?;
    let command =
        Command::new(settings, &inherited.environment, identity.as_ref()).map_err(|nul| SpawnError::Nul(nul.0))?;
    let parent_failed = |call| move |source| SpawnError::Parent { call, source };
    let (report, report_write) = pipe2(OFlag::O_CLOEXEC).map_err(parent_failed("pipe"))?;

    let mut plan = Plan::new(command, inherited, &report_write);
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
    // In both processes, so that the group exists whoever runs first. Fails once the program runs; it is done then.
    let _ = setpgid(pid, pid);

    let app = App { pid, has_terminal: plan.take_terminal };
    let mut message = [0; Failure::SIZE];
    match std::fs::File::from(report).read_exact(&mut message) {
        // exec has closed the pipe.
        Err(_) => Ok(app),
        Ok(()) => {
            reap_failed_spawn(app.pid());
            app.return_terminal();
            Err(explain(Failure::decode(message), &plan, settings))
        }
    }
}

/// We have the terminal on stdin, and are in its foreground: only then is it ours to hand on.
fn in_foreground() -> bool {
    tcgetpgrp(std::io::stdin()) == Ok(getpgrp())
}

/// Unprivileged and already that user: nothing to change, and nothing that we would be allowed to.
fn already(identity: &Identity) -> bool {
    let uid = geteuid().as_raw();
    uid != 0 && uid == identity.uid && getuid().as_raw() == uid && getegid().as_raw() == identity.gid
}

fn c_path(path: &Path) -> Result<CString, SpawnError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| SpawnError::Nul(path.into()))
}

fn explain(failure: Failure, plan: &Plan, settings: &AppSettings) -> SpawnError {
    let user = settings.user.as_deref().unwrap_or_default();
    let step = match failure.step {
        Step::Exec => return explain_exec(failure, plan, settings),
        Step::Group => "setpgid".to_string(),
        Step::Groups => format!("setgroups for user `{user}`"),
        Step::Gid => format!("setresgid for user `{user}`"),
        Step::Uid => format!("setresuid for user `{user}`"),
        Step::Regained => format!("user `{user}` could become root again"),
        Step::NoNewPrivs => "prctl(PR_SET_NO_NEW_PRIVS)".to_string(),
        Step::ParentDeath => "prctl(PR_SET_PDEATHSIG)".to_string(),
        Step::WorkingDir => format!("working directory {:?}", settings.working_dir.as_deref().unwrap_or(Path::new(""))),
        Step::Files => "setrlimit(RLIMIT_NOFILE)".to_string(),
        Step::Mask => "sigprocmask".to_string(),
    };
    SpawnError::Setup { step, source: failure.errno }
}

fn explain_exec(failure: Failure, plan: &Plan, settings: &AppSettings) -> SpawnError {
    let file = os(plan.candidate(&failure));
    if failure.errno != Errno::ENOENT {
        return SpawnError::CannotExecute { file: file.into(), source: failure.errno };
    }
    let program = settings.command.first().cloned().unwrap_or_default();
    let directory = settings.working_dir.as_deref().unwrap_or(Path::new(""));
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

fn os(text: &CStr) -> &OsStr {
    OsStr::from_bytes(text.to_bytes())
}

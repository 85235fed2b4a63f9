//! The first step of `run`: takes over signals and orphans for this process, and remembers what the app
//! inherits.
//!
//! Must be called before any other thread exists: threads inherit the full mask, so that no signal is
//! delivered to one of them and no call is interrupted. A signal that comes before the app's start waits in
//! the queue; for PID 1 the kernel would drop it otherwise.

use super::guard::Guard;
use super::{dispositions, environ};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::cell::Cell;
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The proof that this process has taken over the signals. Needed to watch them and to start the app.
pub struct Claimed {
    pub(super) signals: SignalFd,
    pub(super) inherited: Inherited,
    /// Not as PID 1, and not without an app.
    pub(super) guard: Option<Guard>,
    /// Orphans of the app's tree become children of this process: it is PID 1 of the namespace, or a
    /// subreaper.
    pub adopts_orphans: bool,
}

/// What the app inherits as litevisor got it.
pub(super) struct Inherited {
    pub(super) mask: SigSet,
    /// The only dispositions that litevisor and Rust's runtime change; any other ignored signal stays ignored
    /// over exec.
    pub(super) child_ignored: bool,
    pub(super) pipe_ignored: bool,
    /// Byte for byte, also entries that are not UTF-8 or hold no `=`.
    pub(super) environment: Vec<CString>,
    /// None: it was removed.
    pub(super) directory: Option<PathBuf>,
    /// litevisor has left the directory after the first start of the app.
    pub(super) left: Cell<bool>,
    /// Soft and hard limit of open files; litevisor may raise its own.
    pub(super) files: Option<libc::rlimit>,
    /// Soft and hard limit of core dumps; litevisor writes none.
    pub(super) core: Option<libc::rlimit>,
    /// Descriptors beyond stdin, stdout and stderr (socket activation, a pipe that another process waits on).
    descriptors: Vec<RawFd>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot take over signals: {call}: {source}")]
pub struct ClaimError {
    call: &'static str,
    source: nix::Error,
}

/// What this process is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Start an app, which must not continue without litevisor.
    App,
    NoApp,
}

pub fn claim(duty: Duty) -> Result<Claimed, ClaimError> {
    let failed = |call| move |source| ClaimError { call, source };
    let child_ignored = default_sigchld().map_err(failed("sigaction(SIGCHLD)"))?;
    let ours = ours();
    let mut mask = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ours), Some(&mut mask)).map_err(failed("sigprocmask"))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&ours, flags).map_err(failed("signalfd"))?;
    let adopts_orphans = is_init() || prctl::set_child_subreaper(true).is_ok();
    let directory = std::env::current_dir().ok();
    let environment = environ::entries();
    let descriptors = descriptors(signals.as_raw_fd());
    let files = getrlimit(Resource::RLIMIT_NOFILE).ok();
    let files = files.map(|(soft, hard)| libc::rlimit { rlim_cur: soft, rlim_max: hard });
    let core = keep_out_of_dumps();
    let pipe_ignored = dispositions::pipe_was_ignored();
    let left = Cell::new(false);
    let inherited = Inherited {
        mask,
        child_ignored,
        pipe_ignored,
        environment,
        directory,
        left,
        files,
        core,
        descriptors,
    };
    let guard = if duty == Duty::App && !is_init() { Guard::start() } else { None };
    Ok(Claimed { signals, inherited, guard, adopts_orphans })
}

/// Prevents core dumps, which would hold the keys of the store. A limit of one byte prevents them also where
/// dumps go to a program (which a limit of zero does not prevent). Returns the first limit; the app gets it
/// back.
pub fn keep_out_of_dumps() -> Option<libc::rlimit> {
    static AT_FIRST: OnceLock<Option<libc::rlimit>> = OnceLock::new();
    *AT_FIRST.get_or_init(|| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_CORE).ok()?;
        // Always allowed: the soft limit only decreases.
        let _ = setrlimit(Resource::RLIMIT_CORE, soft.min(1), hard);
        Some(libc::rlimit { rlim_cur: soft, rlim_max: hard })
    })
}

/// Keeps the store's secrets from other processes of the same user, such as the app: the variables of these
/// names disappear from `/proc/PID/environ`, and, without root, `/proc/PID/mem` and ptrace are closed. Not as
/// root: another root process can read everything, other users nothing; and PR_SET_DUMPABLE would close
/// `/proc/1/fd/1`, where jobs in containers write their logs. Must be called before any thread exists.
pub fn keep_secrets(names: &[OsString]) {
    if names.is_empty() {
        return;
    }
    environ::hide(names);
    if !nix::unistd::geteuid().is_root() {
        let _ = prctl::set_dumpable(false);
    }
}

impl Claimed {
    /// No process of the app is left: the guard has nothing to end.
    pub fn stand_down(&self) {
        if let Some(guard) = &self.guard {
            guard.stand_down();
        }
    }

    /// If the app is never started again: passed descriptors belong to the app alone, and close when the app
    /// closes them.
    pub fn release_descriptors(&mut self) {
        for fd in self.inherited.descriptors.drain(..) {
            // SAFETY: inherited, and not used by any other part of this program.
            unsafe { libc::close(fd) };
        }
    }
}

/// PID 1 of its namespace.
pub(super) fn is_init() -> bool {
    std::process::id() == 1
}

/// All signals that can be caught, also those that report a fault (SIGSEGV, SIGABRT, …): when another process
/// sends them, they are forwarded to the app. A fault of litevisor itself still ends it: the kernel does not
/// let a thread block a fault. (libc excludes its own signals 32 and 33.)
fn ours() -> SigSet {
    SigSet::all()
}

/// Sets SIGCHLD to its default: if it is ignored, the kernel discards exit statuses. True if it was ignored.
fn default_sigchld() -> nix::Result<bool> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: sets the default action, installs no handler.
    let before = unsafe { sigaction(Signal::SIGCHLD, &default) }?;
    Ok(matches!(before.handler(), SigHandler::SigIgn))
}

/// The inherited descriptors: all but `ours`, the only one that litevisor has opened so far.
fn descriptors(ours: RawFd) -> Vec<RawFd> {
    // SAFETY: asks for the flags of a number; one that is not open answers EBADF.
    let open = |fd: &RawFd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } != -1;
    (3..DESCRIPTORS).filter(|fd| *fd != ours).filter(open).collect()
}

/// The usual soft limit. A descriptor beyond it also stays open in litevisor, which costs little.
const DESCRIPTORS: RawFd = 1024;

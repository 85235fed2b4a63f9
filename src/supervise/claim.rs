//! The first thing `run` does: takes signals and adopted children for this process, and remembers what the app is to
//! inherit. In: the process as its parent made it. Out: `Claimed`. Starts nothing.
//!
//! Must be called before any other thread exists: threads inherit the full mask, so that no signal is ever delivered
//! to one of them and no call is ever interrupted. A signal that comes before the app is there waits in the queue; as
//! PID 1 it would otherwise be dropped by the kernel.

use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Raised by the faulting thread itself: blocking them would only turn a crash into a hang.
const SYNCHRONOUS: [Signal; 7] =
    [Signal::SIGILL, Signal::SIGFPE, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGTRAP, Signal::SIGSYS, Signal::SIGABRT];

/// Proof that signals are ours. Needed to watch them and to start the app.
pub struct Claimed {
    pub(super) signals: SignalFd,
    pub(super) inherited: Inherited,
    /// Orphans of the app's tree become our children: we are PID 1 of the namespace, or a subreaper.
    pub adopts_orphans: bool,
}

/// What the app gets as we got it.
pub(super) struct Inherited {
    pub(super) mask: SigSet,
    /// The only disposition that we change ourselves; an ignored signal stays ignored over exec by itself.
    pub(super) child_ignored: bool,
    /// Byte for byte, also entries that are not UTF-8 or hold no `=`.
    pub(super) environment: Vec<CString>,
    /// We leave it once the app has it. None: it was removed, and stays where it is.
    pub(super) directory: Option<PathBuf>,
    /// Soft and hard limit of open files: ours may be raised.
    pub(super) files: Option<libc::rlimit>,
    /// The same of core dumps: ours are none.
    pub(super) core: Option<libc::rlimit>,
    /// Beyond stdin, stdout and stderr (socket activation, a pipe that is waited on).
    descriptors: Vec<RawFd>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot take over signals: {call}: {source}")]
pub struct ClaimError {
    call: &'static str,
    source: nix::Error,
}

pub fn claim() -> Result<Claimed, ClaimError> {
    let failed = |call| move |source| ClaimError { call, source };
    let child_ignored = default_sigchld().map_err(failed("sigaction(SIGCHLD)"))?;
    let ours = ours();
    let mut mask = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ours), Some(&mut mask)).map_err(failed("sigprocmask"))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&ours, flags).map_err(failed("signalfd"))?;
    let adopts_orphans = is_init() || prctl::set_child_subreaper(true).is_ok();
    let directory = std::env::current_dir().ok();
    let (environment, descriptors) = (environment(), descriptors(signals.as_raw_fd()));
    let files = getrlimit(Resource::RLIMIT_NOFILE).ok();
    let files = files.map(|(soft, hard)| libc::rlimit { rlim_cur: soft, rlim_max: hard });
    let core = keep_out_of_dumps();
    let inherited = Inherited { mask, child_ignored, environment, directory, files, core, descriptors };
    Ok(Claimed { signals, inherited, adopts_orphans })
}

/// A dump of this process would hold the keys of the store. A limit of one byte is none, also where dumps go to a program
/// (which a limit of zero does not stop). Returns what the limit was at first; the app gets that one back. Not
/// PR_SET_DUMPABLE: it would close `/proc/1/fd/1`, where jobs in containers write their logs.
pub fn keep_out_of_dumps() -> Option<libc::rlimit> {
    static AT_FIRST: OnceLock<Option<libc::rlimit>> = OnceLock::new();
    *AT_FIRST.get_or_init(|| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_CORE).ok()?;
        // Refused by nobody: the soft limit only comes down.
        let _ = setrlimit(Resource::RLIMIT_CORE, soft.min(1), hard);
        Some(libc::rlimit { rlim_cur: soft, rlim_max: hard })
    })
}

impl Claimed {
    /// When the app is never started again: what was passed to it is its own, and ends when it closes it.
    pub fn let_go_of_descriptors(&mut self) {
        for fd in self.inherited.descriptors.drain(..) {
            // SAFETY: open since before our first line, and nobody in this program has heard of it.
            unsafe { libc::close(fd) };
        }
    }
}

/// PID 1 of its namespace.
pub(super) fn is_init() -> bool {
    std::process::id() == 1
}

/// Everything that can be caught but the synchronous faults. (32 and 33 are libc's: it keeps them out itself.)
fn ours() -> SigSet {
    let mut set = SigSet::all();
    for fault in SYNCHRONOUS {
        set.remove(fault);
    }
    set
}

/// With SIGCHLD ignored the kernel reaps, and no exit status ever reaches us. True when it was.
fn default_sigchld() -> nix::Result<bool> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: sets the default action, installs no handler.
    let before = unsafe { sigaction(Signal::SIGCHLD, &default) }?;
    Ok(matches!(before.handler(), SigHandler::SigIgn))
}

/// What was open before us: everything but `ours`, the only one that we have opened so far.
fn descriptors(ours: RawFd) -> Vec<RawFd> {
    // SAFETY: asks for the flags of a number; one that is not open answers EBADF.
    let open = |fd: &RawFd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } != -1;
    (3..DESCRIPTORS).filter(|fd| *fd != ours).filter(open).collect()
}

/// The usual soft limit; a descriptor beyond it stays with us, too, which costs little.
const DESCRIPTORS: RawFd = 1024;

fn environment() -> Vec<CString> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    let mut entries = Vec::new();
    // SAFETY: no other thread exists yet, so nobody changes the environment. `environ` is null or a null-terminated
    // array of C strings.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            entries.push(CStr::from_ptr(*entry).to_owned());
            entry = entry.add(1);
        }
    }
    entries
}

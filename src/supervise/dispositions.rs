//! The inherited disposition of SIGPIPE. Rust's runtime sets the signal to ignored before `main`, so the
//! disposition is read even earlier, when the program is loaded.

use nix::libc;
use std::sync::atomic::{AtomicBool, Ordering};

static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// The parent process ignored SIGPIPE, as systemd does for every service; the app inherits that.
pub(super) fn pipe_was_ignored() -> bool {
    PIPE_IGNORED.load(Ordering::Relaxed)
}

extern "C" fn read_disposition() {
    // SAFETY: only asks; all bits zero are a valid structure to write into.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut action) == 0 {
            PIPE_IGNORED.store(action.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
        }
    }
}

// SAFETY: the loader calls it once, before `main`; it makes one system call and stores one value.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = read_disposition;

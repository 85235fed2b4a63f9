//! Signals of the programs under test are those of a terminal, however the tests were started.

use nix::sys::signal::{SigHandler, Signal, signal};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `nohup` and background jobs of scripts ignore some signals. A test that wants an ignored signal sets it
/// itself.
pub fn with_default_signals(command: &mut Command) {
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(default_signals) };
}

fn default_signals() -> std::io::Result<()> {
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action is no code of ours.
        unsafe { signal(number, SigHandler::SigDfl)? };
    }
    Ok(())
}

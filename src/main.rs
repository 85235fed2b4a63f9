//! args → config → command → exit code.

use litevisor::cli::{self, Action, Invocation, Printed, RestoreArgs};
use litevisor::commands::restore::Wanted;
use litevisor::config::{Additions, Checked, Purpose};
use litevisor::lifecycle::sidecar::Task;
use litevisor::supervise::Claimed;
use litevisor::{commands, exit, observe, run, supervise};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    give_big_buffers_back();
    supervise::keep_out_of_dumps();
    let code = match cli::parse(std::env::args_os()) {
        Ok(invocation) => dispatch(invocation),
        Err(printed) => print(&printed),
    };
    ExitCode::from(code)
}

fn dispatch(Invocation { config, action }: Invocation) -> u8 {
    match action {
        Action::Run { pairs, command } => {
            claimed(config, &Additions { command, pairs }, Purpose::Run, |checked, claimed| {
                run::run(checked.config, claimed)
            })
        }
        Action::Replicate { once } => {
            let task = if once { Task::Once } else { Task::Follow };
            claimed(config, &Additions::default(), Purpose::Databases, |checked, claimed| {
                run::replicate(checked, task, claimed)
            })
        }
        Action::Restore(RestoreArgs { subject, out, target, if_replica_exists, force, dry_run }) => {
            commands::restore::restore(config, &Wanted { subject, out, target, if_replica_exists, force, dry_run })
        }
        Action::List { subject, json } => commands::list::list(config, subject, json),
        Action::Verify { subject, quick } => commands::verify::verify(config, subject, quick),
        Action::Check { connect } => commands::check::check(config.as_deref(), connect),
        Action::Import { file } => commands::import::import(&file),
        Action::Status { socket, json } => commands::status::status(config, socket, json),
        Action::Sync { socket, db, timeout } => commands::sync::sync(config, socket, db, timeout),
        Action::Healthcheck { socket, live } => commands::healthcheck::healthcheck(config, socket, live),
    }
}

/// Signals are taken before any file is read and any thread is started: as PID 1 an early SIGTERM would be lost.
fn claimed(
    config: Option<PathBuf>,
    additions: &Additions,
    purpose: Purpose,
    work: impl FnOnce(Checked, Claimed) -> u8,
) -> u8 {
    match supervise::claim() {
        Ok(claimed) => commands::configured(config, additions, purpose, |checked| {
            tracing::info!("{}", checked.platform.line);
            checked.platform.warning.iter().for_each(|warning| tracing::warn!("{warning}"));
            work(checked, claimed)
        }),
        Err(error) => {
            observe::complain(&error.to_string());
            exit::INTERNAL
        }
    }
}

fn print(printed: &Printed) -> u8 {
    if printed.to_stdout {
        observe::say(&printed.text);
    } else {
        observe::scold(&printed.text);
    }
    printed.code
}

/// glibc raises its mmap threshold each time a big buffer is freed, and then keeps such buffers for ever. A fixed
/// threshold gives them back to the system after each upload and restore. And it gives each thread a heap of its own, which
/// keeps what the thread once needed: ours come and go, and hardly ever allocate at the same time.
#[cfg(target_env = "gnu")]
fn give_big_buffers_back() {
    // SAFETY: mallopt takes two integers, and no other thread exists yet.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 128 << 10);
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_big_buffers_back() {}

//! The program: arguments → configuration → command → exit status.

use litevisor::cli::{self, Action, Invocation, JsonKind, Printed, RekeyArgs, RestoreArgs};
use litevisor::commands::error::{CommandError, ErrorKind};
use litevisor::commands::follow::FollowOptions;
use litevisor::commands::rekey::RekeyOptions;
use litevisor::commands::restore::RestoreOptions;
use litevisor::commands::setup::{LogOf, configured};
use litevisor::config::{Additions, Checked, Purpose};
use litevisor::lifecycle::sidecar::Task;
use litevisor::supervise::{Claimed, Duty};
use litevisor::{commands, observe, run, supervise};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    give_big_buffers_back();
    supervise::keep_out_of_dumps();
    let args: Vec<OsString> = std::env::args_os().collect();
    let json = cli::json_kind(&args);
    let status = match cli::parse(args) {
        Ok(invocation) => dispatch(invocation).unwrap_or_else(|error| {
            print_failure(json, error.kind.status(), &error.lines());
            error.report()
        }),
        Err(printed) => {
            printed.problem().into_iter().for_each(|problem| print_failure(json, printed.code, problem));
            print(&printed)
        }
    };
    observe::finish();
    ExitCode::from(status)
}

fn dispatch(Invocation { config, action }: Invocation) -> Result<u8, CommandError> {
    let file = config.as_deref();
    match action {
        Action::Run { pairs, gates, follow, command } => {
            let additions = Additions { command, pairs, gates, follow };
            let (checked, claimed) = claimed(file, &additions, Purpose::Run, Duty::App)?;
            Ok(run::run(checked.config, claimed))
        }
        Action::Replicate { once } => {
            let (checked, claimed) = claimed(file, &Additions::default(), Purpose::Databases, Duty::NoApp)?;
            match once {
                true => commands::once::once(checked, claimed),
                false => Ok(run::replicate(checked, Task::Follow, claimed)),
            }
        }
        Action::Restore(RestoreArgs { subject, out, target, if_replica_exists, force, dry_run, json }) => {
            let options = RestoreOptions { subject, out, target, if_replica_exists, force, dry_run, json };
            commands::restore::restore(file, &options)
        }
        Action::Follow { subject, out, poll, once } => {
            // Before any file is read: an early SIGTERM must not be lost.
            let claimed = supervise::claim(Duty::NoApp)
                .map_err(|error| CommandError::new(ErrorKind::Internal, error))?;
            commands::follow::follow(file, &FollowOptions { subject, out, poll, once }, claimed)
        }
        Action::List { subject, retention: true, json } => {
            commands::list::retention(file, subject.as_deref(), json)
        }
        Action::List { subject, json, .. } => commands::list::list(file, subject.as_deref(), json),
        Action::Verify { subject, history: true, json, .. } => {
            commands::verify::history(file, subject.as_deref(), json)
        }
        Action::Verify { subject, quick, json, .. } => {
            commands::verify::verify(file, subject.as_deref(), quick, json)
        }
        Action::Rekey(RekeyArgs { subject, to, identities, recipients, plain }) => {
            commands::rekey::rekey(file, &RekeyOptions { subject, to, identities, recipients, plain })
        }
        Action::Check { connect, json } => commands::check::check(file, connect, json),
        Action::Import { file, json } => commands::import::import(&file, json),
        Action::Status { socket, json } => commands::status::status(config, socket, json),
        Action::Sync { socket, db, timeout, json } => {
            commands::sync::sync(config, socket, db.as_deref(), timeout, json)
        }
        Action::Promote { socket, force, timeout, json } => {
            commands::handover::promote(config, socket, force, (timeout, json))
        }
        Action::HandOver { socket, timeout, json } => {
            commands::handover::hand_over(config, socket, (timeout, json))
        }
        Action::Healthcheck { socket, live, json } => {
            Ok(commands::healthcheck::healthcheck(config, socket, live, json))
        }
    }
}

/// Takes over the signals, before any file is read and any thread is started: as PID 1 an early SIGTERM would
/// be lost. Then loads the configuration and starts the log.
fn claimed(
    file: Option<&Path>,
    additions: &Additions,
    purpose: Purpose,
    duty: Duty,
) -> Result<(Checked, Claimed), CommandError> {
    let claimed = supervise::claim(duty).map_err(|error| CommandError::new(ErrorKind::Internal, error))?;
    let checked = configured(file, additions, purpose, LogOf::Service)?;
    tracing::info!("{}", checked.platform.line);
    checked.platform.warning.iter().for_each(|warning| tracing::warn!("{warning}"));
    match &checked.platform.refusal {
        Some(refusal) => Err(CommandError::new(ErrorKind::Local, refusal)),
        None => Ok((checked, claimed)),
    }
}

/// The document of a command that did not come to a database.
fn print_failure(json: Option<JsonKind>, exit_status: u8, problem: &str) {
    if let Some(kind) = json {
        commands::document::print_failure(kind == JsonKind::Array, exit_status, problem);
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

/// glibc raises its mmap threshold each time a big buffer is freed, and then keeps such buffers for ever. A
/// fixed threshold gives them back to the system after each upload and restore. And it gives each thread a
/// heap of its own, which keeps what the thread once needed; litevisor's threads come and go, and rarely
/// allocate at the same time.
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

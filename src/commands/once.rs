//! `litevisor replicate --once`: uploads what is on the disk, and ends. If another litevisor runs with the
//! same databases, that one is asked to upload, and its answer is this command's.

use super::error::{CommandError, ErrorKind};
use super::sync;
use crate::config::{Checked, Config};
use crate::lifecycle::sidecar::Task;
use crate::model::{AppExit, DbPath, Signal};
use crate::observe::client::{Reply, request};
use crate::restore::Owners;
use crate::run::discover::{self, Directory};
use crate::run::{self, locks, status_service};
use crate::supervise::{Claimed, Meaning, Watch, meaning};
use crate::{exit, observe};
use std::sync::mpsc::channel;
use std::time::Duration;

/// As long as our own last flush may take.
const LIMIT: Duration = Duration::from_secs(60);
const MORE: Duration = Duration::from_secs(5);

pub fn once(checked: Checked, claimed: Claimed) -> Result<u8, CommandError> {
    let existing = existing(&checked.config);
    match existing.iter().find_map(locks::owner) {
        None => Ok(run::replicate(checked, Task::Once, claimed)),
        Some(owned) => ask_owner(&checked.config, &existing, &owned, claimed),
    }
}

/// The databases that have a file.
fn existing(config: &Config) -> Vec<DbPath> {
    let single = config.databases.iter().map(|database| database.path.clone());
    let inside = config.directories.iter().flat_map(|entry| {
        let directory = Directory { settings: entry.clone(), owners: Owners::default() };
        discover::on_disk(&directory).databases.into_iter().map(|found| found.database.settings.path)
    });
    let exists = |db: &DbPath| std::fs::metadata(db.as_path()).is_ok_and(|meta| meta.len() > 0);
    single.chain(inside).filter(exists).collect()
}

fn ask_owner(
    config: &Config,
    existing: &[DbPath],
    owned: &locks::OtherOwner,
    claimed: Claimed,
) -> Result<u8, CommandError> {
    tracing::info!("{owned}: asking it to upload what is committed");
    let (addresses, key) = status_service::addresses(config);
    let target = format!("/sync?timeout={}ms", LIMIT.as_millis());
    match wait_for(claimed, move || request(&addresses, Some(&key), "POST", &target, LIMIT + MORE))? {
        Answer::Received(Ok(reply)) => Ok(report_absent(config, existing, report(&reply, existing))),
        Answer::Received(Err(error)) => {
            Err(CommandError::new(ErrorKind::Local, format!("{}; {error}", locks::refusal(owned))))
        }
        Answer::Stopped(signal) => Ok(AppExit::Signal(signal).status()),
    }
}

enum Answer<T> {
    Received(T),
    Stopped(Signal),
}

/// Runs `work` in a thread, so that a stop signal ends the waiting.
fn wait_for<T: Send + 'static>(
    claimed: Claimed,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Answer<T>, CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::new(ErrorKind::Internal, format!("cannot wait for an answer: {error}"))
    };
    let watch = Watch::new(claimed).map_err(failed)?;
    let (sender, answer) = channel();
    let waker = watch.waker();
    let asking = move || {
        let _ = sender.send(work());
        waker.wake();
    };
    std::thread::Builder::new().name("ask".into()).spawn(asking).map_err(failed)?;
    loop {
        if let Ok(answer) = answer.try_recv() {
            return Ok(Answer::Received(answer));
        }
        match watch.signal().map(|received| meaning(received, std::process::id(), Signal::TERM, false)) {
            Some(Meaning::Stop(signal)) => {
                tracing::warn!("{signal} received: not waiting for the answer");
                return Ok(Answer::Stopped(signal));
            }
            Some(_) => {}
            None => watch.wait(None),
        }
    }
}

/// A configured database that does not exist is no success.
fn report_absent(config: &Config, existing: &[DbPath], code: u8) -> u8 {
    let absent: Vec<_> =
        config.databases.iter().filter(|database| !existing.contains(&database.path)).collect();
    absent
        .iter()
        .for_each(|database| tracing::error!(db = %database.path, "there is no database: it is left out"));
    if code == 0 && !absent.is_empty() { exit::NOTHING } else { code }
}

/// The running supervisor's answer about our databases.
fn report(reply: &Reply, existing: &[DbPath]) -> u8 {
    let sync::Outcome { done, wrong, code } = sync::outcome(reply, Some(existing));
    done.iter().for_each(|line| {
        tracing::info!("{line}");
        observe::say(&format!("{line}\n"));
    });
    wrong.iter().for_each(|wrong| tracing::error!("{wrong}"));
    code
}

//! What every run stands on: signals, the engine and its reports, and the bell that wakes us for them. In: the
//! configuration and the claimed signals. Out: one thing that happened at a time, signals first. Decides nothing.

use super::discover;
use super::engine::{Command, Engine, Report, Wake};
use super::ops::{self, Ops};
use super::owners::{OwnersError, owners};
use super::prepare::Database;
use crate::config::{Config, DatabaseSettings};
use crate::exit;
use crate::model::Signal;
use crate::supervise::{Claimed, Meaning, Waker, Watch, meaning, reap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

pub(super) struct Post {
    pub(super) watch: Watch,
    engine: Engine,
    reports: Receiver<Report>,
    engine_ended: Arc<AtomicBool>,
    engine_lost: bool,
    /// The last to go.
    pub(super) ops: Ops,
}

pub(super) enum Heard {
    Signal(Meaning),
    Report(Report),
    /// Said once.
    EngineLost,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("nothing to run: give a command after `--`, or `command` under [app]")]
    NoCommand,
    #[error(transparent)]
    Owner(#[from] OwnersError),
    #[error("cannot start: {what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

impl OpenError {
    pub(super) fn status(&self) -> u8 {
        match self {
            OpenError::NoCommand => exit::USAGE,
            OpenError::Owner(_) => exit::CONFIG,
            OpenError::System { .. } => exit::INTERNAL,
        }
    }
}

/// Looks up who is to own the restored files.
fn databases(settings: Vec<DatabaseSettings>, app_user: Option<&str>) -> Result<Vec<Database>, OpenError> {
    let one = |settings: DatabaseSettings| {
        let owners = owners(&settings, app_user)?;
        Ok(Database { settings, owners })
    };
    settings.into_iter().map(one).collect()
}

/// Rings when the engine's thread drops it, however that thread ends.
struct EndBell {
    waker: Waker,
    ended: Arc<AtomicBool>,
}

impl Drop for EndBell {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Post {
    /// Starts the engine, and the restore.
    pub(super) fn open(config: Config, app_user: Option<&str>, claimed: Claimed) -> Result<Post, OpenError> {
        let system = |what| move |source| OpenError::System { what, source };
        let (ops, syncs) = ops::open(&config);
        let watch = Watch::new(claimed).map_err(system("eventfd"))?;
        let engine_ended = Arc::new(AtomicBool::new(false));
        let bell = EndBell { waker: watch.waker(), ended: Arc::clone(&engine_ended) };
        let wake: Wake = Box::new(move || bell.waker.wake());
        let (sender, reports) = channel();
        let databases = databases(config.databases, app_user)?;
        let directories = config.directories.into_iter().map(|entry| discover::directory(entry, app_user));
        let directories = directories.collect::<Result<_, _>>()?;
        let engine =
            Engine::start(databases, directories, config.restore, sender, wake, (Arc::clone(&ops.board), syncs));
        let engine = engine.map_err(system("engine thread"))?;
        engine.send(Command::Restore);
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        tracing::info!(version, pid, status = ops.places, "litevisor starts");
        // Whoever was handed to us dead: its SIGCHLD came before we listened.
        reap(None);
        Ok(Post { watch, engine, reports, engine_ended, engine_lost: false, ops })
    }

    /// Something that has happened, if anything has.
    pub(super) fn hear(&mut self, stop_signal: Signal) -> Option<Heard> {
        if let Some(received) = self.watch.signal() {
            return Some(Heard::Signal(meaning(received, std::process::id(), stop_signal)));
        }
        // Read before the reports: what the engine sent came before its end.
        let ended = self.engine_ended.load(Ordering::Acquire);
        if let Ok(report) = self.reports.try_recv() {
            return Some(Heard::Report(report));
        }
        if ended && !self.engine_lost {
            self.engine_lost = true;
            tracing::error!("the engine has ended unexpectedly: nothing is replicated any more");
            self.ops.board.engine_lost();
            return Some(Heard::EngineLost);
        }
        None
    }

    /// False: the engine is gone, and nothing will come of it.
    pub(super) fn send(&self, command: Command) -> bool {
        self.engine.send(command);
        !self.engine_lost
    }
}

//! The thread that restores and replicates. Owns the tokio runtime and every database's task. In: `Command`s. Out:
//! `Report`s, each followed by a wake-up of the supervising thread. Never blocks the caller, never ends the process.
//!
//! The supervising thread sends `Restore` first; after `Report::Restored(Ok(..))` it sends `Replicate` and starts the
//! app. `Flush` may come any number of times. `Finish` is the last command.

use super::crew::Crew;
use super::discover::Directory;
use super::flush::{Occasion, flush_all};
pub use super::messages::{Command, DatabaseSummary, Report, StartFailure, Wake};
use super::prepare::{Database, Prepared, Wanted, prepare_all};
use super::sync;
use crate::observe::Board;
use crate::observe::sync::SyncRequests;
use crate::restore::RestoreSettings;
use crate::store::Stores;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// Disk work of all databases together; more would only queue at the disk.
const BLOCKING_THREADS: usize = 16;
/// An idle process keeps no threads for work that may come.
const THREAD_LIFE: Duration = Duration::from_secs(5);
/// Watched directories are looked at this often.
const LOOK: Duration = Duration::from_millis(500);

pub struct Engine {
    commands: UnboundedSender<Command>,
}

impl Engine {
    /// Starts the thread. With no databases every command is answered at once.
    pub fn start(
        databases: Vec<Database>,
        directories: Vec<Directory>,
        restore: RestoreSettings,
        reports: mpsc::Sender<Report>,
        wake: Wake,
        (board, syncs): (Arc<Board>, SyncRequests),
    ) -> std::io::Result<Engine> {
        let (commands, inbox) = unbounded_channel();
        let reports = Reports { to: reports, wake };
        let (stores, touched) = (Arc::new(Stores::default()), Arc::default());
        let wanted = Wanted { databases, directories, settings: restore, stores, touched, board };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(THREAD_LIFE)
            .build()?;
        std::thread::Builder::new().name("engine".into()).spawn(move || {
            runtime.block_on(serve(wanted, inbox, syncs, &reports));
            // Disk or network work that hangs must not keep the thread.
            runtime.shutdown_background();
        })?;
        Ok(Engine { commands })
    }

    /// Queues a command. A dead engine thread is noticed by the end of its wake-up function.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

struct Reports {
    to: mpsc::Sender<Report>,
    wake: Wake,
}

impl Reports {
    fn send(&self, report: Report) {
        let _ = self.to.send(report);
        (self.wake)();
    }
}

async fn serve(wanted: Wanted, mut commands: UnboundedReceiver<Command>, mut asked: SyncRequests, reports: &Reports) {
    let (conflict, mut conflicts) = unbounded_channel();
    let mut preparing = JoinSet::new();
    let mut prepared: Vec<Prepared> = Vec::new();
    let mut crew: Option<Crew> = None;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut flushes, mut syncs) = (JoinSet::new(), JoinSet::new());
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Restore) => {
                    preparing.spawn(prepare_all(wanted.clone()));
                }
                Some(Command::Abandon) => {
                    preparing.shutdown().await;
                    wanted.abandon().await;
                    reports.send(Report::Restored(Err(StartFailure::Abandoned)));
                }
                Some(Command::Replicate(_)) => {
                    let (stores, prepared) = (Arc::clone(&wanted.stores), std::mem::take(&mut prepared));
                    let board = Arc::clone(&wanted.board);
                    crew = Some(Crew::start(prepared, &wanted.directories, stores, conflict.clone(), board));
                }
                Some(Command::Flush { by }) => {
                    flushes.spawn(flush_all(crew.as_mut().map(Crew::all).unwrap_or_default(), by, Occasion::Stop));
                }
                Some(Command::Finish { by, .. } | Command::FinishUnproven { by }) => {
                    flushes.spawn(flush_all(crew.as_mut().map(Crew::last).unwrap_or_default(), by, Occasion::Last));
                }
            },
            Some(request) = asked.recv() => sync::begin(crew.as_mut(), request, &mut syncs),
            _ = look.tick(), if crew.as_ref().is_some_and(Crew::expects) => {
                crew.iter_mut().for_each(Crew::look);
            }
            Some(done) = preparing.join_next() => {
                let result = done.unwrap_or_else(|error| Err(StartFailure::Local(format!("internal error: {error}"))));
                reports.send(Report::Restored(result.map(|(ready, restored)| {
                    prepared = ready;
                    restored
                })));
            }
            Some(done) = flushes.join_next() => match done {
                Ok(done) if done.last => reports.send(Report::Finished(done.summaries)),
                Ok(done) => reports.send(Report::Flushed(done.look())),
                Err(error) => tracing::error!("internal error in a flush: {error}"),
            },
            Some((database, detail)) = conflicts.recv() => {
                reports.send(Report::Fenced { database: format!("{database}"), detail });
            }
        }
    }
}

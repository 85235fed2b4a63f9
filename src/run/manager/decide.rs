//! What the service manager is told, decided from the state of the run. Pure.

use super::super::app_voice::Heard;
use super::life::Life;
pub use super::protocol::Message;
use super::status_line::status_line;
use crate::observe::health;
use crate::observe::status_registry::{Phase, Snapshot};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What each sign of progress adds to the time of the start: systemd's own default for a whole start.
const EXTENSION: Duration = Duration::from_secs(90);
/// Between two such messages.
const EXTEND_EVERY: Duration = Duration::from_secs(15);
/// To sync or read a large file takes minutes in which no counter moves.
const QUIET_STEP: Duration = Duration::from_secs(600);
/// An engine that was not seen at work for this long makes no progress.
const ENGINE_SILENT: Duration = Duration::from_secs(30);
/// For the log and the last notifications after the end of the budget.
const STOP_SPARE: Duration = Duration::from_secs(5);
/// Between two texts of one phase.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// The present.
pub struct View<'a> {
    pub snapshot: &'a Snapshot,
    pub life: Life,
    /// None: the app says nothing by itself, or does not run.
    pub heard: Option<&'a Heard>,
    /// Since the engine thread was seen at work.
    pub engine_age: Duration,
}

/// Why the watchdog is not fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    Engine,
    App,
}

/// What moves during a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    bytes: u64,
    restored: usize,
    caught_up: BTreeMap<String, String>,
}

/// What was told.
pub struct Speaker {
    watchdog: Option<Duration>,
    ready: bool,
    stopping: bool,
    status: String,
    status_at: Option<Instant>,
    phase: Option<Phase>,
    /// Before it was ready: each counts as progress once.
    phases: Vec<Phase>,
    progress: Progress,
    progress_at: Option<Instant>,
    extended_at: Option<Instant>,
    ends_by: Option<Instant>,
    fed_at: Option<Instant>,
    /// The app's message that the watchdog was last fed for.
    fed_for: Option<Instant>,
    silence: Option<Silence>,
    /// It could not be sent.
    unsent: Message,
}

impl Speaker {
    pub fn new(watchdog: Option<Duration>) -> Speaker {
        Speaker {
            watchdog,
            ready: false,
            stopping: false,
            status: String::new(),
            status_at: None,
            phase: None,
            phases: Vec::new(),
            progress: Progress::default(),
            progress_at: None,
            extended_at: None,
            ends_by: None,
            fed_at: None,
            fed_for: None,
            silence: None,
            unsent: Message::default(),
        }
    }

    pub fn look(&mut self, view: &View) -> Message {
        let unsent = std::mem::take(&mut self.unsent);
        let now = view.snapshot.now;
        let is_ready = view.life.serves_without_app || health::not_serving(view.snapshot).is_empty();
        let ready = is_ready && !view.life.ending && !self.ready;
        let stopping = view.life.ending && !self.stopping;
        (self.ready, self.stopping) = (self.ready || ready, self.stopping || stopping);
        let extend = match (view.life.ending, self.ready) {
            (true, _) => self.stop(view.life.ends_by, now),
            (false, false) => self.start(view, now),
            (false, true) => None,
        };
        let status = self.status(view, now);
        self.phase = Some(view.snapshot.phase);
        Message {
            ready: ready || unsent.ready,
            stopping: stopping || unsent.stopping,
            extend: extend.or(unsent.extend),
            status: status.or(unsent.status),
            watchdog: self.feed(view, now),
        }
    }

    /// The message did not reach the manager. The next look repeats it.
    pub fn not_sent(&mut self, message: Message) {
        if message.watchdog {
            (self.fed_at, self.fed_for) = (None, None);
        }
        self.unsent = Message { watchdog: false, ..message };
    }

    pub fn silence(&self) -> Option<Silence> {
        self.silence
    }

    /// Until the next look, if nothing happens.
    pub fn pause(&self) -> Duration {
        let pause = match (self.ready, self.stopping, self.phase) {
            (true, false, _) if self.unsent == Message::default() => Duration::from_secs(5),
            // The gates open in another thread.
            (false, false, Some(Phase::Running)) => Duration::from_millis(250),
            _ => Duration::from_secs(1),
        };
        self.watchdog.map_or(pause, |watchdog| pause.min(watchdog / 8)).max(Duration::from_millis(10))
    }

    /// litevisor ends by itself within its budget, whatever systemd's is.
    fn stop(&mut self, ends_by: Option<Instant>, now: Instant) -> Option<Duration> {
        let later = ends_by.filter(|by| self.ends_by.is_none_or(|told| *by > told))?;
        self.ends_by = Some(later);
        Some(later.saturating_duration_since(now) + STOP_SPARE)
    }

    fn start(&mut self, view: &View, now: Instant) -> Option<Duration> {
        let phase = view.snapshot.phase;
        let is_new_phase = !self.phases.contains(&phase);
        if is_new_phase {
            self.phases.push(phase);
        }
        let progress = Progress::of(view.snapshot);
        if is_new_phase || progress != self.progress {
            (self.progress, self.progress_at) = (progress, Some(now));
        }
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let works = match phase {
            // For as long as the hand-over allows.
            Phase::Waiting => true,
            Phase::Restoring | Phase::CatchingUp => {
                since(self.progress_at).is_some_and(|age| age < QUIET_STEP)
            }
            // The app's own time, and that of its setup.
            _ => false,
        };
        let works = works && !view.snapshot.engine_lost && view.engine_age < ENGINE_SILENT;
        let is_due = is_new_phase || (works && since(self.extended_at).is_none_or(|age| age >= EXTEND_EVERY));
        is_due.then(|| {
            self.extended_at = Some(now);
            EXTENSION
        })
    }

    fn status(&mut self, view: &View, now: Instant) -> Option<String> {
        let status = status_line(view.snapshot, view.heard.map_or("", |heard| &heard.status));
        let is_recent = self.status_at.is_some_and(|at| now.saturating_duration_since(at) < STATUS_EVERY);
        if status == self.status || (is_recent && self.phase == Some(view.snapshot.phase)) {
            return None;
        }
        self.status_at = Some(now);
        self.status.clone_from(&status);
        Some(status)
    }

    /// An app that has sent `WATCHDOG=1` once is watched: then its messages alone feed the watchdog while it
    /// runs.
    fn feed(&mut self, view: &View, now: Instant) -> bool {
        let Some(watchdog) = self.watchdog else { return false };
        let since = |at: Instant| now.saturating_duration_since(at);
        let watched =
            view.heard.filter(|_| view.snapshot.phase == Phase::Running).and_then(|heard| heard.alive);
        self.silence = match watched {
            _ if view.snapshot.engine_lost || view.engine_age > watchdog / 2 => Some(Silence::Engine),
            Some(alive) if since(alive) > watchdog => Some(Silence::App),
            _ => None,
        };
        let is_due = match watched {
            Some(alive) => self.fed_for != Some(alive),
            None => self.fed_at.is_none_or(|at| since(at) >= watchdog / 2),
        };
        let feeds = is_due && self.silence.is_none();
        if feeds {
            (self.fed_at, self.fed_for) = (Some(now), watched);
        }
        feeds
    }
}

impl Progress {
    fn of(snapshot: &Snapshot) -> Progress {
        let views = &snapshot.databases;
        Progress {
            bytes: views.iter().filter_map(|view| view.progress).map(|pace| pace.done).sum(),
            restored: views.iter().filter(|view| view.restore.is_some()).count(),
            caught_up: snapshot.caught_up.clone(),
        }
    }
}

#[cfg(test)]
mod tests;

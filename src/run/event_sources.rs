//! The sources of events of `run` and `replicate`: signals, and the reports of the engine. Starts the engine
//! and the status service.

use super::app_voice::AppVoice;
use super::discover;
use super::engine::{Command, DatabaseSummary, Engine, Report, Reports, Wake};
use super::manager::{Life, Manager};
use super::notify::Notifier;
use super::owners::{Database, OwnersError, owners};
use super::ownership_settings::OwnershipSettings;
use super::prepare::RunContext;
use super::setup_due::SetupPlan;
use super::status_service::{self, StatusService};
use crate::config::{Config, DatabaseSettings};
use crate::exit;
use crate::model::{Signal, threads};
use crate::observe::Phase;
use crate::replicate::Ledger;
use crate::store::Stores;
use crate::supervise::{Claimed, Meaning, Waker, Watch, meaning, reap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

pub(super) struct EventSources {
    pub(super) watch: Watch,
    engine: Engine,
    reports: Receiver<Report>,
    engine_ended: Arc<AtomicBool>,
    engine_lost: bool,
    notifier: Option<Notifier>,
    pub(super) manager: Manager,
    /// Dropped last.
    pub(super) status: StatusService,
}

/// What the events' sources must know of the app that this process starts.
#[derive(Default)]
pub(super) struct AppContext<'a> {
    /// The app's user, as configured.
    pub(super) user: Option<&'a str>,
    pub(super) setup: Option<Arc<SetupPlan>>,
    /// None without a gate.
    pub(super) ledger: Option<Arc<Ledger>>,
    /// A gate accepts connections before the app is there.
    pub(super) accepts_early: bool,
}

pub(super) enum SourceEvent {
    Signal(Meaning),
    Report(Report),
    /// The engine thread has ended. Reported once.
    EngineLost,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("nothing to run: give a command after `--`, or `command` under [app]")]
    NoCommand,
    #[error(transparent)]
    Owner(#[from] OwnersError),
    #[error("cannot start: {what}: {}", threads::with_limit(.source))]
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

/// Looks up the owners of the restored files.
fn databases(settings: Vec<DatabaseSettings>, app_user: Option<&str>) -> Result<Vec<Database>, OpenError> {
    let one = |settings: DatabaseSettings| {
        let owners = owners(&settings, app_user)?;
        Ok(Database { settings, owners })
    };
    settings.into_iter().map(one).collect()
}

/// Wakes the main thread when the engine thread drops it, however that thread ends.
struct EndNotice {
    waker: Waker,
    ended: Arc<AtomicBool>,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl EventSources {
    /// Starts the engine thread, which begins with the restore.
    pub(super) fn open(
        config: Config,
        app: AppContext<'_>,
        claimed: Claimed,
    ) -> Result<EventSources, OpenError> {
        let AppContext { user, setup, ledger, accepts_early } = app;
        let system = |what| move |source| OpenError::System { what, source };
        let (status, requests) = status_service::open(&config);
        let notifier = Notifier::start(&config, &status.registry);
        let manager = Manager::of_environment();
        let watch = Watch::new(claimed).map_err(system("eventfd"))?;
        let engine_ended = Arc::new(AtomicBool::new(false));
        let end_notice = EndNotice { waker: watch.waker(), ended: Arc::clone(&engine_ended) };
        let wake: Wake = Box::new(move || end_notice.waker.wake());
        let (sender, reports) = channel();
        let ownership = OwnershipSettings::of(&config, (ledger.is_some(), accepts_early));
        let directories = config.directories.into_iter().map(|entry| discover::directory(entry, user));
        let context = RunContext {
            databases: databases(config.databases, user)?,
            directories: directories.collect::<Result<_, _>>()?,
            settings: config.restore,
            stores: Arc::new(Stores::default()),
            touched: Arc::default(),
            registry: Arc::clone(&status.registry),
            socket: Arc::clone(&status.socket),
            refused: Arc::default(),
            ledger,
            follow: config.follow,
            verify: config.verify,
            setup,
        };
        let reporting = Reports::new(sender, wake);
        let engine = Engine::start(context, ownership, requests, manager.pulse(), reporting)
            .map_err(system("engine thread"))?;
        engine.send(Command::Restore);
        let version = env!("CARGO_PKG_VERSION");
        let pid = std::process::id();
        tracing::info!(version, pid, status = status.addresses, "litevisor starts");
        // Children that exited before: their SIGCHLD came before the signals were watched.
        reap(None);
        Ok(EventSources {
            watch,
            engine,
            reports,
            engine_ended,
            engine_lost: false,
            notifier,
            manager,
            status,
        })
    }

    /// Sleeps until something happens, or `deadline` has passed.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) {
        self.watch.wait(deadline.into_iter().chain(self.manager.due()).min());
    }

    /// Tells the service manager what is new, if a look is due. `voice`: of an app that speaks for itself.
    pub(super) fn tend_manager(&mut self, voice: Option<&AppVoice>) {
        self.manager.tend(&self.status.registry, || voice.map(AppVoice::heard));
    }

    /// The lifecycle has entered a state.
    pub(super) fn enter(&mut self, phase: Phase, life: Life, voice: Option<&AppVoice>) {
        self.status.registry.enter(phase);
        self.manager.enter(life, phase);
        self.tend_manager(voice);
    }

    /// The next occurrence, if there is one: signals first.
    pub(super) fn poll(&mut self, stop_signal: Signal) -> Option<SourceEvent> {
        if let Some(received) = self.watch.signal() {
            let watchdog = self.manager.watchdog().is_some();
            return Some(SourceEvent::Signal(meaning(received, std::process::id(), stop_signal, watchdog)));
        }
        // Read before the reports: the engine sent its reports before it ended.
        let ended = self.engine_ended.load(Ordering::Acquire);
        if let Ok(report) = self.reports.try_recv() {
            return Some(SourceEvent::Report(report));
        }
        if ended && !self.engine_lost {
            self.engine_lost = true;
            tracing::error!(
                "the engine has ended unexpectedly: nothing is replicated any more. Restart litevisor"
            );
            self.status.registry.engine_lost();
            return Some(SourceEvent::EngineLost);
        }
        None
    }

    /// The last flush has ended: people are told what it has left.
    pub(super) fn finish_notifications(&mut self, databases: &[DatabaseSummary]) {
        if let Some(notifier) = self.notifier.take() {
            notifier.finish(databases.to_vec());
        }
    }

    /// False: the engine has ended, and no answer will come.
    pub(super) fn send(&self, command: Command) -> bool {
        self.engine.send(command);
        !self.engine_lost
    }
}

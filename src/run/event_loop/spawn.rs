//! Starts the app, and the commands of `[app] setup` before it.

use super::super::app_voice::AppVoice;
use super::super::engine::Command;
use super::super::readiness::Readiness;
use super::{AppRun, EventLoop, environment};
use crate::lifecycle::Event;
use crate::model::Restart;
use crate::model::proof::Restored;
use crate::supervise::{App, AppSettings, ProcessTree, ReadyCheck, memory_events};

impl EventLoop {
    /// A command of the setup: as the app is started, and without what is the app's alone.
    pub(super) fn set_up(&mut self, command: usize) {
        let Some(argv) = self.settings.setup.commands.get(command).cloned() else { return };
        let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
        let shown = words.join(" ");
        let of = self.settings.setup.commands.len();
        if command == 0 {
            self.tree = ProcessTree::before_the_app();
            self.has_set_up = true;
        }
        let settings = AppSettings { command: argv, ready: None, ..self.settings.clone() };
        match App::spawn(&settings, self.sources.watch.claimed()) {
            Ok(app) => {
                let oom_kills = memory_events::oom_kills();
                self.app_run = AppRun { oom_kills, setup: Some(shown.clone()), ..AppRun::default() };
                app.join(&mut self.tree);
                tracing::info!(pid = app.pid(), "setup, command {} of {of} is started: {shown}", command + 1);
                self.app = Some(app);
                self.pending.push_back(Event::Spawned);
            }
            Err(error) => {
                tracing::error!("setup, command {} of {of}: {error}", command + 1);
                self.pending.push_back(Event::NotSpawned(error.not_started()));
            }
        }
    }

    pub(super) fn start(&mut self, proof: Restored) {
        self.sources.send(Command::Replicate(proof));
        if !std::mem::take(&mut self.has_set_up) {
            self.tree = ProcessTree::before_the_app();
        }
        self.spawn();
    }

    /// The socket of an app that says itself when it is ready.
    fn voice(&self) -> Option<AppVoice> {
        if self.settings.ready != Some(ReadyCheck::Notify) {
            return None;
        }
        let opened = AppVoice::open();
        opened
            .inspect_err(|error| {
                tracing::error!("the app gets no NOTIFY_SOCKET, and never counts as ready: {error}")
            })
            .ok()
    }

    /// Gates open for an app that says itself when it is ready once it has said so.
    fn notice_ready(&mut self, app: &App) {
        let (registry, waker) = (&self.sources.status.registry, self.sources.watch.waker());
        match &self.settings.ready {
            Some(ReadyCheck::Notify) => match &self.app_run.voice {
                Some(voice) => voice.listen(registry, app.notify_owner(), waker),
                None => registry
                    .app_silent(app.pid(), "the app has no socket to say READY=1 (see the log)".into()),
            },
            Some(ReadyCheck::Probe(probe)) => {
                self.app_run.readiness = Readiness::begin(probe, registry, app.pid(), waker);
            }
            None => {}
        }
        if self.settings.ready != Some(ReadyCheck::Notify) {
            self.gates.app_started();
        }
    }

    pub(super) fn spawn(&mut self) {
        let voice = self.voice();
        let settings = voice
            .as_ref()
            .map(|voice| environment::with_voice(&self.settings, voice, self.sources.manager.watchdog()));
        match App::spawn(settings.as_ref().unwrap_or(&self.settings), self.sources.watch.claimed()) {
            Ok(app) => {
                self.app_run = AppRun { oom_kills: memory_events::oom_kills(), voice, ..AppRun::default() };
                app.join(&mut self.tree);
                self.sources.status.registry.app_started(app.pid());
                self.notice_ready(&app);
                tracing::info!(pid = app.pid(), "the app is started");
                if app.lost_directory {
                    tracing::warn!("the app's working directory was removed: it runs in /");
                }
                self.app = Some(app);
                self.answer_restore("");
                self.pending.push_back(Event::Spawned);
            }
            Err(error) => {
                self.answer_restore("the app cannot be started");
                tracing::error!("{error}");
                self.pending.push_back(Event::NotSpawned(error.not_started()));
            }
        }
        if self.rules.restart.when == Restart::Never {
            self.sources.watch.release_descriptors();
        }
    }
}

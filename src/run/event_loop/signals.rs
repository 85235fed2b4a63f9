//! What the app's processes are sent, and which of them are left.

use super::super::app_exit;
use super::EventLoop;
use crate::lifecycle::Event;
use crate::model::Signal;
use crate::supervise::Sent;
use crate::supervise::remaining::{Extent, Remaining, Treatment};
use std::time::Instant;

const RIGHTS: &str = "operation not permitted; litevisor needs CAP_KILL, or CAP_SETUID (docker run --cap-add \
    KILL, capabilities.add in Kubernetes), or the app's own user";

impl EventLoop {
    pub(super) fn stop_app(&mut self, signal: Signal) {
        let Some(app) = &self.app else { return };
        let told = app.signal(signal);
        // To the whole group: a stopped process handles a signal only when it continues.
        app.signal_group(Signal::CONT);
        self.app_run.group_signalled = told.group;
        self.app_run.stop_sent = Some((signal, Instant::now()));
        match told.sent {
            Sent::Sent => {
                self.app_run.sent(signal);
                tracing::info!("{signal} sent to the app");
            }
            Sent::Gone => tracing::debug!("{signal} not sent: the app has ended"),
            Sent::Refused => log_refused(signal),
        }
    }

    pub(super) fn forward(&mut self, signal: Signal) {
        let Some(app) = &self.app else { return };
        // All processes that were stopped together continue together.
        let sent = if signal == Signal::CONT { app.signal_group(signal) } else { app.signal(signal).sent };
        match sent {
            Sent::Sent => {
                self.app_run.sent(signal);
                tracing::debug!("{signal} forwarded");
            }
            Sent::Gone => {}
            Sent::Refused => log_refused(signal),
        }
    }

    pub(super) fn kill_app(&mut self) {
        let already = self.app_run.sent.contains(&Signal::KILL);
        match self.app.as_ref().map(|app| app.signal_group(Signal::KILL)) {
            Some(Sent::Sent) => {
                self.app_run.sent(Signal::KILL);
                let stop_sent = self.app_run.stop_sent.map(|(signal, at)| (signal, at.elapsed()));
                let requested = self.app_run.stop_requested.map(|at| at.elapsed()).unwrap_or_default();
                tracing::warn!(
                    "{}",
                    app_exit::kill_message(stop_sent, requested, self.rules.app_timeout, already)
                );
            }
            Some(Sent::Refused) => log_refused(Signal::KILL),
            Some(Sent::Gone) | None => {}
        }
    }

    pub(super) fn end_remaining(&mut self, treatment: Treatment, extent: Extent) {
        let treatment = match treatment {
            Treatment::Signal { signal, group_signalled } => {
                Treatment::Signal { signal, group_signalled: group_signalled && self.app_run.group_signalled }
            }
            Treatment::Kill | Treatment::Count => treatment,
        };
        match self.tree.treat(treatment, extent) {
            Remaining::AllExited(quiet) => self.all_exited(Event::AllExited(quiet)),
            Remaining::AppTreeExited(over) => self.all_exited(Event::AppTreeExited(over)),
            Remaining::Alive { count, refused } => {
                tracing::debug!(count, refused, ?treatment, "processes of the app are left");
                if refused > 0 && !self.app_run.refusal_logged {
                    self.app_run.refusal_logged = true;
                    tracing::error!("{refused} processes of the app cannot be signalled: {RIGHTS}");
                }
            }
        }
    }

    fn all_exited(&mut self, event: Event) {
        self.sources.watch.claimed().stand_down();
        self.pending.push_back(event);
    }
}

fn log_refused(signal: Signal) {
    tracing::error!("{signal} could not be sent to the app: {RIGHTS}");
}

//! The settings that the lifecycle decides by, and which signal the app gets.

use crate::model::{RestartSettings, Signal, SignalMap, SuccessCodes};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Rules {
    pub grace: Duration,
    pub app_timeout: Duration,
    pub pre_sync_timeout: Duration,
    /// What the app gets in place of SIGTERM.
    pub stop_signal: Signal,
    pub signals: SignalMap,
    pub restart: RestartSettings,
    pub success: SuccessCodes,
    /// How long after a hand-over a failure of the app gives the replica back to the previous owner.
    pub trial: Duration,
    /// Something notices when the app answers: `[app] ready`, or a gate.
    pub notices_ready: bool,
    /// The number of commands of `[app] setup`.
    pub setup: usize,
}

impl Rules {
    /// The signal that stops the app when litevisor has got the stop signal `received`: the entry of the
    /// signal map; else `stop_signal`, unless it is SIGTERM; else `received`. So Ctrl-C stays a SIGINT for
    /// the app, and an app that wants SIGQUIT gets it on every platform.
    pub fn stop_signal_for(&self, received: Signal) -> Signal {
        let own = if self.stop_signal == Signal::TERM { received } else { self.stop_signal };
        self.signals.get(received).flatten().unwrap_or(own)
    }

    /// The signal that stops the app when litevisor has got no signal.
    pub fn own_stop_signal(&self) -> Signal {
        self.stop_signal_for(Signal::TERM)
    }

    /// The signal that the app gets for any other signal. None: it gets none.
    pub fn forwarded(&self, received: Signal) -> Option<Signal> {
        self.signals.get(received).unwrap_or(Some(received))
    }
}

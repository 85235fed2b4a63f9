//! How a process ended, and signals as numbers with names.

use signal_hook::consts;
use std::fmt;

/// A signal by number (1..=64 on Linux, real-time ones included).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(pub i32);

impl Signal {
    pub const ABRT: Signal = Signal(consts::SIGABRT);
    pub const INT: Signal = Signal(consts::SIGINT);
    pub const KILL: Signal = Signal(consts::SIGKILL);
    pub const PIPE: Signal = Signal(consts::SIGPIPE);
    pub const TERM: Signal = Signal(consts::SIGTERM);
    pub const CHLD: Signal = Signal(consts::SIGCHLD);
    pub const CONT: Signal = Signal(consts::SIGCONT);
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal_hook::low_level::signal_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// Which signal the app gets in place of a received one. A signal that is not listed is forwarded unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignalMap(pub Vec<(Signal, Option<Signal>)>);

impl SignalMap {
    /// The configured substitute: `Some(None)` keeps the signal from the app.
    pub fn get(&self, received: Signal) -> Option<Option<Signal>> {
        self.0.iter().find(|(from, _)| *from == received).map(|(_, to)| *to)
    }
}

/// How the app ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppExit {
    Code(u8),
    Signal(Signal),
}

impl AppExit {
    /// The status a shell would report: the code, or 128 + the signal's number.
    pub fn status(self) -> u8 {
        match self {
            AppExit::Code(code) => code,
            AppExit::Signal(Signal(number)) => 128u8.saturating_add(u8::try_from(number).unwrap_or(127)),
        }
    }
}

impl fmt::Display for AppExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppExit::Code(code) => write!(f, "exited with status {code}"),
            AppExit::Signal(signal) => write!(f, "was killed by {signal}"),
        }
    }
}

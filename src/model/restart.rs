//! The settings of restarts, and which exit statuses of the app count as success.

use super::AppExit;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    Never,
    OnFailure,
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartSettings {
    pub when: Restart,
    /// Restarts in a row; after them litevisor ends with the app.
    pub limit: u32,
    /// An app that ran this long was well: counting begins anew.
    pub window: Duration,
    /// Before the first restart; doubled for each further one.
    pub delay: Duration,
    pub delay_max: Duration,
}

impl RestartSettings {
    pub const DEFAULT: RestartSettings = RestartSettings {
        when: Restart::Never,
        limit: 5,
        window: Duration::from_secs(60),
        delay: Duration::from_secs(1),
        delay_max: Duration::from_secs(30),
    };
}

/// Statuses beside 0 that mean success, as a shell reports them (143: ended by SIGTERM).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuccessCodes(pub Vec<u8>);

impl SuccessCodes {
    /// litevisor's exit status for this exit of the app.
    pub fn status(&self, exit: AppExit) -> u8 {
        let status = exit.status();
        if self.0.contains(&status) { 0 } else { status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Signal;

    #[test]
    fn successes() {
        let codes = SuccessCodes(vec![143, 3]);
        for (exit, status) in [
            (AppExit::Code(0), 0),
            (AppExit::Code(3), 0),
            (AppExit::Code(143), 0),
            (AppExit::Signal(Signal::TERM), 0),
            (AppExit::Signal(Signal::INT), 130),
            (AppExit::Code(1), 1),
        ] {
            assert_eq!(codes.status(exit), status, "{exit:?}");
            assert_eq!(SuccessCodes::default().status(exit), exit.status(), "{exit:?}");
        }
    }
}

//! `litevisor healthcheck`: 0 or 1 from the running supervisor, for images without a shell. Nothing else ever: a platform
//! may read meanings into other codes.

use super::ask::Supervisor;
use crate::observe::complain;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);
const UNHEALTHY: u8 = 1;

/// `live`: whether it is alive, not whether the app is there for its users.
pub fn healthcheck(config: Option<PathBuf>, socket: Option<PathBuf>, live: bool) -> u8 {
    let Ok(supervisor) = Supervisor::find(config, socket) else { return UNHEALTHY };
    let target = if live { "/healthz" } else { "/readyz" };
    match supervisor.ask("GET", target, LIMIT) {
        Ok(reply) if reply.status == 200 => 0,
        Ok(reply) => {
            complain(&reply.body.trim_end().replace('\n', "\n  "));
            UNHEALTHY
        }
        Err(error) => {
            complain(&error.to_string());
            UNHEALTHY
        }
    }
}

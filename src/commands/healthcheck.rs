//! `litevisor healthcheck`: exit status 0 or 1 by the running supervisor's answer, for images without a
//! shell. No other status: platforms give other statuses meanings of their own.

use super::document::{self, merged};
use super::error::CommandError;
use super::supervisor::Supervisor;
use crate::observe::client::Reply;
use crate::observe::complain;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);
const UNHEALTHY: u8 = 1;

/// `live`: whether litevisor itself is alive, not whether the app is ready.
pub fn healthcheck(config: Option<PathBuf>, socket: Option<PathBuf>, live: bool, as_json: bool) -> u8 {
    let (healthy, body) = match ask(config, socket, live) {
        Ok(reply) => (reply.status == 200, reply.body.trim_end().to_owned()),
        Err(error) if as_json => (false, error.messages.join("\n")),
        Err(error) => {
            error.report();
            return UNHEALTHY;
        }
    };
    let status = if healthy { 0 } else { UNHEALTHY };
    if as_json {
        let lines: Vec<&str> = body.lines().collect();
        let own = json!({ "healthy": healthy, "messages": lines });
        document::print(&merged(document::outcome(status, (!healthy).then_some(&body)), own));
    } else if !healthy || body.contains('\n') {
        // A healthy answer without remarks is one line, `ok` or `ready`.
        complain(&body.replace('\n', "\n  "));
    }
    status
}

fn ask(config: Option<PathBuf>, socket: Option<PathBuf>, live: bool) -> Result<Reply, CommandError> {
    let target = if live { "/healthz" } else { "/readyz" };
    Ok(Supervisor::find(config, socket)?.request("GET", target, LIMIT)?)
}

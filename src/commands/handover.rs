//! `litevisor promote` and `litevisor handover`: an operator's requests to the running supervisor. Each asks,
//! and then looks until it is done.

use super::document::{self, merged};
use super::error::{CommandError, ErrorKind};
use super::supervisor::Supervisor;
use crate::exit;
use crate::observe::client::Reply;
use crate::observe::{complain, say};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For one request.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// Returns when the supervisor owns the replica.
pub fn promote(
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
    force: bool,
    (timeout, as_json): (Duration, bool),
) -> Result<u8, CommandError> {
    let target = if force { "/promote?force=true" } else { "/promote" };
    carry_out(&Supervisor::find(config, socket)?, target, (timeout, as_json), &|state| state == "owner")
}

/// Returns when the replica is released.
pub fn hand_over(
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
    (timeout, as_json): (Duration, bool),
) -> Result<u8, CommandError> {
    let is_released = |state: &str| ["let-go", "retired", "standby"].contains(&state);
    carry_out(&Supervisor::find(config, socket)?, "/handover", (timeout, as_json), &is_released)
}

fn carry_out(
    supervisor: &Supervisor,
    target: &str,
    (timeout, as_json): (Duration, bool),
    is_done: &dyn Fn(&str) -> bool,
) -> Result<u8, CommandError> {
    let by = Instant::now() + timeout;
    match answer(&supervisor.request("POST", target, LIMIT)?) {
        Ok(message) if !as_json => say(&format!("{message}\n")),
        Ok(_) => {}
        Err((code, message)) => return Ok(tell(code, &message, as_json)),
    }
    loop {
        let (state, detail) = ownership(&supervisor.request("GET", "/status", LIMIT)?);
        if is_done(&state) {
            return Ok(tell(0, &detail, as_json));
        }
        if Instant::now() >= by {
            let late = format!("not done within {} s, and going on: {detail}", timeout.as_secs());
            return Ok(tell(exit::UNFLUSHED, &late, as_json));
        }
        std::thread::sleep(PAUSE.min(by.saturating_duration_since(Instant::now())));
    }
}

/// Returns the exit status.
fn tell(code: u8, message: &str, as_json: bool) -> u8 {
    match code {
        0 if as_json => document::print(&merged(document::outcome(0, None), json!({ "message": message }))),
        _ if as_json => document::print(&document::outcome(code, Some(message))),
        0 => say(&format!("{message}\n")),
        _ => complain(message),
    }
    code
}

/// The exit status and the message of a refusal.
fn answer(reply: &Reply) -> Result<String, (u8, String)> {
    let value: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let code = value.get("code").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
    match (reply.status, code, text("message")) {
        (200, Some(0), Some(message)) => Ok(message.to_owned()),
        (_, Some(code), Some(message)) if code != 0 => Err((code, message.to_owned())),
        (404, ..) => Err((
            ErrorKind::Unavailable.status(),
            "the running litevisor is older than this command".to_owned(),
        )),
        _ => {
            let told = text("error").unwrap_or(reply.body.trim_end());
            Err((ErrorKind::Unavailable.status(), told.to_owned()))
        }
    }
}

/// State and sentence.
fn ownership(reply: &Reply) -> (String, String) {
    let value: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/handover/state"), text("/handover/detail"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (status, body, expected) in [
            (200, r#"{"code":0,"message":"it asks"}"#, Ok("it asks".to_owned())),
            (409, r#"{"code":78,"message":"off"}"#, Err((78, "off".to_owned()))),
            (503, r#"{"error":"stopping"}"#, Err((69, "stopping".to_owned()))),
            (404, "not found", Err((69, "the running litevisor is older than this command".to_owned()))),
            (200, "what", Err((69, "what".to_owned()))),
        ] {
            assert_eq!(answer(&Reply { status, body: body.to_owned() }), expected, "{body}");
        }
        let reply =
            Reply { status: 200, body: r#"{"handover":{"state":"owner","detail":"it owns"}}"#.to_owned() };
        assert_eq!(ownership(&reply), ("owner".to_owned(), "it owns".to_owned()));
        assert_eq!(ownership(&Reply { status: 200, body: "{}".to_owned() }), (String::new(), String::new()));
    }
}

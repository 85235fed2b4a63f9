//! The last log line: how the app ended, what of each database is in the replica, how long each phase took.
//! `summary_message` (pure) decides what it says.

use super::engine::DatabaseSummary;
use crate::lifecycle::Outcome;
use crate::model::{Ending, NotStarted};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How many databases the message names; the field `databases` has them all.
const NAMED: usize = 5;

/// The time spent in each state, in the order of the first visit. An app that is restarted for years adds no
/// new entries.
pub(super) struct Phases {
    past: Vec<Phase>,
    current: &'static str,
    since: Instant,
}

struct Phase {
    name: &'static str,
    span: Duration,
    times: u32,
}

impl Phases {
    pub(super) fn begin(name: &'static str, now: Instant) -> Phases {
        Phases { past: Vec::new(), current: name, since: now }
    }

    pub(super) fn enter(&mut self, name: &'static str, now: Instant) {
        if name != self.current {
            self.leave(now.saturating_duration_since(self.since));
            tracing::debug!(from = self.current, to = name, "phase");
            self.current = name;
            self.since = now;
        }
    }

    fn leave(&mut self, span: Duration) {
        match self.past.iter_mut().find(|phase| phase.name == self.current) {
            Some(phase) => {
                phase.span += span;
                phase.times = phase.times.saturating_add(1);
            }
            None => self.past.push(Phase { name: self.current, span, times: 1 }),
        }
    }

    /// As a list, in order.
    fn value(&self) -> Value {
        let one = |Phase { name, span, times }: &Phase| {
            let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            match times {
                1 => json!({ "phase": name, "ms": ms }),
                times => json!({ "phase": name, "ms": ms, "times": times }),
            }
        };
        self.past.iter().map(one).collect()
    }
}

pub(super) fn log(status: u8, outcome: &Outcome, phases: &Phases, databases: &[DatabaseSummary]) {
    let SummaryMessage { flushed, message, success } = summary_message(outcome, databases);
    let app = ending(outcome.ending);
    let fenced = outcome.fenced.then_some(true);
    let (databases, phases): (Value, Value) = (databases.iter().map(value).collect(), phases.value());
    if success {
        tracing::info!(status, app, flushed, json.databases = %databases, json.phases = %phases, "{message}");
    } else {
        tracing::warn!(
            status, app, flushed, fenced, json.databases = %databases, json.phases = %phases,
            "{message}"
        );
    }
}

/// What the summary says about the data.
#[derive(Debug, PartialEq, Eq)]
struct SummaryMessage {
    /// Whether the last flush was complete. None: there was nothing to flush.
    flushed: Option<bool>,
    message: String,
    success: bool,
}

/// Pure.
fn summary_message(outcome: &Outcome, databases: &[DatabaseSummary]) -> SummaryMessage {
    let absent: Vec<&str> = databases.iter().filter(|db| db.absent).map(|db| db.database.as_str()).collect();
    let flushed = match outcome.ending {
        // Nothing was replicated, so nothing is missing.
        Ending::NotStarted(_) | Ending::Stopped(_) if databases.is_empty() && outcome.complete => None,
        _ if !databases.is_empty() && absent.len() == databases.len() && outcome.complete => None,
        _ => Some(outcome.complete),
    };
    let message = match absent.as_slice() {
        _ if !outcome.complete || outcome.fenced => "done, with data missing from the replica".to_owned(),
        [] => "done".to_owned(),
        absent if absent.len() == databases.len() => {
            format!("done; NOTHING WAS REPLICATED: no database at {}", first_names(absent))
        }
        absent => format!("done; not replicated, because no database existed: {}", first_names(absent)),
    };
    let success = outcome.complete && !outcome.fenced && absent.is_empty();
    SummaryMessage { flushed, message, success }
}

/// The first few.
fn first_names(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

fn ending(ending: Ending) -> String {
    match ending {
        Ending::App(exit) => exit.to_string(),
        Ending::SetupFailed(exit) => format!("not started: a command of app.setup {exit}"),
        Ending::Stopped(signal) => format!("not started: {signal} came first"),
        Ending::NeverReady(exit) => format!("{exit}: it did not answer in its time after the hand-over"),
        Ending::Retired => "not running: another instance has the replica".to_string(),
        Ending::NoApp => "none: replication only".to_string(),
        Ending::Unkillable => "could not be killed".to_string(),
        Ending::NotStarted(reason) => {
            let reason = match reason {
                NotStarted::Damaged => "the replica is damaged",
                NotStarted::Unavailable => "the replica is unavailable",
                NotStarted::Nothing => "there is no database",
                NotStarted::Local => "an error in the configuration or on this machine",
                NotStarted::Taken => "another instance has taken the replica over",
                NotStarted::Internal => "internal error",
                NotStarted::CannotExecute => "the command cannot be executed",
                NotStarted::NotFound => "the command was not found",
            };
            format!("not started: {reason}")
        }
    }
}

fn value(db: &DatabaseSummary) -> Value {
    let DatabaseSummary { database, complete, captured, uploaded, missing, absent, bytes, .. } = db;
    let state = match (absent, complete) {
        (true, _) => "no database",
        (false, true) => "complete",
        (false, false) => "INCOMPLETE",
    };
    let mut value = json!({ "database": database, "state": state });
    let Some(object) = value.as_object_mut() else { return value };
    if !absent {
        object.insert("committed".into(), captured.as_str().into());
        object.insert("uploaded".into(), uploaded.as_str().into());
        object.insert("bytes".into(), (*bytes).into());
    }
    if let Some(missing) = missing {
        object.insert("missing".into(), missing.as_str().into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppExit, Signal};

    #[test]
    fn phases_are_told_in_order_and_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut phases = Phases::begin("restore", start);
        phases.enter("restore", at(5));
        phases.enter("run", at(12));
        phases.enter("stop", at(1012));
        assert_eq!(phases.value(), json!([{ "phase": "restore", "ms": 12 }, { "phase": "run", "ms": 1000 }]));
        phases.enter("run", at(1100));
        phases.enter("stop", at(1300));
        phases.enter("done", at(1301));
        let expected = json!([
            { "phase": "restore", "ms": 12 }, { "phase": "run", "ms": 1200, "times": 2 },
            { "phase": "stop", "ms": 89, "times": 2 },
        ]);
        assert_eq!(phases.value(), expected);
    }

    fn summary(complete: bool, missing: Option<&str>, absent: bool) -> DatabaseSummary {
        DatabaseSummary {
            database: "/a.db".into(),
            complete,
            fenced: false,
            captured: "0000000000000008".into(),
            uploaded: "0000000000000007".into(),
            missing: missing.map(String::from),
            absent,
            bytes: 9,
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (db, expected) in [
            (
                summary(true, None, false),
                json!({ "database": "/a.db", "state": "complete", "committed": "0000000000000008",
                        "uploaded": "0000000000000007", "bytes": 9 }),
            ),
            (
                summary(false, Some("TXID 8"), false),
                json!({ "database": "/a.db", "state": "INCOMPLETE", "committed": "0000000000000008",
                        "uploaded": "0000000000000007", "bytes": 9, "missing": "TXID 8" }),
            ),
            (summary(true, None, true), json!({ "database": "/a.db", "state": "no database" })),
        ] {
            assert_eq!(value(&db), expected);
        }
    }

    #[test]
    fn the_last_line_never_calls_nothing_a_success() {
        let exited = Ending::App(AppExit::Code(0));
        let (here, gone) = (|| summary(true, None, false), || summary(true, None, true));
        let lost = || summary(false, Some("TXID 8"), false);
        for (ending, complete, fenced, databases, flushed, message, success) in [
            (exited, true, false, vec![here()], Some(true), "done", true),
            (exited, true, false, vec![], Some(true), "done", true),
            (
                exited,
                true,
                false,
                vec![gone()],
                None,
                "done; NOTHING WAS REPLICATED: no database at /a.db",
                false,
            ),
            (
                exited,
                true,
                false,
                vec![gone(), here()],
                Some(true),
                "done; not replicated, because no database",
                false,
            ),
            (exited, false, false, vec![gone(), lost()], Some(false), "done, with data missing", false),
            (exited, true, true, vec![here()], Some(true), "done, with data missing", false),
            (Ending::NotStarted(NotStarted::Unavailable), true, false, vec![], None, "done", true),
            (Ending::NotStarted(NotStarted::NotFound), true, false, vec![here()], Some(true), "done", true),
            (Ending::Stopped(Signal::TERM), true, false, vec![], None, "done", true),
            (Ending::Unkillable, false, false, vec![lost()], Some(false), "done, with data missing", false),
        ] {
            let found = summary_message(&Outcome { ending, complete, fenced }, &databases);
            assert_eq!((found.flushed, found.success), (flushed, success), "{ending:?} {databases:?}");
            assert!(found.message.starts_with(message), "{}", found.message);
        }
        let many: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(first_names(&many), "0, 1, 2, 3, 4 and 4 more");
    }
}

//! The last log line: how the app ended, what of each database is in the replica, how long each phase took.

use super::engine::DatabaseSummary;
use crate::lifecycle::Outcome;
use crate::model::{Ending, NotStarted};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Time spent in each state, in the order of their first time: an app that is restarted for years adds no new ones.
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

    fn text(&self) -> String {
        let mut text = String::new();
        for Phase { name, span, times } in &self.past {
            let separator = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{separator}{name} {}ms", span.as_millis());
            if *times > 1 {
                let _ = write!(text, " in {times} times");
            }
        }
        text
    }
}

pub(super) fn log(status: u8, outcome: &Outcome, phases: &Phases, databases: &[DatabaseSummary]) {
    let (app, databases, phases) = (ending(outcome.ending), databases_text(databases), phases.text());
    let (flushed, fenced) = (outcome.complete, outcome.fenced);
    if flushed && !fenced {
        tracing::info!(status, app, flushed, databases, phases, "done");
    } else {
        tracing::warn!(status, app, flushed, fenced, databases, phases, "done, with data missing from the replica");
    }
}

fn ending(ending: Ending) -> String {
    match ending {
        Ending::App(exit) => exit.to_string(),
        Ending::Stopped(signal) => format!("not started: {signal} came first"),
        Ending::NoApp => "none: replication alone".to_string(),
        Ending::Unkillable => "could not be killed".to_string(),
        Ending::NotStarted(reason) => {
            let reason = match reason {
                NotStarted::Damaged => "the replica is damaged",
                NotStarted::Unavailable => "the replica is unavailable",
                NotStarted::Nothing => "there is no database",
                NotStarted::Local => "the configuration or this machine is in the way",
                NotStarted::Taken => "another instance holds the replica",
                NotStarted::Internal => "internal error",
                NotStarted::CannotExecute => "the command cannot be executed",
                NotStarted::NotFound => "the command was not found",
            };
            format!("not started: {reason}")
        }
    }
}

fn databases_text(databases: &[DatabaseSummary]) -> String {
    let one = |db: &DatabaseSummary| {
        let state = match (&db.missing, db.complete) {
            (Some(missing), _) => format!("INCOMPLETE: {missing}"),
            (None, true) => "complete".to_string(),
            (None, false) => "INCOMPLETE".to_string(),
        };
        let DatabaseSummary { database, captured, uploaded, bytes, .. } = db;
        format!("{database}: captured {captured}, uploaded {uploaded} ({bytes} bytes), {state}")
    };
    databases.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_in_order_and_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut phases = Phases::begin("restore", start);
        phases.enter("restore", at(5));
        phases.enter("run", at(12));
        phases.enter("stop", at(1012));
        assert_eq!(phases.text(), "restore 12ms, run 1000ms");
        phases.enter("run", at(1100));
        phases.enter("stop", at(1300));
        phases.enter("done", at(1301));
        assert_eq!(phases.text(), "restore 12ms, run 1200ms in 2 times, stop 89ms in 2 times");
    }

    #[test]
    fn what_is_missing_is_named() {
        let db = |complete, missing: Option<&str>| DatabaseSummary {
            database: "/a.db".into(),
            complete,
            fenced: false,
            captured: "0000000000000008".into(),
            uploaded: "0000000000000007".into(),
            missing: missing.map(String::from),
            bytes: 9,
        };
        let text = databases_text(&[db(true, None), db(false, Some("TXID 8"))]);
        assert_eq!(
            text,
            "/a.db: captured 0000000000000008, uploaded 0000000000000007 (9 bytes), complete; \
             /a.db: captured 0000000000000008, uploaded 0000000000000007 (9 bytes), INCOMPLETE: TXID 8"
        );
    }
}

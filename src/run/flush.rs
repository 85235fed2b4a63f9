//! Flushes of all databases, in parallel, by one deadline, and what they came to.

use super::messages::DatabaseSummary;
use crate::lifecycle::sidecar::Flushed;
use crate::model::{DbPath, Deadline, Txid};
use crate::replicate::{Handle, Status};
use crate::sqlite::files;
use std::path::Path;
use tokio::task::JoinSet;

/// A database while the app runs.
#[derive(Clone)]
pub enum Running {
    Task(DbPath, Handle),
    /// It is not replicated, for this reason.
    Not(DbPath, String),
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Somebody asked for it while the app goes on.
    Sync,
    /// The app is about to be told to stop.
    Stop,
    /// Nobody writes any more.
    Last,
}

/// Flushes everything; returns at `by` at the latest.
pub async fn flush_all(running: Vec<Running>, by: Deadline, occasion: Occasion) -> Done {
    let mut flushing = JoinSet::new();
    for (index, one) in running.into_iter().enumerate() {
        flushing.spawn(async move {
            let done = match one {
                Running::Not(db, why) => (not_replicated(&db, why), true),
                Running::Task(db, handle) => {
                    let flushed = async {
                        match occasion {
                            Occasion::Sync => handle.sync().await,
                            Occasion::Stop => handle.flush(false).await,
                            Occasion::Last => handle.flush(true).await,
                        }
                    };
                    let done = tokio::time::timeout_at(by.instant().into(), flushed).await;
                    let answer = done.ok().flatten();
                    let in_time = answer.is_some();
                    let status = answer.unwrap_or_else(|| handle.status());
                    (summary(&db, &status, in_time), status.problem.is_some() || status.fenced.is_some())
                }
            };
            (index, done)
        });
    }
    let mut done: Vec<_> = flushing.join_all().await;
    done.sort_by_key(|(index, _)| *index);
    let stuck = done.iter().any(|(_, (summary, hindered))| *hindered && !summary.complete);
    Done {
        last: occasion == Occasion::Last,
        stuck,
        summaries: done.into_iter().map(|(_, (summary, _))| summary).collect(),
    }
}

/// What a flush of everything came to.
pub struct Done {
    pub last: bool,
    stuck: bool,
    pub summaries: Vec<DatabaseSummary>,
}

impl Done {
    /// Of all databases together. Looks who else has them open.
    pub fn look(self) -> Flushed {
        let Done { stuck, summaries, .. } = self;
        Flushed {
            complete: summaries.iter().all(|summary| summary.complete),
            stuck,
            bytes: summaries.iter().map(|summary| summary.bytes).sum(),
            in_use: summaries.iter().any(|summary| files::used_by_others(Path::new(&summary.database))),
        }
    }
}

fn not_replicated(db: &DbPath, why: String) -> DatabaseSummary {
    DatabaseSummary {
        database: db.to_string(),
        complete: false,
        fenced: false,
        captured: "none".into(),
        uploaded: "none".into(),
        missing: Some(format!("everything of this run: {why}")),
        bytes: 0,
    }
}

/// Pure.
fn summary(db: &DbPath, status: &Status, in_time: bool) -> DatabaseSummary {
    let position = |txid: Txid| if txid == Txid::NONE { "none".to_owned() } else { txid.to_string() };
    let missing = match (&status.fenced, in_time) {
        (Some(fenced), _) => Some(format!("everything after {}: {fenced}", position(status.uploaded.0))),
        (None, true) => None,
        (None, false) => {
            let why = status.problem.as_deref().unwrap_or("the time was over");
            Some(format!("everything after {}: {why}", position(status.uploaded.0)))
        }
    };
    DatabaseSummary {
        database: db.to_string(),
        complete: missing.is_none(),
        fenced: status.fenced.is_some() && !status.refused,
        captured: position(status.captured.0.max(status.uploaded.0)),
        uploaded: position(status.uploaded.0),
        missing,
        bytes: status.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Captured, Uploaded};

    #[test]
    fn what_is_missing_is_named() {
        let db = DbPath::new("/data/app.db");
        let status = Status { captured: Captured(Txid(8)), uploaded: Uploaded(Txid(7)), ..Status::default() };
        let done = summary(&db, &status, true);
        assert!(done.complete && done.missing.is_none(), "{done:?}");
        let late = summary(&db, &Status { problem: Some("no route".into()), ..status.clone() }, false);
        assert_eq!(late.missing.as_deref(), Some("everything after 0000000000000007: no route"));
        assert_eq!((late.complete, late.captured.as_str()), (false, "0000000000000008"));
        let fenced = Status { fenced: Some("node 9".into()), ..status };
        let refused = summary(&db, &Status { refused: true, ..fenced.clone() }, true);
        assert!(!refused.complete && !refused.fenced, "nobody has taken it over");
        let fenced = summary(&db, &fenced, true);
        assert!(!fenced.complete && fenced.fenced && !done.fenced);
        assert_eq!(summary(&db, &Status::default(), true).uploaded, "none");
    }
}

//! Flushes all databases in parallel by one deadline, and summarises the results.

use super::messages::DatabaseSummary;
use crate::lifecycle::sidecar::Flushed;
use crate::model::{Captured, DbPath, Deadline, Txid, Uploaded};
use crate::replicate::{Handle, Status};
use crate::sqlite::files;
use std::path::Path;
use tokio::task::JoinSet;

/// What is configured, while the app runs.
#[derive(Clone)]
pub enum RunningDatabase {
    Replicated(DbPath, Handle),
    /// A database that is not replicated, and the reason.
    NotReplicated(DbPath, String),
    /// A directory with its pattern, which no database matches.
    EmptyDirectory(DbPath),
}

impl RunningDatabase {
    pub fn db(&self) -> &DbPath {
        match self {
            RunningDatabase::Replicated(db, _)
            | RunningDatabase::NotReplicated(db, _)
            | RunningDatabase::EmptyDirectory(db) => db,
        }
    }
}

/// Why a flush was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushKind {
    /// A client asked for it; the app continues.
    Sync,
    /// Before the stop signal to the app.
    Stop,
    /// The last flush.
    Last,
}

/// Flushes everything; returns at `by` at the latest.
pub async fn flush_all(running: Vec<RunningDatabase>, by: Deadline, kind: FlushKind) -> FlushResult {
    let mut flushing = JoinSet::new();
    for (index, one) in running.into_iter().enumerate() {
        flushing.spawn(async move {
            let done = match one {
                RunningDatabase::NotReplicated(db, why) => (not_replicated(&db, why), true),
                RunningDatabase::EmptyDirectory(pattern) => (nothing_there(&pattern), false),
                RunningDatabase::Replicated(db, handle) => {
                    let flushed = async {
                        match kind {
                            FlushKind::Sync => handle.sync().await,
                            FlushKind::Stop => handle.flush(false).await,
                            FlushKind::Last => handle.flush(true).await,
                        }
                    };
                    let done = tokio::time::timeout_at(by.instant().into(), flushed).await;
                    let answer = done.ok().flatten();
                    let in_time = answer.is_some();
                    let status = answer.unwrap_or_else(|| handle.status());
                    (summary(&db, &status, in_time), status.is_hindered())
                }
            };
            (index, done)
        });
    }
    let mut done: Vec<_> = flushing.join_all().await;
    done.sort_by_key(|(index, _)| *index);
    let stuck = done.iter().any(|(_, (summary, hindered))| *hindered && !summary.complete);
    FlushResult { stuck, summaries: done.into_iter().map(|(_, (summary, _))| summary).collect() }
}

/// The result of a flush of all databases.
pub struct FlushResult {
    stuck: bool,
    pub summaries: Vec<DatabaseSummary>,
}

impl FlushResult {
    /// Of databases that were never replicated in this run.
    pub fn untouched<'a>(databases: impl Iterator<Item = (&'a DbPath, Txid)>) -> FlushResult {
        let one = |(db, txid): (&DbPath, Txid)| {
            summary(
                db,
                &Status { captured: Captured(txid), uploaded: Uploaded(txid), ..Status::default() },
                true,
            )
        };
        FlushResult { stuck: false, summaries: databases.map(one).collect() }
    }

    /// The sum of all databases, and whether another process has one of them open.
    pub fn check_in_use(self) -> Flushed {
        let FlushResult { stuck, summaries, .. } = self;
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
        absent: false,
        bytes: 0,
    }
}

/// No database matches the pattern: nothing is lost, and nothing is replicated.
fn nothing_there(pattern: &DbPath) -> DatabaseSummary {
    let absent = Status { absent: true, ..Status::default() };
    summary(pattern, &absent, true)
}

/// Pure.
fn summary(db: &DbPath, status: &Status, in_time: bool) -> DatabaseSummary {
    let position = |txid: Txid| if txid == Txid::NONE { "none".to_owned() } else { txid.to_string() };
    let missing = match (&status.fenced, in_time) {
        (Some(fenced), _) => Some(format!("everything after {}: {fenced}", position(status.uploaded.0))),
        (None, true) => None,
        (None, false) => {
            let why = status
                .replaced
                .as_deref()
                .or(status.problem.as_deref())
                .unwrap_or("it was not uploaded in time");
            Some(match &status.unrestorable {
                Some(unrestorable) => {
                    format!("a snapshot, without which nothing can be restored: {unrestorable}")
                }
                None => format!("everything after {}: {why}", position(status.uploaded.0)),
            })
        }
    };
    DatabaseSummary {
        database: db.to_string(),
        complete: missing.is_none(),
        fenced: status.fenced.is_some() && !status.refused,
        captured: position(status.captured.0.max(status.uploaded.0)),
        uploaded: position(status.uploaded.0),
        missing,
        absent: status.never_existed(),
        bytes: status.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!refused.complete && !refused.fenced, "no writer has taken it over");
        let fenced = summary(&db, &fenced, true);
        assert!(!fenced.complete && fenced.fenced && !done.fenced);
        assert_eq!(summary(&db, &Status::default(), true).uploaded, "none");
        let absent = summary(&db, &Status { absent: true, ..Status::default() }, true);
        assert!(absent.absent && absent.complete, "the app may never create it: {absent:?}");
        let removed = Status { absent: true, uploaded: Uploaded(Txid(7)), ..Status::default() };
        assert!(!summary(&db, &removed, true).absent, "it existed, and everything of it is in the replica");
    }
}

//! Syncs on request (`litevisor sync`, `POST /sync`): uploads what is committed now, as before a stop, while
//! the app continues.

use super::database_set::DatabaseSet;
use super::flush::{FlushKind, FlushResult, RunningDatabase, flush_all};
use super::messages::DatabaseSummary;
use crate::observe::sync::{SyncAnswer, SyncRequest, Synced};
use tokio::task::JoinSet;

/// `syncs` ends the tasks with the engine.
pub fn begin(database_set: Option<&mut DatabaseSet>, request: SyncRequest, syncs: &mut JoinSet<()>) {
    while syncs.try_join_next().is_some() {}
    let SyncRequest { db, by, reply } = request;
    let Some(database_set) = database_set else {
        let _ = reply.send(SyncAnswer::NotYet);
        return;
    };
    let mut wanted = database_set.all();
    if let Some(db) = db {
        wanted.retain(|one| one.db().to_string() == db);
        if wanted.is_empty() {
            let _ = reply.send(SyncAnswer::Unknown);
            return;
        }
    }
    syncs.spawn(async move {
        let FlushResult { summaries, .. } = flush_all(wanted.clone(), by, FlushKind::Sync).await;
        let synced = wanted.iter().zip(summaries).map(|(one, summary)| synced(one, summary)).collect();
        let _ = reply.send(SyncAnswer::Done(synced));
    });
}

/// A flush also ends when nothing can be uploaded. The answer to a sync says whether the commits are in the
/// replica.
fn synced(one: &RunningDatabase, summary: DatabaseSummary) -> Synced {
    let problem = match one {
        RunningDatabase::Replicated(_, handle) => {
            let status = handle.status();
            status.replaced.or(status.problem)
        }
        RunningDatabase::NotReplicated(..) | RunningDatabase::EmptyDirectory(_) => None,
    };
    let DatabaseSummary { database, fenced, captured, uploaded, missing, absent, .. } = summary;
    let nothing = absent.then(|| "no database: nothing is replicated".to_owned());
    let missing = missing.or(problem).or(nothing);
    Synced { database, complete: missing.is_none(), fenced, absent, committed: captured, uploaded, missing }
}

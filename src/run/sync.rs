//! A sync that somebody asked for: what is committed now is uploaded, as before a stop, while the app goes on. Lives on the
//! engine's thread, waits in tasks of its own.

use super::crew::Crew;
use super::flush::{Done, Occasion, Running, flush_all};
use super::messages::DatabaseSummary;
use crate::model::DbPath;
use crate::observe::sync::{SyncAnswer, SyncRequest, Synced};
use tokio::task::JoinSet;

/// `syncs` ends the tasks with the engine.
pub fn begin(crew: Option<&mut Crew>, request: SyncRequest, syncs: &mut JoinSet<()>) {
    while syncs.try_join_next().is_some() {}
    let SyncRequest { db, by, reply } = request;
    let Some(crew) = crew else {
        let _ = reply.send(SyncAnswer::NotYet);
        return;
    };
    let mut wanted = crew.all();
    if let Some(db) = db {
        wanted.retain(|one| path(one).to_string() == db);
        if wanted.is_empty() {
            let _ = reply.send(SyncAnswer::Unknown);
            return;
        }
    }
    syncs.spawn(async move {
        let Done { summaries, .. } = flush_all(wanted.clone(), by, Occasion::Sync).await;
        let synced = wanted.iter().zip(summaries).map(|(one, summary)| synced(one, summary)).collect();
        let _ = reply.send(SyncAnswer::Done(synced));
    });
}

fn path(one: &Running) -> &DbPath {
    match one {
        Running::Task(db, _) | Running::Not(db, _) => db,
    }
}

/// A flush is over, too, when nothing can be done; whoever syncs wants to know that it is there.
fn synced(one: &Running, summary: DatabaseSummary) -> Synced {
    let problem = match one {
        Running::Task(_, handle) => handle.status().problem,
        Running::Not(..) => None,
    };
    let DatabaseSummary { database, fenced, captured, uploaded, missing, .. } = summary;
    let missing = missing.or(problem);
    Synced { database, complete: missing.is_none(), fenced, committed: captured, uploaded, missing }
}

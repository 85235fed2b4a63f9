//! What `litevisor restore` and `verify` say about a restored database, as text and as JSON.

use super::jobs::Job;
use crate::commands::document::{merged, object};
use crate::model::TxidRange;
use crate::restore::RestoredTo;
use serde_json::{Value, json};

/// The restored state in one line.
pub fn text(restored: &RestoredTo) -> String {
    let RestoredTo { txid, generation, time, coarse, bytes, files, .. } = restored;
    let position = match generation {
        Some(generation) => format!("generation {generation} of a Litestream 0.3 replica"),
        None => format!("TXID {txid}"),
    };
    let coarse = coarse.map(|range| format!("; {}", hidden(range))).unwrap_or_default();
    format!("{position}, committed at {time}, {bytes} bytes in {files} files{coarse}")
}

/// Why the state may be older than the requested one.
pub fn hidden(range: TxidRange) -> String {
    format!(
        "more may have been committed by then, but it is merged with later changes in {range}: finer files \
         are no longer there"
    )
}

pub fn json(restored: &RestoredTo) -> Value {
    let RestoredTo { txid, generation, time, coarse, bytes, files, .. } = restored;
    json!({
        "txid": generation.is_none().then(|| txid.to_string()),
        "generation": generation.map(|generation| generation.to_string()),
        "time": time.to_string(), "bytes": bytes, "files": files, "remark": coarse.map(hidden),
    })
}

pub fn restored(job: &Job, restored: &RestoredTo) -> Value {
    object(job.place(), 0, None, json!({ "restored": json(restored) }))
}

/// `exit_status`: 0 if that is no failure here.
pub fn failed(job: &Job, exit_status: u8, problem: &str) -> Value {
    object(job.place(), exit_status, Some(problem), json!({ "restored": null }))
}

/// The running litevisor has restored it; its answer is a sentence.
pub fn by_owner(job: &Job, message: &str) -> Value {
    let unknown = json!({ "txid": null, "generation": null, "time": null, "bytes": null, "files": null });
    object(job.place(), 0, None, json!({ "restored": merged(unknown, json!({ "remark": message })) }))
}

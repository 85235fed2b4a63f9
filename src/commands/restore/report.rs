//! What `litevisor restore` and `verify` say about a restored database, as text and as JSON.

use super::jobs::Job;
use crate::commands::error::CommandError;
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
        "more may have been committed by then, but it is merged with later changes in {range}: finer files are no longer \
         there"
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
    json!({ "database": job.out().to_string_lossy(), "replica": job.replica().url, "restored": json(restored), "problem": null })
}

pub fn failed(job: &Job, error: &CommandError) -> Value {
    json!({ "database": job.out().to_string_lossy(), "replica": job.replica().url, "restored": null, "problem": error.message() })
}

/// The running litevisor did it, or not; its answer is a sentence.
pub fn by_owner(job: &Job, success: bool, message: &str) -> Value {
    let (restored, problem) = if success { (Some(json!({ "remark": message })), None) } else { (None, Some(message)) };
    json!({ "database": job.out().to_string_lossy(), "replica": job.replica().url, "restored": restored, "problem": problem })
}

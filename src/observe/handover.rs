//! The ownership of the replica, as `status`, `/readyz` and the metrics show it.

use serde_json::{Value, json};

/// What this instance knows of the ownership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandoverView {
    /// The epoch that this instance has claimed.
    pub epoch: Option<u64>,
    /// In one word: `waiting`, `owner`, `retired`, …
    pub state: &'static str,
    /// In one sentence, for people.
    pub detail: String,
}

pub fn report(view: &HandoverView) -> Value {
    json!({ "epoch": view.epoch, "state": view.state, "detail": view.detail })
}

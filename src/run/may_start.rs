//! What the hand-over asks the store before anything is restored: can it have owner records, and may this instance start at all.

use super::messages::StartFailure;
use super::ownership::OwnershipSettings;
use super::prepare::RunContext;
use crate::handover::client::{Client, HandoverError};
use crate::handover::record::{Claim, Instance};
use crate::model::Deadline;
use crate::store::StoreErrorKind;
use std::time::Duration;

/// Refuses a store that does not say which of two instances came first; with `enabled = "never"` a replica that is owned.
pub async fn check(context: RunContext, settings: &OwnershipSettings, timeout: Duration) -> Result<(), StartFailure> {
    let store = context.stores.open(&settings.records).map_err(|error| StartFailure::Local(error.to_string()))?;
    let client = Client::new(store);
    let failure = |error: HandoverError| match &error {
        HandoverError::Store(store) if store.kind != StoreErrorKind::Invalid => {
            StartFailure::Unavailable(error.to_string())
        }
        _ => StartFailure::Local(error.to_string()),
    };
    let by = Deadline::after(timeout);
    if settings.handover.claims {
        return client.check(by).await.map_err(failure);
    }
    match client.look(by).await.map_err(failure)? {
        Some(seen) if seen.release.is_none() => Err(StartFailure::Taken(owned(client.url(), &seen.claim))),
        _ => Ok(()),
    }
}

fn owned(replica: &str, claim: &Claim) -> String {
    let Claim { epoch, instance: Instance { id, host, revision }, .. } = claim;
    let revision = revision.as_ref().map_or_else(String::new, |revision| format!(", revision {revision}"));
    format!(
        "the replica {replica} belongs to another instance ({host}, {id}{revision}, epoch {epoch}), and handover.enabled is \"never\" \
         here: stop that instance first, or set handover.enabled = true to take the replica over from it"
    )
}

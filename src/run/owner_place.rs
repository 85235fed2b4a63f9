//! Where the owner records are. Every instance must look at the same place, also if its configuration names
//! the databases in another order, or one more: records that are there already decide.

use super::messages::StartFailure;
use super::ownership_settings::OwnershipSettings;
use super::prepare::RunContext;
use crate::handover::client::{Client, HandoverError};
use crate::handover::record::{Claim, Instance};
use crate::model::Deadline;
use crate::model::log_throttle::LogThrottle;
use crate::store::{Store, StoreError, retry};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;
use std::time::Duration;

/// Listings at once.
const AT_ONCE: usize = 8;

/// Of several replicas: the least URL of those that have records, the first if none has.
pub fn choose(places: &[(&str, bool)]) -> usize {
    let have = places.iter().enumerate().filter(|(_, (_, has_records))| *has_records);
    have.min_by_key(|(_, (url, _))| *url).map_or(0, |(index, _)| index)
}

/// Looks for the records. Refuses a store that does not say which of two instances came first; with `enabled
/// = "never"` a replica that is owned.
pub async fn find(context: RunContext, settings: &OwnershipSettings) -> Result<(), StartFailure> {
    let timeout = context.settings.timeout;
    let by = Deadline::after(timeout);
    let opened = settings.places.iter().map(|place| context.stores.open(place));
    let stores: Vec<Arc<dyn Store>> = opened.collect::<Result<_, _>>().map_err(StartFailure::of_store)?;
    let mut index = 0;
    if stores.len() > 1 {
        let looks: Vec<_> =
            stores.iter().map(|store| has_records(Client::new(Arc::clone(store)), by, timeout)).collect();
        let found: Vec<(String, bool)> =
            stream::iter(looks).buffered(AT_ONCE).try_collect().await.map_err(StartFailure::of_store)?;
        let found: Vec<(&str, bool)> = found.iter().map(|(url, found)| (url.as_str(), *found)).collect();
        index = choose(&found);
    }
    let (Some(store), Some(place)) = (stores.get(index), settings.places.get(index)) else { return Ok(()) };
    let _ = settings.chosen.set(place.clone());
    if settings.handover.claims {
        return match retry::run(by, timeout / 2, log_retries(by), |by| store.creates_exclusively(by))
            .await
            .map_err(StartFailure::of_store)?
        {
            true => Ok(()),
            false => {
                Err(StartFailure::Local(HandoverError::Conditions { url: place.url.clone() }.to_string()))
            }
        };
    }
    let client = Client::new(Arc::clone(store));
    match client.look(by).await {
        Ok(Some(seen)) if seen.release.is_none() => {
            Err(StartFailure::Taken(owned(client.url(), &seen.claim)))
        }
        Ok(_) => Ok(()),
        Err(HandoverError::Store(error)) => Err(StartFailure::of_store(error)),
        Err(error) => Err(StartFailure::Local(error.to_string())),
    }
}

fn owned(replica: &str, claim: &Claim) -> String {
    let Claim { epoch, instance: Instance { id, host, revision }, .. } = claim;
    let revision = revision.as_ref().map_or_else(String::new, |revision| format!(", revision {revision}"));
    format!(
        "the replica {replica} belongs to another instance ({host}, {id}{revision}, epoch {epoch}), and \
         handover.enabled is \"never\" here: stop that instance first, or set handover.enabled = true to \
         take the replica over from it"
    )
}

async fn has_records(client: Client, by: Deadline, timeout: Duration) -> Result<(String, bool), StoreError> {
    let has_records = retry::run(by, timeout / 2, log_retries(by), |by| client.has_records(by)).await?;
    Ok((client.url().to_owned(), has_records))
}

fn log_retries(by: Deadline) -> impl FnMut(&StoreError, u32) {
    let mut throttle = LogThrottle::default();
    move |error, _| {
        let text = error.to_string();
        if throttle.due(&text) {
            tracing::warn!("hand-over: {text}; trying again, for {} s more", by.left().as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_are_there_decide() {
        let cases: [(&[(&str, bool)], usize); 5] = [
            (&[("s3://b/a", false)], 0),
            (&[("s3://b/c", false), ("s3://b/a", false)], 0),
            (&[("s3://b/c", false), ("s3://b/a", true)], 1),
            // The order of the configuration does not matter.
            (&[("s3://b/c", true), ("s3://b/d", false), ("s3://b/a", true)], 2),
            (&[("s3://b/a", true), ("s3://b/c", true)], 0),
        ];
        for (places, index) in cases {
            assert_eq!(choose(places), index, "{places:?}");
        }
    }
}

//! `[handover]` → `HandoverSettings`. Pure.

use super::document::Document;
use super::units;
use super::values::{DAY, HOUR, Key, Span};
use crate::handover::HandoverSettings;
use serde::Deserialize;
use std::time::Duration;

/// In place of a duration of `poll`.
pub const NEVER: &str = "never";
const SHORTEST_POLL: Duration = Duration::from_millis(100);
const LONGEST_POLL: Duration = Duration::from_secs(3600);

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct HandoverSection {
    enabled: Key<bool>,
    wait: Key<Span<1_000, DAY>>,
    poll: Key<String>,
    trial: Key<Span<0, HOUR>>,
}

/// None: the hand-over is off.
pub fn read(section: HandoverSection, has_databases: bool, document: &Document<'_>) -> Option<HandoverSettings> {
    let defaults = HandoverSettings::DEFAULT;
    let poll = document.parsed(&section.poll, poll);
    let wait = section.wait.value.map_or(defaults.wait, |span| span.0);
    let trial = section.trial.value.map_or(defaults.trial, |span| span.0);
    if let (Some(true), Some(location), false) = (section.enabled.value, &section.enabled.location, has_databases) {
        document.complain(location, "needs a [[database]]: its replica has the record of the owner".to_owned());
    }
    let settings = HandoverSettings { wait, poll: poll.unwrap_or(defaults.poll), trial };
    section.enabled.or(false).then_some(settings)
}

fn poll(text: &str) -> Result<Option<Duration>, String> {
    if text == NEVER {
        return Ok(None);
    }
    let span = units::duration(text).map_err(|why| format!("{why}, or write \"{NEVER}\""))?;
    let fits = (SHORTEST_POLL..=LONGEST_POLL).contains(&span);
    fits.then_some(Some(span)).ok_or_else(|| "must be between 100ms and 1h, or \"never\"".into())
}

//! `[handover]` → `HandoverSettings`. Pure.

use super::database::Parsed;
use super::document::Document;
use super::replica;
use super::units;
use super::values::{BooleanOrWord, DAY, HOUR, Key, Span};
use crate::handover::HandoverSettings;
use crate::handover::record::HEARTBEATS;
use crate::store::{Scheme, StoreSettings};
use serde::de::{Deserialize, Deserializer, Error};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// In place of a duration of `poll`, or of `enabled`.
pub const NEVER: &str = "never";
const HEARTBEAT: RangeInclusive<Duration> = HEARTBEATS.0..=HEARTBEATS.1;

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct HandoverSection {
    enabled: Key<Enabled>,
    wait: Key<Span<1_000, DAY>>,
    poll: Key<String>,
    trial: Key<Span<0, HOUR>>,
    standby: Key<bool>,
    heartbeat: Key<String>,
    url: Key<String>,
}

/// None: the hand-over is off. `databases` are those of the file and of the command line. `early`: a gate
/// accepts connections before the app is there.
pub fn read(
    section: HandoverSection,
    databases: &[Parsed],
    early: bool,
    document: &Document<'_>,
) -> Option<HandoverSettings> {
    let defaults = HandoverSettings::DEFAULT;
    let poll = document.parsed(&section.poll, |text| span_or_never(text, &units::POLL));
    let heartbeat = document.parsed(&section.heartbeat, |text| span_or_never(text, &HEARTBEAT)).flatten();
    let standby = section.standby.value.unwrap_or(defaults.standby);
    let enabled = section.enabled.value.unwrap_or(Enabled::No);
    let wait = section.wait.value.map_or(defaults.wait, |span| span.0);
    let trial = section.trial.value.map_or(defaults.trial, |span| span.0);
    if let (Enabled::Yes | Enabled::Never, Some(location), true) =
        (enabled, &section.enabled.location, databases.is_empty())
    {
        document
            .complain(location, "needs a [[database]]: its replica has the record of the owner".to_owned());
    }
    let records = document.parsed(&section.url, |url| records(url, databases, document));
    if let (true, true, Some(location)) = (standby, early, &section.standby.location) {
        let message = "needs accept = \"ready\" in each [[gate]]: connections would wait in the gate of a \
            standby for ever";
        document.complain(location, message);
    }
    if let (Some(_), Some(location), true) =
        (heartbeat, &section.heartbeat.location, never_deletes(databases))
    {
        let message = "needs the first database's retention: the heartbeats before the last two are deleted";
        document.complain(location, message);
    }
    let claims = enabled == Enabled::Yes;
    let poll = poll.unwrap_or(defaults.poll);
    let settings = HandoverSettings { claims, wait, poll, trial, standby, heartbeat, records };
    (enabled != Enabled::No).then_some(settings)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Enabled {
    Yes,
    No,
    Never,
}

impl<'de> Deserialize<'de> for Enabled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match BooleanOrWord::deserialize(deserializer)?.0.as_str() {
            "true" => Ok(Enabled::Yes),
            "false" => Ok(Enabled::No),
            NEVER => Ok(Enabled::Never),
            _ => Err(D::Error::custom(format!("must be true, false or \"{NEVER}\""))),
        }
    }
}

fn span_or_never(text: &str, range: &RangeInclusive<Duration>) -> Result<Option<Duration>, String> {
    if text == NEVER {
        return Ok(None);
    }
    let span = units::duration(text).map_err(|why| format!("{why}, or write \"{NEVER}\""))?;
    let show = units::show_duration;
    range.contains(&span).then_some(Some(span)).ok_or_else(|| {
        format!("must be between {} and {}, or \"never\"", show(*range.start()), show(*range.end()))
    })
}

/// The deletions need the same permission as those of the retention.
fn never_deletes(databases: &[Parsed]) -> bool {
    databases.first().is_some_and(|parsed| parsed.settings.replicate.retention.is_none())
}

/// The keys of the first database's replica hold for the records, too, if they are in the same service.
fn records(url: &str, databases: &[Parsed], document: &Document<'_>) -> Result<StoreSettings, String> {
    let is_single = |parsed: &&Parsed| parsed.directory.is_none();
    let first = databases.iter().find(is_single).or_else(|| databases.first());
    let records = replica::of_url(url, first.map(|parsed| &parsed.settings.replica), document.environment)?;
    let is_database = |parsed: &Parsed| Path::new(&records.path) == parsed.settings.path.as_path();
    if records.scheme == Scheme::File && databases.iter().any(is_database) {
        return Err("is a database's own path: name another directory".into());
    }
    Ok(records)
}

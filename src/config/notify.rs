//! `[notify]` and `[heartbeat]`: who is told → `NotifySettings` and `HeartbeatSettings`. Pure.

use super::document::Document;
use super::expand::Expanded;
use super::values::{DAY, Key, SecretText, Span};
use crate::model::Secret;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyEvent {
    /// Another writer has taken a replica over.
    TakenOver,
    /// A database is not replicated, or its commits have not reached the replica for `after`.
    NotReplicated,
    /// A proof of a replica has failed.
    ProofFailed,
    /// A database was restored at the start.
    Restored,
    /// The last flush did not upload everything.
    FlushedIncompletely,
}

impl NotifyEvent {
    pub const ALL: [NotifyEvent; 5] = [
        NotifyEvent::TakenOver,
        NotifyEvent::NotReplicated,
        NotifyEvent::ProofFailed,
        NotifyEvent::Restored,
        NotifyEvent::FlushedIncompletely,
    ];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            NotifyEvent::TakenOver => "taken-over",
            NotifyEvent::NotReplicated => "not-replicated",
            NotifyEvent::ProofFailed => "proof-failed",
            NotifyEvent::Restored => "restored",
            NotifyEvent::FlushedIncompletely => "flushed-incompletely",
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            NotifyEvent::TakenOver => "another writer has taken the replica over",
            NotifyEvent::NotReplicated => "not replicated",
            NotifyEvent::ProofFailed => "the replica is not proven",
            NotifyEvent::Restored => "restored",
            NotifyEvent::FlushedIncompletely => "the last flush is incomplete",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifySettings {
    /// Whoever knows it can write there.
    pub url: Secret,
    pub events: Vec<NotifyEvent>,
    /// Commits that are missing in the replica for this long are told.
    pub after: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatSettings {
    pub url: Secret,
    pub interval: Duration,
}

const AFTER: Duration = Duration::from_secs(300);
const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct NotifySection {
    url: Key<Expanded>,
    url_file: Key<String>,
    events: Key<Events>,
    after: Key<Span<1_000, DAY>>,
}

#[derive(Deserialize)]
#[serde(rename = "an array of events")]
struct Events(Vec<NotifyEvent>);

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct HeartbeatSection {
    url: Key<Expanded>,
    url_file: Key<String>,
    interval: Key<Span<1_000, DAY>>,
}

/// Both sections.
pub struct Told {
    /// None: no URL is given.
    pub notify: Option<NotifySettings>,
    pub heartbeat: Option<HeartbeatSettings>,
    /// The variables that the URLs were made of: the app does not get them.
    pub variables: Vec<String>,
}

pub fn read(notify: Key<NotifySection>, heartbeat: Key<HeartbeatSection>, document: &Document<'_>) -> Told {
    let NotifySection { url: to, url_file, events, after } = notify.or(NotifySection::default());
    let (to, mut variables) = url(&to, &url_file, document);
    let events = events.value.map_or_else(|| NotifyEvent::ALL.to_vec(), |events| events.0);
    let after = after.value.map_or(AFTER, |span| span.0);
    let HeartbeatSection { url: beat, url_file, interval } = heartbeat.or(HeartbeatSection::default());
    let (beat, more) = url(&beat, &url_file, document);
    variables.extend(more);
    let interval = interval.value.map_or(INTERVAL, |span| span.0);
    Told {
        notify: to.map(|url| NotifySettings { url, events, after }),
        heartbeat: beat.map(|url| HeartbeatSettings { url, interval }),
        variables,
    }
}

fn url(direct: &Key<Expanded>, file: &Key<String>, document: &Document<'_>) -> (Option<Secret>, Vec<String>) {
    let SecretText { secret, variables, .. } = document.secret(direct, file);
    let Some(url) = secret else { return (None, variables) };
    if origin(&url).is_some() {
        return (Some(url), variables);
    }
    if let Some(location) = direct.location.as_ref().or(file.location.as_ref()) {
        document.complain(location, "is no URL: write \"https://host/path\", or http");
    }
    (None, variables)
}

/// Scheme and host, which are no secret.
pub fn origin(url: &Secret) -> Option<String> {
    let (scheme, rest) = url.reveal().split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let is_host = !host.is_empty() && !host.contains(char::is_whitespace) && !host.starts_with(':');
    (["https", "http"].contains(&scheme) && is_host).then(|| format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_of_a_url_is_shown() {
        for (url, expected) in [
            ("https://hooks.example.com/T0/secret", Some("https://hooks.example.com")),
            ("http://127.0.0.1:80?token=secret", Some("http://127.0.0.1:80")),
            ("https://user:secret@h/x", Some("https://h")),
            ("https://", None),
            ("https://:80/", None),
            ("ftp://h/", None),
            ("hooks.example.com", None),
        ] {
            assert_eq!(origin(&Secret::new(url)).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn events_have_the_same_name_everywhere() {
        for event in NotifyEvent::ALL {
            assert_eq!(serde_json::to_value(event).unwrap(), event.name());
        }
    }
}

//! `[follow]` → `FollowSettings`. Pure.

use super::document::Document;
use super::problem::Location;
use super::values::{DAY, HOUR, Key, Span};
use serde::Deserialize;
use std::time::Duration;

/// How read-only copies follow their replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowSettings {
    /// Between two looks at the replica.
    pub poll: Duration,
    /// A copy that is further behind is not served: `/readyz` says so.
    pub max_lag: Duration,
}

impl FollowSettings {
    pub const DEFAULT: FollowSettings =
        FollowSettings { poll: Duration::from_secs(1), max_lag: Duration::from_secs(60) };
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct FollowSection {
    enabled: Key<bool>,
    poll: Key<Span<100, HOUR>>,
    max_lag: Key<Span<1_000, DAY>>,
}

/// None: the databases are the app's own. `asked`: by the command line.
pub fn read(
    section: FollowSection,
    asked: bool,
    has_databases: bool,
    document: &Document<'_>,
) -> Option<FollowSettings> {
    let defaults = FollowSettings::DEFAULT;
    let poll = section.poll.value.map_or(defaults.poll, |span| span.0);
    let max_lag = section.max_lag.value.map_or(defaults.max_lag, |span| span.0);
    if max_lag <= poll
        && let Some(location) = section.max_lag.location.as_ref().or(section.poll.location.as_ref())
    {
        document.complain(location, "max_lag must be longer than poll");
    }
    let on = asked || section.enabled.value == Some(true);
    if on && !has_databases {
        let location = section.enabled.location.clone().filter(|_| !asked);
        let location = location.unwrap_or_else(|| Location::option("--follow"));
        document.complain(&location, "needs a [[database]] with its replica");
    }
    on.then_some(FollowSettings { poll, max_lag })
}

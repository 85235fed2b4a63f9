//! `[shutdown]`: how the time of a stop is divided. Pure.

use super::document::Document;
use super::problem::Location;
use super::settings::ShutdownSettings;
use super::units::show_duration as show;
use super::values::{DAY, Key, Span};
use serde::Deserialize;
use std::time::Duration;

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct ShutdownSection {
    grace: Key<Span<1_000, DAY>>,
    app_timeout: Key<Span<0, DAY>>,
    pre_sync_timeout: Key<Span<0, DAY>>,
}

/// The settings, and whether the grace is configured.
pub fn read(
    section: Key<ShutdownSection>,
    default: Duration,
    document: &Document<'_>,
) -> (ShutdownSettings, bool) {
    let location = section.location.unwrap_or_else(|| Location::option("shutdown"));
    let ShutdownSection { grace, app_timeout, pre_sync_timeout } = section.value.unwrap_or_default();
    let total = grace.value.map_or(default, |span| span.0);
    let part = |span: Span<0, DAY>| span.0;
    let settings = split(total, app_timeout.value.map(part), pre_sync_timeout.value.map(part));
    let is_configured = grace.value.is_some();
    let settings = settings.unwrap_or_else(|(key, message)| {
        // The named key where it is written; if a default does not fit, the grace is too short.
        let written = match key {
            "app_timeout" => app_timeout.location.or(grace.location),
            "pre_sync_timeout" => pre_sync_timeout.location,
            _ => grace.location,
        };
        document.complain(&written.unwrap_or(location).with_key(format!("shutdown.{key}")), message);
        ShutdownSettings { grace: total, app_timeout: total, pre_sync_timeout: total }
    });
    (settings, is_configured)
}

/// What the last flush gets: a quarter, at least one second, at most ten, never more than half.
fn flush_reserve(grace: Duration) -> Duration {
    (grace / 4).clamp(Duration::from_secs(1), Duration::from_secs(10)).min(grace / 2)
}

/// Fills in what is not given. `Err` is the key that does not fit, and why.
fn split(
    grace: Duration,
    app_timeout: Option<Duration>,
    pre_sync_timeout: Option<Duration>,
) -> Result<ShutdownSettings, (&'static str, String)> {
    if grace.is_zero() {
        return Err(("grace", "must be longer than zero".into()));
    }
    let app = app_timeout.unwrap_or_else(|| grace.saturating_sub(flush_reserve(grace)));
    if app >= grace {
        let app = show(app);
        let default = show(grace.saturating_sub(flush_reserve(grace)));
        let grace = show(grace);
        let message = format!(
            "is {app}, but the whole of it, grace, is {grace}: leave time for the last flush (default \
             {default})"
        );
        return Err(("app_timeout", message));
    }
    let pre = pre_sync_timeout.unwrap_or_else(|| (grace / 5).min(Duration::from_secs(2)).min(app));
    if pre > app {
        return Err((
            "pre_sync_timeout",
            format!("is {}, longer than app_timeout, which is {}", show(pre), show(app)),
        ));
    }
    Ok(ShutdownSettings { grace, app_timeout: app, pre_sync_timeout: pre })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn defaults_leave_time_for_the_flush() {
        for (grace, app, pre) in [
            (1_000, 500, 200),
            (5_000, 3_750, 1_000),
            (10_000, 7_500, 2_000),
            (30_000, 22_500, 2_000),
            (120_000, 110_000, 2_000),
        ] {
            let found = split(ms(grace), None, None).unwrap();
            assert_eq!((found.app_timeout, found.pre_sync_timeout), (ms(app), ms(pre)), "{grace}");
        }
    }

    #[test]
    fn parts_that_exceed_the_whole() {
        let case = |grace, app: Option<u64>, pre: Option<u64>| {
            split(ms(grace), app.map(ms), pre.map(ms)).map(|_| ()).map_err(|(key, _)| key)
        };
        for (grace, app, pre, expected) in [
            (10_000, Some(7_000), Some(2_000), Ok(())),
            (10_000, Some(9_999), Some(9_999), Ok(())),
            (10_000, Some(0), None, Ok(())),
            (10_000, Some(10_000), None, Err("app_timeout")),
            (10_000, Some(12_000), None, Err("app_timeout")),
            (10_000, Some(1_000), Some(1_001), Err("pre_sync_timeout")),
            (10_000, None, Some(8_000), Err("pre_sync_timeout")),
            (0, None, None, Err("grace")),
        ] {
            assert_eq!(case(grace, app, pre), expected, "{grace} {app:?} {pre:?}");
        }
        let (_, told) = split(ms(10_000), Some(ms(12_000)), None).unwrap_err();
        assert_eq!(
            told,
            "is 12s, but the whole of it, grace, is 10s: leave time for the last flush (default 7s500ms)"
        );
    }

    #[test]
    fn explicit_parts_only_default_the_rest() {
        let found = split(ms(10_000), Some(ms(500)), None).unwrap();
        assert_eq!(found.pre_sync_timeout, ms(500), "never longer than the app's time");
    }
}

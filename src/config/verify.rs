//! `[verify]` → `VerifySettings`. Pure.

use super::document::Document;
use super::units;
use super::values::{DAY, GIB, KIB, Key, Size};
use crate::replica::ProofMode;
use serde::Deserialize;
use std::time::Duration;

/// In place of a duration of `interval`.
pub const NEVER: &str = "never";

/// How often, and how, it is proven that the replicas can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifySettings {
    /// Between two proofs of one replica. None: never.
    pub interval: Option<Duration>,
    pub mode: ProofMode,
    /// Bytes a second that a proof downloads.
    pub bandwidth: u64,
}

impl Default for VerifySettings {
    fn default() -> Self {
        VerifySettings { interval: None, mode: ProofMode::default(), bandwidth: 32 << 20 }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct VerifySection {
    interval: Key<String>,
    mode: Key<ProofMode>,
    bandwidth: Key<Size<{ 64 * KIB }, { 1024 * GIB }>>,
}

pub fn read(section: VerifySection, document: &Document<'_>) -> VerifySettings {
    let defaults = VerifySettings::default();
    let interval = document.parsed(&section.interval, interval);
    let bandwidth = section.bandwidth.value.map_or(defaults.bandwidth, |size| size.0);
    VerifySettings {
        interval: interval.unwrap_or(defaults.interval),
        mode: section.mode.or(defaults.mode),
        bandwidth,
    }
}

fn interval(text: &str) -> Result<Option<Duration>, String> {
    if text == NEVER {
        return Ok(None);
    }
    let span = units::duration(text).map_err(|why| format!("{why}, or write \"{NEVER}\""))?;
    let allowed = Duration::from_secs(1)..=Duration::from_millis(90 * DAY);
    allowed
        .contains(&span)
        .then_some(Some(span))
        .ok_or_else(|| "must be between 1s and 90 days, or \"never\"".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        let seconds = |seconds| Ok(Some(Duration::from_secs(seconds)));
        for (text, expected) in [("never", Ok(None)), ("24h", seconds(86_400)), ("1s", seconds(1))] {
            assert_eq!(interval(text), expected, "{text}");
        }
        for text in ["", "0s", "500ms", "91d", "2161h", "daily"] {
            assert!(interval(text).unwrap_err().contains("never"), "{text}");
        }
    }
}

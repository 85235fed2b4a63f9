//! Which clock is trusted, and what is known of files with a wrong time: pure. The times of files never
//! decrease, so one start with a clock that is ahead makes all later times wrong until the true time has
//! passed it.

use crate::model::Moment;

/// Clocks differ by less than this.
const TOLERANCE_MS: i64 = 5 * 60 * 1000;

/// The time that is believed: this machine's, unless it is ahead of the store's by more than clocks differ.
/// One that is behind is believed: files are stamped one after the other in any case.
pub fn believed(machine_ms: i64, store_ms: Option<i64>) -> i64 {
    match store_ms {
        Some(store_ms) if machine_ms.saturating_sub(store_ms) > TOLERANCE_MS => store_ms,
        _ => machine_ms,
    }
}

/// What is wrong with the clocks, and what it means. `newest_ms`: the stamp of the replica's newest file; 0
/// when there is none.
pub fn trouble(machine_ms: i64, store_ms: Option<i64>, newest_ms: i64) -> Option<String> {
    let now = believed(machine_ms, store_ms);
    let off = store_ms.map_or(0, |store_ms| machine_ms.saturating_sub(store_ms));
    let mut told = Vec::new();
    if off > TOLERANCE_MS {
        told.push(format!(
            "this machine's clock is {} ahead of the store's: files are stamped with the store's time; set \
             the clock",
            span(off)
        ));
    } else if off < -TOLERANCE_MS {
        told.push(format!("this machine's clock is {} behind the store's: set the clock", span(-off)));
    }
    if newest_ms.saturating_sub(now) > TOLERANCE_MS {
        told.push(format!(
            "the replica's newest file is stamped {}, {} ahead: a clock was wrong. Until then each file is \
             stamped just after the one before, so that `restore --timestamp` cannot tell them apart; \
             restore by --txid instead",
            Moment(newest_ms),
            span(newest_ms.saturating_sub(now))
        ));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

fn span(ms: i64) -> String {
    let minutes = ms / 60_000;
    match (minutes / 1440, minutes / 60) {
        (0, 0) => format!("{minutes} minutes"),
        (0, hours) => format!("{hours} hours"),
        (days, _) => format!("{days} days"),
    }
}

/// What can be said of a file's stamp, with the time at which the store says that the file was stored.
pub fn mark(stamp_ms: i64, stored_ms: i64, now_ms: i64) -> &'static str {
    if stamp_ms.saturating_sub(now_ms) > TOLERANCE_MS {
        "in the future: a clock was ahead"
    } else if stamp_ms.saturating_sub(stored_ms) > TOLERANCE_MS {
        "later than it was stored: a clock was ahead"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const DAY: i64 = 86_400_000;

    #[test]
    fn stamps_that_cannot_be_true() {
        for (stamp, stored, marked) in [
            (NOW, NOW, ""),
            (NOW - DAY, NOW, ""),
            (NOW + TOLERANCE_MS, NOW, ""),
            (NOW + DAY, NOW + DAY, "in the future"),
            (NOW + DAY, NOW, "in the future"),
            (NOW - DAY, NOW - 2 * DAY, "later than it was stored"),
        ] {
            assert_eq!(mark(stamp, stored, NOW).split(':').next(), Some(marked), "{stamp} {stored}");
        }
    }

    #[test]
    fn which_time_is_believed_and_what_is_said() {
        for (machine, store, newest, believed_ms, said) in [
            (NOW, None, NOW - DAY, NOW, &[][..]),
            (NOW, Some(NOW + 1000), NOW, NOW, &[]),
            (NOW, Some(NOW - TOLERANCE_MS), 0, NOW, &[]),
            (NOW + 365 * DAY, Some(NOW), 0, NOW, &["365 days ahead of the store's"]),
            (NOW - 2 * DAY, Some(NOW), 0, NOW - 2 * DAY, &["2 days behind the store's"]),
            (NOW, None, NOW + 7_200_000, NOW, &["newest file is stamped", "2 hours ahead"]),
            (NOW, Some(NOW), NOW + 600_000, NOW, &["10 minutes ahead"]),
            (
                NOW + DAY,
                Some(NOW),
                NOW + DAY,
                NOW,
                &["1 days ahead of the store's", "newest file is stamped"],
            ),
            // No store says so: what the machine believes cannot be denied.
            (NOW + DAY, None, NOW + DAY, NOW + DAY, &[]),
        ] {
            assert_eq!(believed(machine, store), believed_ms);
            let told = trouble(machine, store, newest).unwrap_or_default();
            assert_eq!(told.is_empty(), said.is_empty(), "{told}");
            assert!(said.iter().all(|part| told.contains(part)), "{told}");
        }
    }
}

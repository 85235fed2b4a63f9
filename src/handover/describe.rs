//! The phases in words, for the log, `status` and `/readyz`: pure. Each says what this instance does, why,
//! and what ends it.

use super::protocol::{MISSES, Outcome, Owner, Phase};
use super::record::How;

/// A name for metrics and scripts.
pub fn name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Looking => "looking",
        Phase::Standby(_) => "standby",
        Phase::HeldOff { .. } => "held-off",
        Phase::Courteous { .. } => "courteous",
        Phase::Claiming { .. } => "claiming",
        Phase::Waiting { .. } => "waiting",
        Phase::Fencing => "fencing",
        Phase::CatchingUp { .. } | Phase::Confirming => "catching-up",
        Phase::Recalling { .. } => "recalling",
        Phase::Owner { .. } => "owner",
        Phase::Stopping { .. } => "stopping",
        Phase::Releasing { .. } => "releasing",
        Phase::Judging => "judging",
        Phase::LetGo { .. } => "let-go",
        Phase::Retired { .. } => "retired",
        Phase::Done(_) => "done",
    }
}

pub fn sentence(phase: &Phase) -> String {
    match phase {
        Phase::Looking => "reading from the replica which instance owns it".into(),
        Phase::Courteous { newest, .. } => format!(
            "the instance of epoch {newest} owns the replica; it is asked when the first request waits here, \
             or after handover.wait"
        ),
        Phase::HeldOff { newest, until: None } => format!(
            "this revision has failed to start before, and the revision before it serves again (epoch \
             {newest}): deploy a corrected revision; this instance starts if that one ends"
        ),
        Phase::HeldOff { newest, .. } => {
            format!(
                "the instance of epoch {newest} has failed to start, or was called off: waiting for the \
                 instance before it to serve again"
            )
        }
        Phase::Standby(owner) => standby(owner),
        Phase::Claiming { claim, .. } => format!("claiming the replica as epoch {}", claim.epoch),
        Phase::Waiting { predecessor, answered: false, .. } => {
            format!("waiting until the instance of epoch {predecessor} releases the replica")
        }
        Phase::Waiting { predecessor, .. } => {
            format!(
                "waiting: the instance of epoch {predecessor} is stopping its app and uploads its last \
                commits"
            )
        }
        Phase::Fencing => "the instance before this one does not answer: fencing it".into(),
        Phase::CatchingUp { .. } => "applying what the replica has grown by".into(),
        Phase::Confirming => "looking for newer instances once more before the start".into(),
        Phase::Recalling { .. } => "the last run on this machine was asked to hand over: reading whether it \
            did"
        .into(),
        Phase::Owner { .. } => "this instance owns the replica".into(),
        Phase::Stopping { how: How::HandedOver, .. } => {
            "a newer instance asks for the replica: stopping the app and uploading its last commits".into()
        }
        Phase::Stopping { how: How::Fenced, .. } => {
            "another instance has taken the replica over: stopping the app".into()
        }
        Phase::Stopping { .. } => "the app ends: uploading its last commits".into(),
        Phase::Releasing { release, .. } => format!("writing that epoch {} is over", release.epoch),
        Phase::Judging => "looking for the instance that has taken the replica over".into(),
        Phase::LetGo { .. } => {
            "the replica is released (`litevisor handover`): waiting for another instance to take it over; \
             if none does within              handover.trial, this one serves again"
                .into()
        }
        Phase::Retired { newest, .. } => format!(
            "retired: handed over to a newer instance (epoch {newest}). This one serves no requests, and \
             starts again only if that one fails to start; it ends with SIGTERM"
        ),
        Phase::Done(Outcome::Fenced) => "another writer without hand-over has taken the replica over".into(),
        Phase::Done(_) => "the hand-over has ended".into(),
    }
}

fn standby(owner: &Owner) -> String {
    let Owner { epoch, host, heartbeat, .. } = owner;
    let of = format!("standby of {host} (epoch {epoch})");
    let takes_over = "this one takes over when that instance releases the replica";
    match heartbeat {
        None => format!(
            "{of}, which writes no heartbeats (handover.heartbeat is \"never\" there): {takes_over}, or with \
             `litevisor promote`; it does not notice a crash"
        ),
        Some(every) => {
            let missed = match owner.missing() {
                0 => String::new(),
                missed => format!("; {missed} missing in a row"),
            };
            let seconds = every.as_secs_f64();
            format!(
                "{of}: {takes_over}, or when {MISSES} heartbeats in a row are missing (one every {seconds} \
                 s{missed})"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn the_schema_of_the_status_has_every_name() {
        let schema: Value =
            serde_json::from_str(include_str!("../../docs/schema/status.schema.json")).unwrap();
        let listed = schema.pointer("/$defs/status/properties/handover/properties/state/enum").unwrap();
        let arms = include_str!("describe.rs").lines().filter_map(|line| line.trim().strip_prefix("Phase::"));
        let names: Vec<&str> = arms
            .filter_map(|arm| {
                arm.split_once(" => \"")?.1.strip_suffix("\",").filter(|name| !name.contains(' '))
            })
            .collect();
        assert!(names.len() > 10 && listed == &Value::from(names.clone()), "{names:?}");
    }
}

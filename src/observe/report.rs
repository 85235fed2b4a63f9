//! The JSON of `status` and of the answers to a sync. Pure.

use super::status_registry::{DatabaseView, Snapshot};
use super::sync::Synced;
use super::{follow, handover, health, proof};
use crate::gate::GateView;
use crate::model::{Moment, Txid};
use crate::replicate::Status;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

pub fn status(snapshot: &Snapshot, max_lag: Option<Duration>) -> Value {
    let app = &snapshot.app;
    let reasons = health::unready(snapshot, max_lag);
    let handover = snapshot.handover.as_ref();
    let handover = handover.map(|view| handover::report(view, &snapshot.caught_up, snapshot.now));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started": time(snapshot.started),
        "phase": snapshot.phase.name(),
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "app": {
            "pid": app.pid,
            "started": app.started.map(time),
            "restarts": app.restarts,
            "ended": app.ended,
        },
        "databases": snapshot.databases.iter().map(|view| database(view, snapshot.now)).collect::<Vec<_>>(),
        "gates": snapshot.gates.iter().map(gate).collect::<Vec<_>>(),
        "handover": handover,
    })
}

fn gate(gate: &GateView) -> Value {
    let closed = gate.closed.iter().map(|(reason, count)| ((*reason).to_owned(), Value::from(*count)));
    let unprovable = gate.unprovable.iter().map(|(db, why)| json!({ "database": db, "reason": why }));
    json!({
        "listen": gate.listen,
        "app": gate.app,
        "open": gate.shut.is_none(),
        "reason": gate.shut,
        "connections": gate.connections,
        "accepted": gate.accepted,
        "held_bytes": gate.held_bytes,
        "oldest_held_seconds": gate.oldest.map(round),
        "unproven": gate.unproven,
        "closed": closed.collect::<serde_json::Map<_, _>>(),
        "unprovable": unprovable.collect::<Vec<_>>(),
    })
}

fn database(view: &DatabaseView, now: Instant) -> Value {
    let mut value = json!({
        "database": view.db,
        "replica": known(&view.replica),
        "state": health::state(view).name(),
        "problem": health::problem(view),
    });
    let Some(object) = value.as_object_mut() else { return value };
    if let Some(pace) = view.progress {
        object.insert("progress".into(), json!({ "bytes": pace.done, "of": pace.total }));
    }
    if let Some(restore) = &view.restore {
        let seconds = round(restore.took);
        let told = json!({ "outcome": restore.outcome, "bytes": restore.bytes, "seconds": seconds });
        object.insert("restore".into(), told);
    }
    if let Some(view) = &view.proof {
        object.insert("proof".into(), proof::report(view));
    }
    if let Some(view) = &view.follow {
        object.insert("follow".into(), follow::report(view, now));
    }
    if let (Some(status), Value::Object(more)) = (&view.status, of_status(view.status.as_ref(), now)) {
        object.extend(more);
        object.insert("maintenance".into(), maintenance(status));
    }
    value
}

fn of_status(status: Option<&Status>, now: Instant) -> Value {
    let Some(status) = status else { return Value::Null };
    json!({
        "committed": txid(status.captured.0.max(status.uploaded.0)),
        "uploaded": txid(status.uploaded.0),
        "unread_writes": status.written_at.is_some(),
        "lag_seconds": round(status.lag(now)),
        "lag_bytes": status.lag_bytes,
        "wal_bytes": status.wal_bytes,
        "spilled_bytes": status.spilled_bytes,
        "last_upload": status.uploaded_at.map(time),
        "uploads": status.uploads,
        "sent_bytes": status.bytes,
        "failures": status.failures,
    })
}

fn maintenance(status: &Status) -> Value {
    let maintenance = &status.maintenance;
    json!({
        "snapshots": maintenance.snapshots,
        "last_snapshot": maintenance.snapshot_at.map(time),
        "compactions": maintenance.merges,
        "deleted_files": maintenance.deleted_files,
        "sent_bytes": maintenance.bytes,
        "failures": maintenance.failures,
    })
}

pub fn synced(databases: &[Synced], snapshot: &Snapshot) -> Value {
    let replica =
        |db: &Synced| known(&snapshot.databases.iter().find(|view| view.db == db.database)?.replica);
    let position = |text: &str| (text != "none").then(|| text.to_owned());
    let one = |db: &Synced| {
        json!({
            "database": db.database,
            "replica": replica(db),
            "complete": db.complete,
            "fenced": db.fenced,
            "absent": db.absent,
            "committed": position(&db.committed),
            "uploaded": position(&db.uploaded),
            "missing": db.missing,
        })
    };
    json!({
        "complete": databases.iter().all(|db| db.complete),
        "databases": databases.iter().map(one).collect::<Vec<_>>(),
    })
}

/// A database that is not replicated may have none.
fn known(replica: &str) -> Option<&str> {
    (!replica.is_empty()).then_some(replica)
}

fn txid(txid: Txid) -> Option<String> {
    (txid != Txid::NONE).then(|| txid.to_string())
}

fn time(time: SystemTime) -> String {
    let ms = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    Moment(i64::try_from(ms).unwrap_or(i64::MAX)).to_string()
}

/// Seconds with three decimals.
fn round(span: Duration) -> f64 {
    (span.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Captured, Uploaded};
    use crate::observe::status_registry::{Phase, StatusRegistry};

    /// The validator of the black-box tests sees few of them.
    #[test]
    fn the_schema_has_every_state_and_phase() {
        let schema: Value =
            serde_json::from_str(include_str!("../../docs/schema/status.schema.json")).unwrap();
        let body = "/$defs/status/properties";
        for (at, names) in [
            ("phase".to_owned(), Phase::ALL.map(Phase::name).to_vec()),
            (
                "databases/items/properties/state".to_owned(),
                health::DbState::ALL.map(health::DbState::name).to_vec(),
            ),
        ] {
            assert_eq!(schema.pointer(&format!("{body}/{at}/enum")), Some(&json!(names)), "{at}");
        }
    }

    #[test]
    fn what_programs_read() {
        let status =
            Status { captured: Captured(Txid(47)), uploaded: Uploaded(Txid(46)), ..Status::default() };
        let replicated =
            DatabaseView { db: "/d/a.db".into(), status: Some(status), ..DatabaseView::default() };
        let restoring =
            DatabaseView { db: "/d/b.db".into(), progress: Some(Default::default()), ..Default::default() };
        let databases = vec![replicated, restoring];
        let snapshot = Snapshot { phase: Phase::Running, databases, ..StatusRegistry::default().snapshot() };
        let value = super::status(&snapshot, None);
        let at = |pointer: &str| value.pointer(pointer).unwrap_or(&Value::Null).clone();
        assert_eq!((at("/phase"), at("/ready"), at("/reasons")), ("running".into(), true.into(), json!([])));
        assert_eq!(at("/databases/0/committed"), "000000000000002f");
        assert_eq!(
            (at("/databases/0/uploaded"), at("/databases/0/lag_seconds")),
            ("000000000000002e".into(), json!(0.0))
        );
        assert_eq!(
            (at("/databases/1/state"), at("/databases/1/progress/of")),
            ("restoring".into(), 0.into())
        );
        assert_eq!((at("/databases/1/committed"), at("/app/pid")), (Value::Null, Value::Null));
    }
}

//! A `Snapshot` as Prometheus' text format, 0.0.4: pure. Every series of a database has the label `db`, its
//! path.

mod gate;

use super::health::{self, DbState};
use super::proof;
use super::status_registry::{DatabaseView, Phase, Snapshot};
use crate::replica::ProofRecord;
use crate::replicate::Status;
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// Name, type, help, and the value, where there is one.
struct OfDatabase(&'static str, &'static str, &'static str, fn(&DatabaseView, Instant) -> Option<String>);

fn status(view: &DatabaseView, value: impl FnOnce(&Status) -> Option<u64>) -> Option<String> {
    view.status.as_ref().and_then(value).map(|value| value.to_string())
}

fn unix(time: SystemTime) -> String {
    seconds(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn seconds(span: Duration) -> String {
    format!("{:.3}", span.as_secs_f64())
}

fn last_proof(view: &DatabaseView) -> Option<&ProofRecord> {
    view.proof.as_ref()?.last.as_ref()
}

const OF_DATABASE: [OfDatabase; 28] = [
    OfDatabase(
        "litevisor_committed_txid",
        GAUGE,
        "Position (TXID) of the newest commit that was read from the WAL; what came since is in the lag.",
        |view, _| status(view, |status| Some(status.captured.0.max(status.uploaded.0).0)),
    ),
    OfDatabase("litevisor_uploaded_txid", GAUGE, "Position (TXID) that the replica holds.", |view, _| {
        status(view, |status| Some(status.uploaded.0.0))
    }),
    OfDatabase(
        "litevisor_lag_seconds",
        GAUGE,
        "Age of the oldest commit that is not in the replica.",
        |view, now| view.status.as_ref().map(|status| seconds(status.lag(now))),
    ),
    OfDatabase("litevisor_lag_bytes", GAUGE, "Bytes of commits that are not in the replica.", |view, _| {
        status(view, |status| status.lag_bytes)
    }),
    OfDatabase("litevisor_follow_txid", GAUGE, "Position (TXID) of the read-only copy.", |view, _| {
        view.follow.as_ref().map(|follow| follow.position.0.to_string())
    }),
    OfDatabase(
        "litevisor_follow_seconds_behind",
        GAUGE,
        "The copy has everything that was in the replica this long ago.",
        |view, now| view.follow.as_ref().map(|follow| seconds(follow.behind(now))),
    ),
    OfDatabase("litevisor_follow_restores_total", COUNTER, "Copies that were restored anew.", |view, _| {
        view.follow.as_ref().map(|follow| follow.restores.to_string())
    }),
    OfDatabase("litevisor_wal_bytes", GAUGE, "Length of the WAL file.", |view, _| {
        status(view, |status| Some(status.wal_bytes))
    }),
    OfDatabase(
        "litevisor_spilled_bytes",
        GAUGE,
        "Bytes on the disk that wait for the replica.",
        |view, _| status(view, |status| Some(status.spilled_bytes)),
    ),
    OfDatabase(
        "litevisor_last_upload_timestamp_seconds",
        GAUGE,
        "When commits were uploaded last.",
        |view, _| view.status.as_ref()?.uploaded_at.map(unix),
    ),
    OfDatabase("litevisor_uploads_total", COUNTER, "Files of commits that were uploaded.", |view, _| {
        status(view, |status| Some(status.uploads))
    }),
    OfDatabase("litevisor_sent_bytes_total", COUNTER, "Bytes of commits that were uploaded.", |view, _| {
        status(view, |status| Some(status.bytes))
    }),
    OfDatabase("litevisor_failures_total", COUNTER, "Tries to replicate that failed.", |view, _| {
        status(view, |status| Some(status.failures))
    }),
    OfDatabase("litevisor_snapshots_total", COUNTER, "Snapshots that were uploaded.", |view, _| {
        status(view, |status| Some(status.maintenance.snapshots))
    }),
    OfDatabase(
        "litevisor_last_snapshot_timestamp_seconds",
        GAUGE,
        "When a snapshot was uploaded last.",
        |view, _| view.status.as_ref()?.maintenance.snapshot_at.map(unix),
    ),
    OfDatabase("litevisor_compactions_total", COUNTER, "Merged files that were uploaded.", |view, _| {
        status(view, |status| Some(status.maintenance.merges))
    }),
    OfDatabase(
        "litevisor_retention_deleted_files_total",
        COUNTER,
        "Files that retention deleted.",
        |view, _| status(view, |status| Some(status.maintenance.deleted_files)),
    ),
    OfDatabase(
        "litevisor_maintenance_sent_bytes_total",
        COUNTER,
        "Bytes of snapshots and merged files.",
        |view, _| status(view, |status| Some(status.maintenance.bytes)),
    ),
    OfDatabase(
        "litevisor_maintenance_failures_total",
        COUNTER,
        "Merges, snapshots, deletions that failed.",
        |view, _| status(view, |status| Some(status.maintenance.failures)),
    ),
    OfDatabase(
        "litevisor_last_verified_timestamp_seconds",
        GAUGE,
        "When a proof last found the replica's newest state equal to the live database.",
        |view, _| Some(proof::seconds(view.proof.as_ref()?.proven()?.0)),
    ),
    OfDatabase("litevisor_last_verified_txid", GAUGE, "Position (TXID) of that state.", |view, _| {
        Some(view.proof.as_ref()?.proven()?.1.to_string())
    }),
    OfDatabase(
        "litevisor_last_proof_timestamp_seconds",
        GAUGE,
        "When the newest proof came to a result.",
        |view, _| last_proof(view).map(|last| proof::seconds(last.time_ms())),
    ),
    OfDatabase(
        "litevisor_last_proof_success",
        GAUGE,
        "1: the newest proof was sound; 0: it has failed.",
        |view, _| last_proof(view).map(|last| flag(last.sound)),
    ),
    OfDatabase("litevisor_last_proof_duration_seconds", GAUGE, "What the newest proof took.", |view, _| {
        last_proof(view).map(|last| format!("{:.3}", last.seconds))
    }),
    OfDatabase(
        "litevisor_restore_duration_seconds",
        GAUGE,
        "What preparing it for the app took.",
        |view, _| view.restore.as_ref().map(|restore| seconds(restore.took)),
    ),
    OfDatabase("litevisor_restore_bytes", GAUGE, "Bytes of the replica that were restored.", |view, _| {
        view.restore.as_ref().map(|restore| restore.bytes.to_string())
    }),
    OfDatabase("litevisor_restore_progress_bytes", GAUGE, "Bytes that a running restore has.", |view, _| {
        view.progress.map(|pace| pace.done.to_string())
    }),
    OfDatabase(
        "litevisor_restore_progress_total_bytes",
        GAUGE,
        "Bytes that a running restore needs.",
        |view, _| view.progress.map(|pace| pace.total.to_string()),
    ),
];

pub fn text(snapshot: &Snapshot, max_lag: Option<Duration>) -> String {
    let mut text = Text(String::new());
    of_program(&mut text, snapshot, max_lag);
    for OfDatabase(name, kind, help, value) in OF_DATABASE {
        let known = snapshot.databases.iter().filter_map(|view| Some((view, value(view, snapshot.now)?)));
        text.family(name, kind, help, known.map(|(view, value)| (vec![("db", view.db.as_str())], value)));
    }
    let states = snapshot.databases.iter().flat_map(|view| DbState::ALL.map(|state| (view, state)));
    let states = states.map(|(view, state)| {
        (vec![("db", view.db.as_str()), ("state", state.name())], flag(health::state(view) == state))
    });
    text.family("litevisor_database_state", GAUGE, "1 for the state that it is in.", states);
    let problems =
        snapshot.databases.iter().flat_map(|view| health::problems(view).map(|problem| (view, problem)));
    let problems = problems
        .map(|(view, (problem, has))| (vec![("db", view.db.as_str()), ("problem", problem)], flag(has)));
    text.family("litevisor_database_problem", GAUGE, "1 for each problem that it has.", problems);
    let requests =
        snapshot.databases.iter().flat_map(|view| view.requests.iter().map(move |count| (view, count)));
    let requests = requests.map(|(view, (operation, result, count))| {
        let labels =
            vec![("db", view.db.as_str()), ("operation", operation.name()), ("result", result.name())];
        (labels, count.to_string())
    });
    let help = "Operations on the replica's store, by how they ended.";
    text.family("litevisor_store_requests_total", COUNTER, help, requests);
    gate::of_gates(&mut text, &snapshot.gates);
    text.0
}

fn of_program(text: &mut Text, snapshot: &Snapshot, max_lag: Option<Duration>) {
    let mut one = |name, kind, help, value: Option<String>| {
        text.family(name, kind, help, value.into_iter().map(|value| (Vec::new(), value)));
    };
    let started = Some(unix(snapshot.started));
    one("process_start_time_seconds", GAUGE, "When litevisor was started.", started);
    let ready = health::unready(snapshot, max_lag).is_empty();
    one("litevisor_ready", GAUGE, "1: /readyz answers 200.", Some(flag(ready)));
    let help = "Configured databases that have not existed for too long: nothing of them is replicated.";
    one("litevisor_databases_absent", GAUGE, help, Some(health::absent(snapshot).to_string()));
    let app = &snapshot.app;
    one("litevisor_app_up", GAUGE, "1: the app's process is there.", Some(flag(app.pid.is_some())));
    let help = "When the app was started last.";
    one("litevisor_app_start_time_seconds", GAUGE, help, app.started.map(unix));
    let help = "How often the app was started again.";
    one("litevisor_app_restarts_total", COUNTER, help, Some(app.restarts.to_string()));
    let help = "What the flush before the app was told to stop took.";
    one("litevisor_pre_sync_duration_seconds", GAUGE, help, snapshot.pre_sync.map(seconds));
    let epoch = snapshot.handover.as_ref().and_then(|handover| handover.epoch);
    one(
        "litevisor_handover_epoch",
        GAUGE,
        "The epoch that this instance has claimed.",
        epoch.map(|epoch| epoch.to_string()),
    );
    let standby = snapshot.handover.as_ref().map(|handover| handover.standby.as_ref());
    let help = "1: another instance owns the replica, and this one stands by.";
    one("litevisor_handover_standby", GAUGE, help, standby.map(|standby| flag(standby.is_some())));
    let age = standby.flatten().and_then(|standby| standby.age(snapshot.now));
    let help = "Of the owner's newest heartbeat, on a standby.";
    one("litevisor_handover_heartbeat_age_seconds", GAUGE, help, age.map(seconds));
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    text.family("litevisor_build_info", GAUGE, "Always 1.", [(version, "1".to_owned())].into_iter());
    let phases = Phase::ALL.into_iter();
    let phases = phases.map(|phase| (vec![("phase", phase.name())], flag(snapshot.phase == phase)));
    text.family("litevisor_phase", GAUGE, "1 for the phase that the program is in.", phases);
}

fn flag(value: bool) -> String {
    u8::from(value).to_string()
}

type Labels<'a> = Vec<(&'a str, &'a str)>;
type Sample<'a> = (Labels<'a>, String);

struct Text(String);

impl Text {
    /// All samples of one name stand together.
    fn family<'a>(&mut self, name: &str, kind: &str, help: &str, samples: impl Iterator<Item = Sample<'a>>) {
        let mut samples = samples.peekable();
        if samples.peek().is_none() {
            return;
        }
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        samples.for_each(|(labels, value)| self.sample(name, &labels, &value));
    }

    fn sample(&mut self, name: &str, labels: &Labels<'_>, value: &str) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Captured, Txid, Uploaded};
    use crate::observe::status_registry::{Restore, StatusRegistry};
    use crate::store::{CallResult, Operation, StoreErrorKind};

    fn snapshot() -> Snapshot {
        let since = Instant::now().checked_sub(Duration::from_secs(5));
        let status = Status {
            captured: Captured(Txid(47)),
            uploaded: Uploaded(Txid(46)),
            waiting_since: since,
            lag_bytes: Some(512),
            uploaded_at: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_327_279_453)),
            replicating: true,
            ..Status::default()
        };
        let view = DatabaseView {
            db: "/d/a \"b\\\n.db".into(),
            status: Some(status),
            restore: Some(Restore { outcome: "restored", bytes: 9, took: Duration::from_millis(1500) }),
            requests: vec![
                (Operation::Put, CallResult::Ok, 3),
                (Operation::Get, CallResult::Failed(StoreErrorKind::TimedOut), 1),
            ],
            ..DatabaseView::default()
        };
        let gates = vec![gate::tests::view()];
        Snapshot {
            phase: Phase::Running,
            databases: vec![view],
            gates,
            ..StatusRegistry::default().snapshot()
        }
    }

    #[test]
    fn values_and_labels() {
        let text = text(&snapshot(), None);
        let db = "db=\"/d/a \\\"b\\\\\\n.db\"";
        for line in [
            format!("litevisor_committed_txid{{{db}}} 47"),
            format!("litevisor_uploaded_txid{{{db}}} 46"),
            format!("litevisor_lag_bytes{{{db}}} 512"),
            format!("litevisor_last_upload_timestamp_seconds{{{db}}} 1795327279.453"),
            format!("litevisor_restore_duration_seconds{{{db}}} 1.500"),
            format!("litevisor_database_state{{{db},state=\"replicating\"}} 1"),
            format!("litevisor_database_state{{{db},state=\"failing\"}} 0"),
            format!("litevisor_database_problem{{{db},problem=\"clock\"}} 0"),
            format!("litevisor_store_requests_total{{{db},operation=\"put\",result=\"ok\"}} 3"),
            format!("litevisor_store_requests_total{{{db},operation=\"get\",result=\"timed_out\"}} 1"),
            "litevisor_phase{phase=\"running\"} 1".to_owned(),
            "litevisor_ready 1".to_owned(),
            "litevisor_databases_absent 0".to_owned(),
            "litevisor_app_up 0".to_owned(),
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        let lag = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("litevisor_lag_seconds{{{db}}} ")))
            .unwrap();
        assert!((5.0..60.0).contains(&lag.parse::<f64>().unwrap()), "{lag}");
    }

    #[test]
    fn every_family_is_introduced_once_and_named_by_convention() {
        let text = text(&snapshot(), None);
        let mut families: Vec<(&str, &str)> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                families.push(rest.split_once(' ').unwrap());
                let (name, kind) = families[families.len() - 1];
                assert_eq!(name.ends_with("_total"), kind == COUNTER, "{name}");
                assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
                let mut histograms = parts.filter(|name| families.last() == Some(&(name, "histogram")));
                let name = histograms.next().unwrap_or(name);
                assert_eq!(families.last().map(|(name, _)| *name), Some(name), "{line}");
                assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
            }
        }
        let names: std::collections::BTreeSet<_> = families.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), families.len(), "a family stands in two places");
    }
}

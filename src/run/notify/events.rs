//! What people are told (`[notify]`), decided from the state of the run: each thing once, and again when it
//! has been over in between. Pure.

use super::super::messages::DatabaseSummary;
use crate::config::NotifyEvent;
use crate::model::Moment;
use crate::observe::health;
use crate::observe::proof::ProofView;
use crate::observe::status_registry::{DatabaseView, Snapshot};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// One thing that people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub event: NotifyEvent,
    pub db: String,
    pub replica: String,
    pub detail: String,
}

impl Notification {
    /// A chat shows `text`; a program reads the rest.
    pub fn json(&self, host: &str, now: Moment) -> Value {
        let Notification { event, db, replica, detail } = self;
        json!({
            "text": format!("litevisor on {host}: {db}: {}: {detail}", event.words()),
            "event": event,
            "database": db,
            "replica": replica,
            "detail": detail,
            "host": host,
            "time": now.to_string(),
            "version": env!("CARGO_PKG_VERSION"),
        })
    }
}

/// What is told of one run.
pub struct Watcher {
    events: Vec<NotifyEvent>,
    /// Commits that are not in the replica for this long are told.
    after: Duration,
    told: BTreeSet<(String, NotifyEvent)>,
}

impl Watcher {
    pub fn new(events: Vec<NotifyEvent>, after: Duration) -> Watcher {
        Watcher { events, after, told: BTreeSet::new() }
    }

    /// What is new since the last look.
    pub fn look(&mut self, snapshot: &Snapshot) -> Vec<Notification> {
        let mut current = BTreeSet::new();
        let mut new = Vec::new();
        for view in &snapshot.databases {
            for (event, detail) in self.of_database(view, snapshot.now) {
                let key = (view.db.clone(), event);
                if !self.told.contains(&key) && self.events.contains(&event) {
                    new.push(Notification {
                        event,
                        db: view.db.clone(),
                        replica: view.replica.clone(),
                        detail,
                    });
                }
                current.insert(key);
            }
        }
        self.told = current;
        new
    }

    fn of_database(&self, view: &DatabaseView, now: Instant) -> Vec<(NotifyEvent, String)> {
        let restored = view.restore.as_ref().filter(|restore| restore.outcome == "restored");
        let restored = restored.map(|restore| {
            let seconds = restore.took.as_secs_f64();
            (NotifyEvent::Restored, format!("{} bytes of the replica in {seconds:.1} s", restore.bytes))
        });
        let failure = view.proof.as_ref().and_then(ProofView::failure);
        let failure = failure.map(|why| (NotifyEvent::ProofFailed, why));
        restored.into_iter().chain(failure).chain(self.trouble(view, now)).collect()
    }

    fn trouble(&self, view: &DatabaseView, now: Instant) -> Option<(NotifyEvent, String)> {
        if let Some(why) = &view.not_replicated {
            return Some((NotifyEvent::NotReplicated, why.clone()));
        }
        let status = view.status.as_ref()?;
        if let Some(why) = &status.fenced {
            let event = if status.refused { NotifyEvent::NotReplicated } else { NotifyEvent::TakenOver };
            return Some((event, why.clone()));
        }
        let lag = health::lag(view, now);
        (lag >= self.after).then(|| {
            let why = status.problem.as_deref().unwrap_or("the uploads do not keep up");
            (
                NotifyEvent::NotReplicated,
                format!("commits of the last {} s are not in the replica: {why}", lag.as_secs()),
            )
        })
    }

    /// What the last flush has left. The replica of each database is named by the last look at the run.
    pub fn ended(&self, databases: &[DatabaseSummary], snapshot: &Snapshot) -> Vec<Notification> {
        let replica = |db: &str| {
            let view = snapshot.databases.iter().find(|view| view.db == db);
            view.map(|view| view.replica.clone()).unwrap_or_default()
        };
        let told = |summary: &DatabaseSummary| {
            let detail = summary.missing.clone().filter(|_| !summary.fenced)?;
            let (event, db) = (NotifyEvent::FlushedIncompletely, summary.database.clone());
            Some(Notification { event, replica: replica(&db), db, detail })
        };
        databases
            .iter()
            .filter(|_| self.events.contains(&NotifyEvent::FlushedIncompletely))
            .filter_map(told)
            .collect()
    }
}

/// Whether this instance does all that it is there for: then it gives a sign of life.
pub fn is_well(snapshot: &Snapshot, max_lag: Duration) -> bool {
    health::alive(snapshot)
        && health::unready(snapshot, Some(max_lag)).is_empty()
        && health::notes(snapshot).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status_registry::{Phase, Restore, StatusRegistry};
    use crate::replica::ProofRecord;
    use crate::replica::proof::Findings;
    use crate::replicate::Status;

    fn view(status: Status) -> DatabaseView {
        DatabaseView { db: "/a".into(), replica: "r".into(), status: Some(status), ..DatabaseView::default() }
    }

    fn snapshot(view: DatabaseView) -> Snapshot {
        Snapshot { phase: Phase::Running, databases: vec![view], ..StatusRegistry::default().snapshot() }
    }

    fn late(seconds: u64) -> Status {
        Status {
            waiting_since: Instant::now().checked_sub(Duration::from_secs(seconds)),
            ..Status::default()
        }
    }

    fn proof(sound: bool) -> Option<ProofView> {
        let problem = (!sound).then(|| "damaged".to_owned());
        let record = ProofRecord::new(Findings { problem, ..Findings::default() }, Moment(0), None);
        Some(ProofView { last: Some(record), ..ProofView::default() })
    }

    #[test]
    fn each_state_of_a_database() {
        use NotifyEvent::{NotReplicated, ProofFailed, Restored, TakenOver};
        let text = || Some("why".to_owned());
        let restored = |outcome| Some(Restore { outcome, bytes: 5, took: Duration::from_secs(1) });
        for (view, expected) in [
            (DatabaseView::default(), vec![]),
            (view(Status { replicating: true, ..Status::default() }), vec![]),
            (DatabaseView { restore: restored("kept"), ..view(Status::default()) }, vec![]),
            (DatabaseView { restore: restored("restored"), ..view(Status::default()) }, vec![Restored]),
            (
                DatabaseView { restore: restored("restored"), ..view(late(301)) },
                vec![Restored, NotReplicated],
            ),
            (view(late(299)), vec![]),
            (DatabaseView { proof: proof(true), ..view(Status::default()) }, vec![]),
            (DatabaseView { proof: proof(false), ..view(Status::default()) }, vec![ProofFailed]),
            (DatabaseView { not_replicated: text(), ..DatabaseView::default() }, vec![NotReplicated]),
            (view(Status { fenced: text(), ..late(301) }), vec![TakenOver]),
            (view(Status { fenced: text(), refused: true, ..Status::default() }), vec![NotReplicated]),
        ] {
            let mut watcher = Watcher::new(NotifyEvent::ALL.to_vec(), Duration::from_secs(300));
            let events = |told: Vec<Notification>| told.into_iter().map(|one| one.event).collect::<Vec<_>>();
            assert_eq!(events(watcher.look(&snapshot(view.clone()))), expected, "{view:?}");
            assert!(watcher.look(&snapshot(view.clone())).is_empty(), "it is told once: {view:?}");
            let mut deaf = Watcher::new(Vec::new(), Duration::from_secs(300));
            assert!(deaf.look(&snapshot(view)).is_empty());
        }
    }

    #[test]
    fn what_comes_again_is_told_again() {
        let mut watcher = Watcher::new(NotifyEvent::ALL.to_vec(), Duration::from_secs(60));
        let told = [90, 100, 0, 1, 61].map(|seconds| watcher.look(&snapshot(view(late(seconds)))).len());
        assert_eq!(told, [1, 0, 0, 0, 1]);
    }

    #[test]
    fn the_end_names_what_is_missing() {
        let summary = |missing: Option<&str>, fenced| DatabaseSummary {
            database: "/a".into(),
            complete: missing.is_none(),
            fenced,
            captured: String::new(),
            uploaded: String::new(),
            missing: missing.map(str::to_owned),
            absent: false,
            bytes: 0,
        };
        let watcher = Watcher::new(NotifyEvent::ALL.to_vec(), Duration::ZERO);
        let now = snapshot(view(Status::default()));
        let [told] =
            watcher.ended(&[summary(None, false), summary(Some("all"), false)], &now).try_into().unwrap();
        assert_eq!((told.event, told.replica.as_str()), (NotifyEvent::FlushedIncompletely, "r"));
        // That was told as taken over.
        assert!(watcher.ended(&[summary(Some("all"), true)], &now).is_empty());
        let json = told.json("box", Moment(0));
        assert_eq!(json["event"], "flushed-incompletely");
        assert_eq!(json["text"], "litevisor on box: /a: the last flush is incomplete: all");
        assert_eq!(json["time"], "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_sign_of_life_needs_everything() {
        let minute = Duration::from_secs(60);
        let well = Status { replicating: true, ..Status::default() };
        assert!(is_well(&snapshot(view(well.clone())), minute));
        let problem = Status { problem: Some("no route".into()), ..well.clone() };
        let starting = Snapshot { phase: Phase::Starting, ..snapshot(view(well.clone())) };
        let lost = Snapshot { engine_lost: true, ..snapshot(view(well)) };
        for unwell in [snapshot(view(late(61))), snapshot(view(problem)), starting, lost] {
            assert!(!is_well(&unwell, minute), "{unwell:?}");
        }
    }
}

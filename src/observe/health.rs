//! What is well and what is not: pure. A store that is away is no reason to take the app from its users: it makes the
//! program unready only where `max_lag` says so.

use super::board::{DatabaseView, Phase, Snapshot};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbState {
    Restoring,
    /// It may be used; replication begins with the app.
    Prepared,
    /// The app has not made it.
    Absent,
    /// The replica's end is being looked for.
    Starting,
    Replicating,
    /// The replica does not take what is committed, or the database cannot be read: it is tried again.
    Failing,
    /// Another writer has the replica.
    Fenced,
    /// It appeared late, and the replica holds another history.
    Refused,
    NotReplicated,
}

impl DbState {
    pub const ALL: [DbState; 9] = [
        DbState::Restoring,
        DbState::Prepared,
        DbState::Absent,
        DbState::Starting,
        DbState::Replicating,
        DbState::Failing,
        DbState::Fenced,
        DbState::Refused,
        DbState::NotReplicated,
    ];

    pub fn name(self) -> &'static str {
        match self {
            DbState::Restoring => "restoring",
            DbState::Prepared => "prepared",
            DbState::Absent => "absent",
            DbState::Starting => "starting",
            DbState::Replicating => "replicating",
            DbState::Failing => "failing",
            DbState::Fenced => "fenced",
            DbState::Refused => "refused",
            DbState::NotReplicated => "not_replicated",
        }
    }
}

pub fn state(view: &DatabaseView) -> DbState {
    let Some(status) = &view.status else {
        return match (&view.not_replicated, &view.restore) {
            (Some(_), _) => DbState::NotReplicated,
            (None, Some(_)) => DbState::Prepared,
            (None, None) => DbState::Restoring,
        };
    };
    match status {
        status if status.refused => DbState::Refused,
        status if status.fenced.is_some() => DbState::Fenced,
        status if status.absent => DbState::Absent,
        status if status.problem.is_some() => DbState::Failing,
        status if status.replicating => DbState::Replicating,
        _ => DbState::Starting,
    }
}

/// What does not go well with a database.
pub fn problem(view: &DatabaseView) -> Option<String> {
    if let Some(why) = &view.not_replicated {
        return Some(format!("not replicated: {why}"));
    }
    let status = view.status.as_ref()?;
    let fenced = status.fenced.as_ref().map(|why| {
        let what = if status.refused { "not replicated" } else { "another instance has the replica" };
        format!("{what}: {why}")
    });
    let grows = status.wal_grows.as_ref().map(|why| format!("the WAL grows past its limit: {why}"));
    let upkeep = status.upkeep.problem.as_ref().map(|why| format!("upkeep of the replica: {why}"));
    let all: Vec<String> = [fenced, status.problem.clone(), grows, upkeep].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Whether the program does what it is there for, as far as itself goes.
pub fn alive(snapshot: &Snapshot) -> bool {
    !snapshot.engine_lost
}

/// Why no traffic should come. Empty: ready.
pub fn unready(snapshot: &Snapshot, max_lag: Option<Duration>) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut say = |reason: &str| reasons.push(reason.to_owned());
    match snapshot.phase {
        Phase::Running => {}
        Phase::Restoring => say("restoring: the app is not started yet"),
        Phase::Starting => say("the app is being started"),
        Phase::Backoff => say("the app has ended and is about to be started again"),
        Phase::Clearing => say("the app has ended"),
        Phase::Abandoning | Phase::PreSync | Phase::Stopping | Phase::Flushing | Phase::Done => say("stopping"),
    }
    if snapshot.engine_lost {
        say("the engine has ended: nothing is replicated any more");
    }
    for view in &snapshot.databases {
        let db = &view.db;
        match (state(view), max_lag) {
            (DbState::Fenced, _) => say(&format!("{db}: another instance has the replica")),
            (_, Some(most)) if lag(view, snapshot.now) > most => {
                let lag = lag(view, snapshot.now).as_secs();
                let why = problem(view).map_or(String::new(), |why| format!(": {why}"));
                say(&format!("{db}: commits of the last {lag} s are not in the replica{why}"));
            }
            _ => {}
        }
    }
    reasons
}

/// What an operator should know although the program is ready.
pub fn notes(snapshot: &Snapshot) -> Vec<String> {
    let told = |view: &DatabaseView| problem(view).map(|problem| format!("{}: {problem}", view.db));
    snapshot.databases.iter().filter_map(told).collect()
}

pub fn lag(view: &DatabaseView, now: Instant) -> Duration {
    view.status.as_ref().map_or(Duration::ZERO, |status| status.lag(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::board::{Board, Restore};
    use crate::replicate::Status;

    fn view(status: Status) -> DatabaseView {
        DatabaseView { db: "/d/a.db".into(), status: Some(status), ..DatabaseView::default() }
    }

    fn snapshot(phase: Phase, databases: Vec<DatabaseView>) -> Snapshot {
        Snapshot { phase, databases, ..Board::default().snapshot() }
    }

    #[test]
    fn every_state_of_a_database() {
        let text = || Some("x".to_owned());
        let restore = Some(Restore { outcome: "kept", bytes: 0, took: Duration::ZERO });
        for (view, expected) in [
            (DatabaseView::default(), DbState::Restoring),
            (DatabaseView { restore: restore.clone(), ..DatabaseView::default() }, DbState::Prepared),
            (DatabaseView { restore, not_replicated: text(), ..DatabaseView::default() }, DbState::NotReplicated),
            (view(Status::default()), DbState::Starting),
            (view(Status { replicating: true, ..Status::default() }), DbState::Replicating),
            (view(Status { replicating: true, problem: text(), ..Status::default() }), DbState::Failing),
            (view(Status { absent: true, ..Status::default() }), DbState::Absent),
            (view(Status { fenced: text(), problem: text(), ..Status::default() }), DbState::Fenced),
            (view(Status { fenced: text(), refused: true, ..Status::default() }), DbState::Refused),
        ] {
            assert_eq!(state(&view), expected, "{view:?}");
        }
    }

    #[test]
    fn only_a_running_app_is_ready() {
        for phase in Phase::ALL {
            let reasons = unready(&snapshot(phase, vec![view(Status::default())]), None);
            assert_eq!(reasons.is_empty(), phase == Phase::Running, "{phase:?}: {reasons:?}");
        }
        let lost = Snapshot { engine_lost: true, ..snapshot(Phase::Running, Vec::new()) };
        assert!(!alive(&lost) && unready(&lost, None).len() == 1);
        assert!(alive(&snapshot(Phase::Restoring, Vec::new())));
    }

    #[test]
    fn a_store_that_is_away_makes_nobody_unready_unasked() {
        let since = Instant::now().checked_sub(Duration::from_secs(90));
        let away = Status { problem: Some("no route".into()), waiting_since: since, ..Status::default() };
        let snapshot = snapshot(Phase::Running, vec![view(away)]);
        assert_eq!(unready(&snapshot, None), [""; 0]);
        assert_eq!(unready(&snapshot, Some(Duration::from_secs(600))), [""; 0]);
        let [reason] = unready(&snapshot, Some(Duration::from_secs(60))).try_into().unwrap();
        assert!(reason.starts_with("/d/a.db: commits of the last 9") && reason.ends_with("no route"), "{reason}");
        assert_eq!(notes(&snapshot), ["/d/a.db: no route"]);
    }

    #[test]
    fn whoever_lost_its_replica_gets_no_traffic() {
        let fenced = Status { fenced: Some("node 9".into()), ..Status::default() };
        let refused = Status { refused: true, ..fenced.clone() };
        assert_eq!(unready(&snapshot(Phase::Running, vec![view(fenced)]), None).len(), 1);
        let late = snapshot(Phase::Running, vec![view(refused)]);
        assert_eq!((unready(&late, None).len(), notes(&late)), (0, vec!["/d/a.db: not replicated: node 9".to_owned()]));
    }
}

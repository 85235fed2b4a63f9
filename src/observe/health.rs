//! Decides whether the program is alive and ready, and what an operator should know. Pure. An unreachable
//! store alone does not make the program unready, unless `max_lag` is set: the app still serves its users.

use super::follow::FollowView;
use super::proof::ProofView;
use super::status_registry::{DatabaseView, Phase, Snapshot};
use crate::replicate::Status;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbState {
    Restoring,
    /// The database is ready; replication begins with the app.
    Prepared,
    /// The database does not exist: the app has not created it.
    Absent,
    /// The newest position of the replica is being read.
    Starting,
    Replicating,
    /// A read-only copy that follows its replica.
    Following,
    /// Uploads fail, the database cannot be read, or the last proof of the replica has failed; litevisor
    /// tries again.
    Failing,
    /// The database's files were overwritten, replaced or removed, and the new content is not in the replica
    /// yet.
    Replaced,
    /// Another writer has taken the replica over.
    Fenced,
    /// The database appeared after the start, and the replica holds another history.
    Refused,
    NotReplicated,
}

impl DbState {
    pub const ALL: [DbState; 11] = [
        DbState::Restoring,
        DbState::Prepared,
        DbState::Absent,
        DbState::Starting,
        DbState::Replicating,
        DbState::Following,
        DbState::Failing,
        DbState::Replaced,
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
            DbState::Following => "following",
            DbState::Failing => "failing",
            DbState::Replaced => "replaced",
            DbState::Fenced => "fenced",
            DbState::Refused => "refused",
            DbState::NotReplicated => "not_replicated",
        }
    }
}

pub fn state(view: &DatabaseView) -> DbState {
    if let Some(follow) = &view.follow {
        return if follow.problem.is_some() { DbState::Failing } else { DbState::Following };
    }
    let Some(status) = &view.status else {
        return match (&view.not_replicated, &view.restore) {
            _ if view.nothing_matches => DbState::Absent,
            (Some(_), _) => DbState::NotReplicated,
            (None, Some(_)) => DbState::Prepared,
            (None, None) => DbState::Restoring,
        };
    };
    match status {
        status if status.refused => DbState::Refused,
        status if status.fenced.is_some() => DbState::Fenced,
        status if status.replaced.is_some() => DbState::Replaced,
        status if status.absent => DbState::Absent,
        status if status.problem.is_some() || status.unrestorable.is_some() => DbState::Failing,
        _ if unproven(view).is_some() => DbState::Failing,
        status if status.replicating => DbState::Replicating,
        _ => DbState::Starting,
    }
}

/// Why the replica is not proven, although a proof was made.
fn unproven(view: &DatabaseView) -> Option<String> {
    view.proof.as_ref().and_then(ProofView::failure)
}

/// Why nothing of a database is replicated. None: it is replicated, or will be soon.
fn not_replicated(view: &DatabaseView) -> Option<String> {
    let absent = view.absent.as_ref().filter(|_| state(view) == DbState::Absent);
    view.not_replicated.as_ref().or(absent).map(|why| format!("not replicated: {why}"))
}

/// Databases that have not existed for too long.
pub fn absent(snapshot: &Snapshot) -> usize {
    let absent = |view: &&DatabaseView| view.absent.is_some() && state(view) == DbState::Absent;
    snapshot.databases.iter().filter(absent).count()
}

/// The problems of a database.
pub fn problem(view: &DatabaseView) -> Option<String> {
    if let Some(why) = not_replicated(view) {
        return Some(why);
    }
    if let Some(follow) = &view.follow {
        return follow.problem.clone().or_else(|| follow.left_behind());
    }
    let status = view.status.as_ref()?;
    let fenced = status.fenced.as_ref().map(|why| {
        let what = if status.refused { "not replicated" } else { "another instance has the replica" };
        format!("{what}: {why}")
    });
    let grows = status.wal_grows.as_ref().map(|why| format!("the WAL grows past its limit: {why}"));
    let maintenance =
        status.maintenance.problem.as_ref().map(|why| format!("maintenance of the replica: {why}"));
    let unrestorable = status.unrestorable.as_ref().map(|why| unrestorable(why));
    let all: Vec<String> = [
        fenced,
        status.replaced.clone(),
        status.problem.clone(),
        unrestorable,
        grows,
        maintenance,
        view.proof.as_ref().and_then(ProofView::problem),
        status.clock.clone(),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Each kind of problem by its name in the metrics, and whether the database has it.
pub fn problems(view: &DatabaseView) -> [(&'static str, bool); 7] {
    let status = |has: fn(&Status) -> bool| view.status.as_ref().is_some_and(has);
    [
        ("upload", status(|status| status.problem.is_some())),
        ("unrestorable", status(|status| status.unrestorable.is_some())),
        ("wal_grows", status(|status| status.wal_grows.is_some())),
        ("maintenance", status(|status| status.maintenance.problem.is_some())),
        ("proof", view.proof.as_ref().is_some_and(|proof| proof.problem().is_some())),
        ("clock", status(|status| status.clock.is_some())),
        (
            "follow",
            view.follow.as_ref().is_some_and(|copy| copy.problem.is_some() || copy.previous.is_some()),
        ),
    ]
}

/// Until the new snapshot is in the replica.
fn unrestorable(why: &str) -> String {
    format!("the replica cannot be restored now ({why}): a new snapshot is on its way")
}

/// Whether litevisor itself works, apart from the app and the store.
pub fn alive(snapshot: &Snapshot) -> bool {
    !snapshot.engine_lost
}

fn ownership(snapshot: &Snapshot) -> String {
    let view = snapshot.handover.as_ref();
    let told = view.map(|view| view.sentence(&snapshot.caught_up, snapshot.now));
    told.unwrap_or_else(|| "another instance owns the replica".to_owned())
}

/// Why a sync cannot be answered: no database is replicated by this instance now.
pub fn not_begun(snapshot: &Snapshot) -> String {
    match snapshot.phase {
        Phase::Waiting | Phase::CatchingUp | Phase::Retired => {
            format!("this instance replicates nothing: {}", ownership(snapshot))
        }
        _ => "replication has not begun: the databases are being restored".to_owned(),
    }
}

/// Why nothing serves clients here, whatever the replicas are like. Empty: the app does.
pub fn not_serving(snapshot: &Snapshot) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut say = |reason: &str| reasons.push(reason.to_owned());
    // What comes before the app answers waits in such a gate.
    let takes_traffic = snapshot.gates.iter().any(|gate| gate.early && gate.shut.is_none());
    match snapshot.phase {
        Phase::Waiting | Phase::CatchingUp | Phase::SettingUp | Phase::Starting | Phase::Running
            if takes_traffic => {}
        Phase::Running => snapshot.app.silent.iter().for_each(|why| say(why)),
        Phase::Restoring => say("restoring: the app is not started yet"),
        Phase::Waiting => say(&ownership(snapshot)),
        Phase::CatchingUp => say("catching up with the replica: the app is not started yet"),
        Phase::Retired => say(&ownership(snapshot)),
        Phase::SettingUp => say("the commands of app.setup run: the app is not started yet"),
        Phase::Starting => say("the app is being started"),
        Phase::Backoff => say("the app has ended and is about to be started again"),
        Phase::Clearing => say("the app has ended"),
        Phase::Abandoning | Phase::PreSync | Phase::Stopping | Phase::Flushing | Phase::Done => {
            say("stopping")
        }
    }
    if snapshot.engine_lost {
        say("the engine has ended: nothing is replicated any more");
    }
    let open = snapshot.phase == Phase::Running;
    for gate in snapshot.gates.iter().filter(|_| open) {
        gate.shut.iter().for_each(|why| say(&format!("gate {}: {why}", gate.listen)));
    }
    reasons
}

/// Why the app should get no traffic. Empty: it is ready.
pub fn unready(snapshot: &Snapshot, max_lag: Option<Duration>) -> Vec<String> {
    let mut reasons = not_serving(snapshot);
    let mut say = |reason: &str| reasons.push(reason.to_owned());
    for view in &snapshot.databases {
        let db = &view.db;
        let stale = view.follow.as_ref().and_then(|follow| follow.stale(snapshot.now));
        let left_behind = view.follow.as_ref().and_then(FollowView::left_behind);
        stale.iter().chain(&left_behind).for_each(|why| say(&format!("{db}: {why}")));
        match (state(view), max_lag) {
            (DbState::Fenced, _) => say(&format!("{db}: another instance has the replica")),
            (DbState::Replaced, _) => {
                say(&format!("{db}: {}", problem(view).unwrap_or_default()));
            }
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

/// The first line of a positive answer. It says if databases are not replicated, or their replicas not
/// proven. Neither takes the app from its users: a new snapshot is the way out, not another instance.
pub fn ready_line(snapshot: &Snapshot) -> &'static str {
    let without = |view: &DatabaseView| {
        let locked = view.status.as_ref().is_some_and(|status| status.locked_by_app);
        locked
            || not_replicated(view).is_some()
            || matches!(state(view), DbState::Refused | DbState::NotReplicated)
    };
    if snapshot.databases.iter().any(without) {
        "ready, but NOT REPLICATED"
    } else if snapshot.databases.iter().any(|view| unproven(view).is_some()) {
        "ready, but NOT PROVEN"
    } else {
        "ready"
    }
}

/// Problems that do not make the program unready.
pub fn notes(snapshot: &Snapshot) -> Vec<String> {
    let told = |view: &DatabaseView| problem(view).map(|problem| format!("{}: {problem}", view.db));
    let unprovable = snapshot.gates.iter().flat_map(|gate| &gate.unprovable);
    let unprovable = unprovable.map(|(db, why)| format!("{db}: its answers are held: {why}"));
    let mut notes: Vec<String> = snapshot.databases.iter().filter_map(told).chain(unprovable).collect();
    // Two gates look at the same databases.
    notes.sort();
    notes.dedup();
    notes
}

pub fn lag(view: &DatabaseView, now: Instant) -> Duration {
    view.status.as_ref().map_or(Duration::ZERO, |status| status.lag(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::handover::HandoverView;
    use crate::observe::status_registry::{AppFacts, Restore, StatusRegistry};

    fn view(status: Status) -> DatabaseView {
        DatabaseView { db: "/d/a.db".into(), status: Some(status), ..DatabaseView::default() }
    }

    fn snapshot(phase: Phase, databases: Vec<DatabaseView>) -> Snapshot {
        Snapshot { phase, databases, ..StatusRegistry::default().snapshot() }
    }

    #[test]
    fn every_state_of_a_database() {
        let text = || Some("x".to_owned());
        let restore = Some(Restore { outcome: "kept", bytes: 0, took: Duration::ZERO });
        for (view, expected) in [
            (DatabaseView::default(), DbState::Restoring),
            (DatabaseView { restore: restore.clone(), ..DatabaseView::default() }, DbState::Prepared),
            (
                DatabaseView { restore, not_replicated: text(), ..DatabaseView::default() },
                DbState::NotReplicated,
            ),
            (view(Status::default()), DbState::Starting),
            (view(Status { replicating: true, ..Status::default() }), DbState::Replicating),
            (view(Status { replicating: true, problem: text(), ..Status::default() }), DbState::Failing),
            (view(Status { absent: true, ..Status::default() }), DbState::Absent),
            (view(Status { replaced: text(), problem: text(), ..Status::default() }), DbState::Replaced),
            (view(Status { fenced: text(), problem: text(), ..Status::default() }), DbState::Fenced),
            (view(Status { fenced: text(), refused: true, ..Status::default() }), DbState::Refused),
        ] {
            assert_eq!(state(&view), expected, "{view:?}");
        }
    }

    #[test]
    fn every_kind_of_problem_is_told_and_counted() {
        let text = || Some("x".to_owned());
        let mut maintenance = Status::default();
        maintenance.maintenance.problem = text();
        let proof = ProofView { undecided: text(), ..ProofView::default() };
        let copy = FollowView { problem: text(), ..FollowView::new(Duration::ZERO) };
        for (name, view) in [
            ("upload", view(Status { problem: text(), ..Status::default() })),
            ("unrestorable", view(Status { unrestorable: text(), ..Status::default() })),
            ("wal_grows", view(Status { wal_grows: text(), ..Status::default() })),
            ("maintenance", view(maintenance)),
            ("proof", DatabaseView { proof: Some(proof), ..view(Status::default()) }),
            ("clock", view(Status { clock: text(), ..Status::default() })),
            ("follow", DatabaseView { follow: Some(copy), ..DatabaseView::default() }),
        ] {
            let names: Vec<&str> =
                problems(&view).into_iter().filter_map(|(name, has)| has.then_some(name)).collect();
            assert_eq!(names, [name]);
            assert!(problem(&view).is_some(), "{name}");
        }
        assert!(problems(&view(Status::default())).iter().all(|(_, has)| !has));
    }

    /// A job may never create its database, an app may do it at its first request: neither is taken from its
    /// users, and neither is called well.
    #[test]
    fn what_does_not_exist_is_said_and_keeps_nobody_from_its_users() {
        let absent = || Status { absent: true, ..Status::default() };
        let told = || Some("there is no database at /d/a.db".to_owned());
        let fresh = snapshot(Phase::Running, vec![view(absent())]);
        assert_eq!((ready_line(&fresh), notes(&fresh).len(), super::absent(&fresh)), ("ready", 0, 0));
        let directory =
            DatabaseView { db: "/d/*.db".into(), nothing_matches: true, ..DatabaseView::default() };
        assert_eq!(state(&directory), DbState::Absent);
        for late in
            [DatabaseView { absent: told(), ..view(absent()) }, DatabaseView { absent: told(), ..directory }]
        {
            let late = snapshot(Phase::Running, vec![late, view(Status::default())]);
            assert_eq!(unready(&late, Some(Duration::from_secs(1))), [""; 0]);
            assert_eq!((ready_line(&late), super::absent(&late)), ("ready, but NOT REPLICATED", 1));
            let [note] = notes(&late).try_into().unwrap();
            assert!(note.ends_with("not replicated: there is no database at /d/a.db"), "{note}");
        }
        let locked = view(Status { locked_by_app: true, problem: told(), ..Status::default() });
        let locked = snapshot(Phase::Running, vec![locked]);
        assert_eq!((ready_line(&locked), notes(&locked).len()), ("ready, but NOT REPLICATED", 1));
        // It has come after all.
        let come = DatabaseView { absent: told(), ..view(Status { replicating: true, ..Status::default() }) };
        let come = snapshot(Phase::Running, vec![come]);
        assert_eq!((ready_line(&come), notes(&come).len(), super::absent(&come)), ("ready", 0, 0));
    }

    #[test]
    fn only_a_running_app_is_ready() {
        let early = crate::gate::GateView { early: true, ..Default::default() };
        for phase in Phase::ALL {
            let open = Snapshot { gates: vec![early.clone()], ..snapshot(phase, Vec::new()) };
            let takes =
                [Phase::Waiting, Phase::CatchingUp, Phase::SettingUp, Phase::Starting, Phase::Running]
                    .contains(&phase);
            assert_eq!(unready(&open, None).is_empty(), takes, "{phase:?}: connections wait in the gate");
            let reasons = unready(&snapshot(phase, vec![view(Status::default())]), None);
            assert_eq!(reasons.is_empty(), phase == Phase::Running, "{phase:?}: {reasons:?}");
        }
        let silent = AppFacts { silent: Some("it does not answer".into()), ..AppFacts::default() };
        let waiting = |phase| Snapshot { app: silent.clone(), ..snapshot(phase, Vec::new()) };
        assert_eq!(unready(&waiting(Phase::Running), None), ["it does not answer"]);
        assert_eq!(unready(&waiting(Phase::Stopping), None), ["stopping"]);
        let lost = Snapshot { engine_lost: true, ..snapshot(Phase::Running, Vec::new()) };
        assert!(!alive(&lost) && unready(&lost, None).len() == 1);
        assert!(alive(&snapshot(Phase::Restoring, Vec::new())));
    }

    #[test]
    fn a_sync_that_nothing_answers_names_the_reason() {
        let handover =
            HandoverView { epoch: Some(1), state: "retired", detail: "handed over".into(), standby: None };
        for phase in Phase::ALL {
            let told =
                not_begun(&Snapshot { handover: Some(handover.clone()), ..snapshot(phase, Vec::new()) });
            let elsewhere = [Phase::Waiting, Phase::CatchingUp, Phase::Retired].contains(&phase);
            assert_eq!(
                told == "this instance replicates nothing: handed over",
                elsewhere,
                "{phase:?}: {told}"
            );
        }
    }

    #[test]
    fn a_store_that_is_away_makes_nobody_unready_unasked() {
        let since = Instant::now().checked_sub(Duration::from_secs(90));
        let away = Status { problem: Some("no route".into()), waiting_since: since, ..Status::default() };
        let snapshot = snapshot(Phase::Running, vec![view(away)]);
        assert_eq!(unready(&snapshot, None), [""; 0]);
        assert_eq!(unready(&snapshot, Some(Duration::from_secs(600))), [""; 0]);
        let [reason] = unready(&snapshot, Some(Duration::from_secs(60))).try_into().unwrap();
        assert!(
            reason.starts_with("/d/a.db: commits of the last 9") && reason.ends_with("no route"),
            "{reason}"
        );
        assert_eq!(notes(&snapshot), ["/d/a.db: no route"]);
    }

    #[test]
    fn whoever_lost_its_replica_gets_no_traffic() {
        let fenced = Status { fenced: Some("node 9".into()), ..Status::default() };
        let refused = Status { refused: true, ..fenced.clone() };
        assert_eq!(unready(&snapshot(Phase::Running, vec![view(fenced)]), None).len(), 1);
        let late = snapshot(Phase::Running, vec![view(refused)]);
        assert_eq!(
            (unready(&late, None).len(), notes(&late)),
            (0, vec!["/d/a.db: not replicated: node 9".to_owned()])
        );
    }
}

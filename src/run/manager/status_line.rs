//! The state of the run in one line, for `systemctl status`. Pure.

use crate::observe::health;
use crate::observe::status_registry::{Phase, Snapshot};
use crate::restore::Pace;
use std::time::Duration;

/// Uploads are that late now and then.
const BEHIND: Duration = Duration::from_secs(10);

/// `app`: what the app says of itself; may be empty.
pub fn status_line(snapshot: &Snapshot, app: &str) -> String {
    match snapshot.phase {
        Phase::Restoring => restoring(snapshot),
        Phase::Abandoning => "stopping: the restore is given up".to_owned(),
        Phase::PreSync => "uploading what is committed, before the app is stopped".to_owned(),
        Phase::Stopping => "waiting for the app's end".to_owned(),
        Phase::Clearing => "the app has ended; waiting for its other processes".to_owned(),
        Phase::Flushing => "uploading the last commits".to_owned(),
        Phase::Done => "ended".to_owned(),
        Phase::Waiting
        | Phase::CatchingUp
        | Phase::SettingUp
        | Phase::Starting
        | Phase::Running
        | Phase::Backoff
        | Phase::Retired => running(snapshot, app),
    }
}

fn restoring(snapshot: &Snapshot) -> String {
    let paces: Vec<Pace> = snapshot.databases.iter().filter_map(|view| view.progress).collect();
    let text = paces.iter().fold(Pace::default(), |all, pace| all.with(*pace)).text();
    match (paces.len(), snapshot.databases.first()) {
        (2.., _) => format!("{} databases, {text}", paces.len()),
        (1, Some(view)) if snapshot.databases.len() == 1 => format!("{}: {text}", view.db),
        _ => text,
    }
}

fn running(snapshot: &Snapshot, app: &str) -> String {
    let mut all = health::unready(snapshot, None);
    if all.is_empty() {
        all.push("running".to_owned());
    }
    if !app.is_empty() {
        all.push(format!("app: {app}"));
    }
    let lag = |view| (health::lag(view, snapshot.now), view);
    if let Some((lag, view)) = snapshot.databases.iter().map(lag).max_by_key(|(lag, _)| *lag)
        && lag > BEHIND
    {
        all.push(format!("{}: commits of the last {} s are not in the replica", view.db, lag.as_secs()));
    }
    all.extend(health::notes(snapshot));
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status_registry::{AppFacts, DatabaseView, StatusRegistry};
    use crate::replicate::Status;

    fn snapshot(phase: Phase, databases: Vec<DatabaseView>) -> Snapshot {
        Snapshot { phase, databases, ..StatusRegistry::default().snapshot() }
    }

    #[test]
    fn each_state_in_a_line() {
        let pace = |done: u64| Pace { done: done << 20, total: 100 << 20, elapsed: Duration::from_secs(5) };
        let restored =
            |done| DatabaseView { db: "/d/a".into(), progress: Some(pace(done)), ..DatabaseView::default() };
        let status = |seconds| Status {
            waiting_since: std::time::Instant::now().checked_sub(Duration::from_secs(seconds)),
            problem: (seconds > 60).then(|| "no route".into()),
            replicating: true,
            ..Status::default()
        };
        let late = |seconds| DatabaseView {
            db: "/d/a".into(),
            status: Some(status(seconds)),
            ..DatabaseView::default()
        };
        for (snapshot, app, expected) in [
            (
                snapshot(Phase::Restoring, vec![]),
                "",
                "restoring: looking at the replica and at the local file",
            ),
            (
                snapshot(Phase::Restoring, vec![restored(25)]),
                "",
                "/d/a: restoring: 25.0 of 100.0 MiB, 25 %, 5.0 MiB/s, 15 s left",
            ),
            (
                snapshot(Phase::Restoring, vec![restored(25), restored(50)]),
                "",
                "2 databases, restoring: 75.0 of 200.0 MiB, 37 %, 15.0 MiB/s, 9 s left",
            ),
            (snapshot(Phase::Running, vec![late(1)]), "", "running"),
            (snapshot(Phase::Running, vec![late(1)]), "7 users", "running; app: 7 users"),
            (
                snapshot(Phase::Running, vec![late(20)]),
                "",
                "running; /d/a: commits of the last 20 s are not in the replica",
            ),
            (
                snapshot(Phase::Running, vec![late(90)]),
                "",
                "running; /d/a: commits of the last 90 s are not in the replica; /d/a: no route",
            ),
            (snapshot(Phase::Backoff, vec![]), "", "the app has ended and is about to be started again"),
            (snapshot(Phase::Flushing, vec![late(90)]), "", "uploading the last commits"),
        ] {
            assert_eq!(status_line(&snapshot, app), expected, "{:?}", snapshot.phase);
        }
        let silent = AppFacts { silent: Some("it does not answer".into()), ..AppFacts::default() };
        let silent = Snapshot { app: silent, ..snapshot(Phase::Running, vec![]) };
        assert_eq!(status_line(&silent, ""), "it does not answer");
    }
}

//! The mark beside a database while the commands of `[app] setup` run. A start that finds it does not use the local file: the
//! commands failed, or were killed half-way, so the state before them is brought back.
//!
//! All databases of one setup become valid together. Each mark names the first database; the setup has succeeded once the mark
//! *there* says so. That mark is removed last, so that no crash leaves a mark whose outcome is unknown.

use super::check::Doubt;
use crate::local_state::{self, LocalStateError};
use crate::model::DbPath;
use serde::{Deserialize, Serialize};

const NAME: &str = "setup.json";

/// What there was before the setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// No database file.
    Nothing,
    /// The replica's newest state.
    Replica,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupMark {
    /// Random; the same in all marks of one setup.
    pub run: u64,
    /// The database whose mark says whether the setup has succeeded.
    pub first: String,
    pub before: Before,
    pub succeeded: bool,
}

impl SetupMark {
    /// What the file is worth; None: it may be used. `first`: the mark beside the first database. Pure.
    fn undone(&self, first: Option<&SetupMark>) -> Option<Before> {
        let succeeded = first.is_some_and(|first| first.run == self.run && first.succeeded);
        (!succeeded).then_some(self.before)
    }
}

/// What there was before a setup that did not succeed; None: there is no such setup, and the file may be used.
pub fn undone(db: &DbPath) -> Option<Before> {
    let mark = load(db)?;
    let first = if mark.first == db.to_string() { Some(mark.clone()) } else { load(&DbPath::new(&mark.first)) };
    mark.undone(first.as_ref())
}

pub fn doubt() -> Doubt {
    Doubt::Content(
        "the commands of app.setup did not end with success the last time, and may have changed a part of it",
    )
}

/// Marks all databases before the first command is started. The first one comes first.
pub fn begin(databases: &[(DbPath, Before)], run: u64) -> Result<(), LocalStateError> {
    let Some((first, _)) = databases.first() else { return Ok(()) };
    for (db, before) in databases {
        let mark = SetupMark { run, first: first.to_string(), before: *before, succeeded: false };
        store(db, &mark)?;
    }
    Ok(())
}

/// All commands have succeeded: from here on the databases are what replication continues with. One write decides.
pub fn succeed(databases: &[DbPath]) -> Result<(), LocalStateError> {
    let Some(first) = databases.first() else { return Ok(()) };
    if let Some(mark) = load(first) {
        store(first, &SetupMark { succeeded: true, ..mark })?;
    }
    remove(databases)
}

/// After the state before is back, or the setup has succeeded. The first database's mark goes last.
pub fn remove(databases: &[DbPath]) -> Result<(), LocalStateError> {
    databases.iter().rev().filter(|db| load(db).is_some()).try_for_each(|db| local_state::remove_note(db, NAME))
}

fn load(db: &DbPath) -> Option<SetupMark> {
    match local_state::read_note(db, NAME) {
        Ok(text) => serde_json::from_slice(&text?)
            .inspect_err(|error| tracing::warn!(%db, "the mark of a setup cannot be used and is ignored: {error}"))
            .ok(),
        Err(error) => {
            tracing::warn!(%db, "the mark of a setup cannot be read and is ignored: {error}");
            None
        }
    }
}

fn store(db: &DbPath, mark: &SetupMark) -> Result<(), LocalStateError> {
    local_state::write_note_durably(db, NAME, &serde_json::to_string(mark).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> (tempfile::TempDir, [DbPath; 3]) {
        let root = tempfile::tempdir().unwrap();
        let databases = ["a.db", "b.db", "c.db"].map(|name| DbPath::new(root.path().join(name)));
        (root, databases)
    }

    fn begun(databases: &[DbPath; 3]) {
        let [a, b, c] = databases.clone();
        begin(&[(a, Before::Replica), (b, Before::Nothing), (c, Before::Replica)], 7).unwrap();
    }

    fn all(databases: &[DbPath; 3]) -> [Option<Before>; 3] {
        databases.each_ref().map(undone)
    }

    #[test]
    fn only_the_first_mark_of_the_same_run_says_that_it_succeeded() {
        let mark = |run, succeeded| SetupMark { run, first: "/a".into(), before: Before::Nothing, succeeded };
        for (first, expected) in [
            (None, Some(Before::Nothing)),
            (Some(mark(1, false)), Some(Before::Nothing)),
            (Some(mark(2, true)), Some(Before::Nothing)),
            (Some(mark(1, true)), None),
        ] {
            assert_eq!(mark(1, false).undone(first.as_ref()), expected, "{first:?}");
        }
    }

    #[test]
    fn all_databases_are_undone_or_none_wherever_it_is_killed() {
        let (_root, databases) = site();
        let undone = [Some(Before::Replica), Some(Before::Nothing), Some(Before::Replica)];
        begun(&databases);
        assert_eq!(all(&databases), undone);
        // The state before is back: killed after each removal.
        for (left, expected) in [(3, undone), (2, [undone[0], undone[1], None]), (1, [undone[0], None, None])] {
            begun(&databases);
            remove(&databases[left..]).unwrap();
            assert_eq!(all(&databases), expected, "{left}");
        }
        // It has succeeded: killed after the deciding write, and after each removal.
        for left in (0..=3).rev() {
            begun(&databases);
            let first = load(&databases[0]).unwrap();
            store(&databases[0], &SetupMark { succeeded: true, ..first }).unwrap();
            remove(&databases[left..]).unwrap();
            assert_eq!(all(&databases), [None; 3], "{left}");
        }
        begun(&databases);
        succeed(&databases).unwrap();
        assert_eq!(all(&databases), [None; 3]);
        assert!(databases.iter().all(|db| load(db).is_none()));
    }
}

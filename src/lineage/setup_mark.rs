//! The mark beside a database while the commands of `[app] setup` run. A start that finds it does not use the
//! local file: the commands failed, or were killed half-way, so the state before them is brought back.
//!
//! All databases of one setup become valid together. Each mark names the first database; the setup has
//! succeeded once the mark *there* says so. That mark is removed last, so that no crash leaves a mark whose
//! outcome is unknown.

use super::check::Doubt;
use crate::local_state::{self, LocalStateError};
use crate::model::DbPath;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;

const NAME: &str = "setup.json";

/// What there was before the setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// No database file.
    Nothing,
    /// The replica's newest state.
    Replica,
    /// The mark cannot be read. Never written.
    Unknown,
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

enum Found {
    None,
    Mark(SetupMark),
    /// And why.
    Unusable(String),
}

/// What there was before a setup that did not succeed; None: there is no such setup, and the file may be
/// used.
pub fn undone(db: &DbPath) -> Option<Before> {
    let mark = match load(db) {
        Found::None => return None,
        Found::Mark(mark) => mark,
        Found::Unusable(why) => {
            tracing::warn!(%db, "the mark of a setup cannot be used, so the setup counts as one without \
                success: {why}");
            return Some(Before::Unknown);
        }
    };
    if mark.first == db.to_string() {
        return mark.undone(Some(&mark));
    }
    match load(&DbPath::new(&mark.first)) {
        Found::Mark(first) => mark.undone(Some(&first)),
        Found::None | Found::Unusable(_) => mark.undone(None),
    }
}

pub fn doubt(before: Before) -> Doubt {
    Doubt::Content(match before {
        Before::Nothing | Before::Replica => {
            "the commands of app.setup did not end with success the last time, and may have changed a part \
             of it"
        }
        Before::Unknown => {
            "a mark beside it (setup.json) says that the commands of app.setup have begun, and cannot be \
             read, so they may have changed a part of it"
        }
    })
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

/// All commands have succeeded: from here on the databases are what replication continues with. One write
/// decides.
pub fn succeed(databases: &[DbPath]) -> Result<(), LocalStateError> {
    let Some(first) = databases.first() else { return Ok(()) };
    if let Found::Mark(mark) = load(first) {
        store(first, &SetupMark { succeeded: true, ..mark })?;
    }
    remove(databases)
}

/// After the state before is back, or the setup has succeeded. The first database's mark goes last.
pub fn remove(databases: &[DbPath]) -> Result<(), LocalStateError> {
    let marked = |db: &&DbPath| !matches!(load(db), Found::None);
    databases.iter().rev().filter(marked).try_for_each(|db| local_state::remove_note(db, NAME))
}

fn load(db: &DbPath) -> Found {
    match local_state::read_note(db, NAME) {
        Ok(None) => Found::None,
        Ok(Some(text)) => {
            serde_json::from_slice(&text).map_or_else(|error| Found::Unusable(error.to_string()), Found::Mark)
        }
        // Another user's directory: its record cannot be read either, and no file is kept for it.
        Err(LocalStateError::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
            tracing::warn!(
                %db,
                "the state directory cannot be read, and a mark of a setup in it is ignored: {source}"
            );
            Found::None
        }
        Err(error) => Found::Unusable(error.to_string()),
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
        for (left, expected) in [(3, undone), (2, [undone[0], undone[1], None]), (1, [undone[0], None, None])]
        {
            begun(&databases);
            remove(&databases[left..]).unwrap();
            assert_eq!(all(&databases), expected, "{left}");
        }
        // It has succeeded: killed after the deciding write, and after each removal.
        for left in (0..=3).rev() {
            begun(&databases);
            let Found::Mark(first) = load(&databases[0]) else { panic!("no mark") };
            store(&databases[0], &SetupMark { succeeded: true, ..first }).unwrap();
            remove(&databases[left..]).unwrap();
            assert_eq!(all(&databases), [None; 3], "{left}");
        }
        begun(&databases);
        succeed(&databases).unwrap();
        assert_eq!(all(&databases), [None; 3]);
        assert!(databases.iter().all(|db| matches!(load(db), Found::None)));
    }

    /// It decides for all, so it stays while another one cannot be removed.
    #[test]
    fn the_first_mark_is_removed_last() {
        let (_root, databases) = site();
        begun(&databases);
        let second = databases[1].state_dir().join(NAME);
        std::fs::remove_file(&second).unwrap();
        std::fs::create_dir(&second).unwrap();
        assert!(remove(&databases).is_err());
        assert_eq!(all(&databases), [Some(Before::Replica), Some(Before::Unknown), None]);
    }

    /// As an older version's, or one that the app has written to.
    #[test]
    fn a_mark_that_cannot_be_read_is_one_without_success() {
        let (_root, databases) = site();
        begun(&databases);
        let state = databases[0].state_dir().join(NAME);
        let all_undone = [Some(Before::Unknown), Some(Before::Nothing), Some(Before::Replica)];
        for text in ["", "{", "{\"run\":7,\"succeeded\":true}", "null"] {
            std::fs::write(&state, text).unwrap();
            assert_eq!(all(&databases), all_undone, "{text}");
        }
        std::fs::remove_file(&state).unwrap();
        std::os::unix::fs::symlink("/dev/null", &state).unwrap();
        assert_eq!(all(&databases), all_undone, "no regular file");
        remove(&databases).unwrap();
        assert_eq!(all(&databases), [None; 3]);
    }
}

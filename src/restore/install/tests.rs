//! Installation cut off after every step, on real files.

use super::*;
use std::fs;

struct Site {
    _dir: tempfile::TempDir,
    db: DbPath,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        Site { _dir: dir, db }
    }

    fn put(&self, path: impl AsRef<Path>, text: &str) {
        fs::write(path, text).unwrap();
    }

    /// The files that were replaced, wherever they are kept.
    fn kept(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for place in fs::read_dir(self.db.state_dir()).into_iter().flatten() {
            for file in fs::read_dir(place.unwrap().path()).unwrap().map(|entry| entry.unwrap()) {
                let text = fs::read_to_string(file.path()).unwrap();
                files.push((file.file_name().into_string().unwrap(), text));
            }
        }
        files.sort();
        files
    }

    /// Every file in the directory with its content.
    fn files(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(self.db.directory())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_file())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }
}

fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
}

/// The real files go through a whole installation, cut off after each step and recovered.
#[test]
fn cut_off_after_each_step() {
    for previous in [Previous::Keep, Previous::Drop] {
        let mut cuts = 0;
        for cut in 0..20 {
            let site = Site::new();
            let db = &site.db;
            site.put(db.as_path(), "old");
            for side in db.sides() {
                site.put(side, "old side");
            }
            site.put(db.staged(), "new");
            site.put(DbPath::new(db.staged()).wal(), "of a check");
            let before: Vec<_> =
                site.files().into_iter().filter(|(name, _)| !name.contains("staged")).collect();

            let mut done = 0;
            let (dir, mut keeper) = (Dir::open(db.directory()).unwrap(), Keeper::new(previous));
            while done < cut {
                let observed = observe(db).unwrap();
                match next(observed, true) {
                    Step::Done => break,
                    step => perform(db, &dir, observed, step, FileAccess::Exclusive, &mut keeper).unwrap(),
                }
                done += 1;
            }
            let promoted = fs::read_to_string(db.as_path()).is_ok_and(|text| text == "new");
            recover(db, FileAccess::Exclusive).unwrap();
            let expected = if promoted { pairs(&[("app.db", "new")]) } else { before };
            assert_eq!(site.files(), expected, "cut after {cut}");
            if previous == Previous::Keep {
                let all = [("app.db", "old"), ("app.db-journal", "old side"), ("app.db-wal", "old side")];
                assert_eq!(site.kept(), pairs(if promoted { &all } else { &[] }), "cut after {cut}");
            }
            cuts = cuts.max(done);
        }
        assert_eq!(cuts, 9, "three sides, the database, promote, and the drop of four");
    }
}

/// What the restore brought back again, and an installation that the user asked for, leave no copy.
#[test]
fn a_file_that_is_worth_nothing_is_not_kept() {
    for (old, wal, previous, kept) in [
        ("new", "", Previous::Keep, &[][..]),
        ("new", "frames", Previous::Keep, &[("app.db", "new"), ("app.db-wal", "frames")]),
        ("old", "", Previous::Keep, &[("app.db", "old"), ("app.db-wal", "")]),
        ("old", "frames", Previous::Drop, &[]),
    ] {
        let site = Site::new();
        let db = &site.db;
        site.put(db.as_path(), old);
        site.put(db.wal(), wal);
        site.put(db.staged(), "new");
        run(db, true, FileAccess::Exclusive, previous).unwrap();
        assert_eq!(site.files(), pairs(&[("app.db", "new")]));
        assert_eq!(site.kept(), pairs(kept), "{old} {wal} {previous:?}");
    }
}

#[test]
fn orphans_and_empty_files() {
    let site = Site::new();
    let db = &site.db;
    recover(db, FileAccess::Exclusive).unwrap();
    site.put(db.as_path(), "");
    site.put(db.wal(), "stale");
    recover(db, FileAccess::Exclusive).unwrap();
    assert_eq!(site.files(), pairs(&[("app.db", "")]));

    site.put(db.staged(), "new");
    site.put(db.wal(), "stale");
    assert_eq!(run(db, true, FileAccess::Exclusive, Previous::Drop).unwrap(), 2);
    assert_eq!(site.files(), pairs(&[("app.db", "new")]));

    site.put(db.wal(), "its own");
    recover(db, FileAccess::Exclusive).unwrap();
    assert_eq!(site.files().len(), 2, "a database keeps its own side files");
}

#[test]
fn contradictions_change_nothing_and_name_the_file() {
    let site = Site::new();
    let db = &site.db;
    for path in [db.as_path().to_owned(), db.aside().as_path().to_owned(), db.staged()] {
        site.put(path, "x");
    }
    let before = site.files();
    let error = recover(db, FileAccess::Exclusive).unwrap_err();
    assert!(
        matches!(error, RestoreError::InTheWay { .. }) && error.to_string().contains("litevisor-aside"),
        "{error}"
    );
    assert_eq!(site.files(), before);
}

#[test]
fn only_regular_files_are_databases() {
    let site = Site::new();
    let db = &site.db;
    std::os::unix::fs::symlink("elsewhere", db.as_path()).unwrap();
    assert!(matches!(recover(db, FileAccess::Exclusive), Err(RestoreError::InTheWay { .. })));
    fs::remove_file(db.as_path()).unwrap();
    fs::create_dir(db.as_path()).unwrap();
    assert!(matches!(recover(db, FileAccess::Exclusive), Err(RestoreError::InTheWay { .. })));
    let nowhere = DbPath::new(site.db.directory().join("missing/app.db"));
    recover(&nowhere, FileAccess::Exclusive).unwrap();
}

/// What an app may have open stays as it is, whatever a restore has left beside it.
#[test]
fn beside_an_app_nothing_is_replaced_moved_or_removed() {
    let others = FileAccess::Shared;
    for (name, live, left) in [
        ("its first transaction", "", &["-journal"][..]),
        ("an old file that was set aside", "", &[DbPath::ASIDE]),
        ("a restore that was cut off at its side files", "old", &[".litevisor-staged", "-wal"]),
        ("a restore that was cut off", "old", &[".litevisor-staged"]),
    ] {
        let site = Site::new();
        let db = &site.db;
        site.put(db.as_path(), live);
        for suffix in left {
            site.put(format!("{}{suffix}", db.as_path().display()), suffix);
        }
        let before: Vec<_> = site.files().into_iter().filter(|(name, _)| !name.contains("staged")).collect();
        let done = recover(db, others);
        assert_eq!(done.is_err(), left.contains(&DbPath::ASIDE), "{name}: {done:?}");
        let after: Vec<_> = site.files().into_iter().filter(|(name, _)| !name.contains("staged")).collect();
        assert_eq!(after, before, "{name}");
        // And nothing verified takes its place.
        if done.is_ok() {
            site.put(db.staged(), "new");
            assert!(
                matches!(run(db, true, others, Previous::Keep), Err(RestoreError::InTheWay { .. })),
                "{name}"
            );
            assert_eq!(fs::read_to_string(db.as_path()).unwrap(), live, "{name}");
        }
    }
}

#[test]
fn beside_an_app_what_is_missing_appears() {
    let site = Site::new();
    let db = &site.db;
    site.put(db.staged(), "new");
    site.put(db.wal(), "stale");
    assert_eq!(run(db, true, FileAccess::Shared, Previous::Keep).unwrap(), 2);
    assert_eq!(site.files(), pairs(&[("app.db", "new")]));
    // The app was faster by a moment.
    site.put(db.staged(), "newer");
    assert!(matches!(
        appear(db, &Dir::open(db.directory()).unwrap(), &db.staged()),
        Err(RestoreError::InTheWay { .. })
    ));
    // A link that was not followed by its unlink.
    recover(db, FileAccess::Shared).unwrap();
    assert_eq!(site.files(), pairs(&[("app.db", "new")]));
}

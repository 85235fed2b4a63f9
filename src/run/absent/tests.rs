//! When absent databases are spoken of, and how.

use super::*;
use crate::config::{Additions, Environment, Purpose, parse};
use std::collections::HashSet;

const DATABASE: &[u8] = b"SQLite format 3\0 and so on";

fn entry(dir: &Path, more: &str) -> DirectorySettings {
    let text =
        format!("[[database]]\ndir = \"{}\"\n{more}\n[database.replica]\nurl = \"/r\"\n", dir.display());
    let read = |_: &Path| Ok(Vec::new());
    let environment = Environment { variable: &|_| None, read: &read, working_dir: Path::new("/") };
    let checked =
        parse(Some((&text, Path::new("s.toml"))), &Additions::default(), Purpose::Databases, environment);
    checked.unwrap().config.directories.remove(0)
}

fn database(path: impl Into<PathBuf>) -> Absent {
    Absent::Database { db: DbPath::new(path), replica: "file:///r".into() }
}

#[test]
fn it_is_said_early_if_something_was_found_then_always_and_ever_more_rarely() {
    let begun = Instant::now();
    let mut schedule = Schedule::new(begun);
    let mut said = Vec::new();
    for _ in 0..12 {
        let now = schedule.due();
        let (report_if, next) = schedule.take(now);
        said.push((now.duration_since(begun).as_secs(), matches!(report_if, ReportIf::Always { .. })));
        schedule = next;
    }
    let expected = [10, 30, 60, 120, 240, 480, 960, 1920, 3840, 7440, 11_040, 14_640];
    assert_eq!(said.iter().map(|(at, _)| *at).collect::<Vec<_>>(), expected);
    assert_eq!(said.iter().filter(|(_, always)| !always).count(), 1);
}

#[test]
fn every_case_says_what_is_wrong_and_what_to_do() {
    let none = Suspects { directory: true, ..Suspects::default() };
    let set = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
    let open = Suspects { open: set(&["/d/x.db"]), beside: set(&["/d/x.db", "/d/y.db"]), directory: true };
    let many: Vec<String> = (0..7).map(|n| format!("/d/{n}")).collect();
    let many = Suspects { beside: many.iter().map(PathBuf::from).collect(), ..none.clone() };
    let nowhere = Suspects::default();
    let (watched, plain) = (entry(Path::new("/d"), "watch = true"), entry(Path::new("/d"), "watch = false"));
    for (absent, app, suspects, parts, never) in [
        (
            database("/d/a.db"),
            AppKind::Managed,
            &none,
            &["no database at /d/a.db", "when the app creates it"][..],
            "Did you",
        ),
        (database("/d/a.db"), AppKind::External, &none, &["when it is created", "`path`"], "the app"),
        (
            database("/d/a.db"),
            AppKind::Managed,
            &open,
            &[
                "the app has open: /d/x.db;",
                "in that directory: /d/y.db.",
                "Did you mean one of them?",
                "`path`",
            ],
            "creates",
        ),
        (database("/d/a.db"), AppKind::External, &many, &["/d/0, /d/1, /d/2, /d/3, /d/4 and 2 more"], "/d/5"),
        (database("/d/a.db"), AppKind::Managed, &nowhere, &["the directory /d does not exist"], "Did you"),
        (
            Absent::Directory(Box::new(watched)),
            AppKind::Managed,
            &open,
            &["in /d matches \"*.db\"", "`dir` and `pattern`"],
            "watch",
        ),
        (
            Absent::Directory(Box::new(plain)),
            AppKind::Managed,
            &none,
            &["matches \"*.db\"", "`watch = true`"],
            "Did you",
        ),
    ] {
        let text = describe(&absent, app, suspects);
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        assert!(text.starts_with("NOT REPLICATED: ") && !text.contains(never), "{never:?} is in {text:?}");
    }
}

#[test]
fn sqlite_files_are_told_by_name_and_first_bytes() {
    for (name, expected) in [
        ("/d/a.db-wal", "/d/a.db"),
        ("/d/a.db-shm", "/d/a.db"),
        ("/d/a-journal", "/d/a"),
        ("/d/a.db", "/d/a.db"),
    ] {
        assert_eq!(database_of(Path::new(name)), Path::new(expected));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (name, bytes) in [
        ("found.sqlite", DATABASE),
        ("known.db", DATABASE),
        ("fresh", b"".as_slice()),
        ("fresh-wal", b"x"),
        ("notes.txt", b"plain text that is long enough"),
        (".hidden.db", DATABASE),
    ] {
        std::fs::write(path(name), bytes).unwrap();
    }
    // Neither may be opened: the first would block, the second leads elsewhere.
    nix::unistd::mkfifo(&path("pipe.db"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink(path("found.sqlite"), path("link.db")).unwrap();
    // The database itself may be there by now.
    let open = BTreeSet::from([path("known.db"), path("elsewhere.db"), path("app.db")]);
    let known = BTreeSet::from([path("known.db")]);
    let found = suspects(&database(path("app.db")), &open, &known);
    let names = |paths: &BTreeSet<PathBuf>| {
        paths
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect::<HashSet<_>>()
    };
    assert_eq!(names(&found.beside), ["found.sqlite", "fresh"].map(String::from).into());
    assert_eq!(names(&found.open), ["elsewhere.db"].map(String::from).into());
    assert!(found.directory && !suspects(&database("/nowhere/a.db"), &open, &known).directory);
}

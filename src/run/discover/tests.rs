//! Directory entries on a disk: what is found, what is refused, and what appears later.

use super::*;
use crate::config::{Additions, Environment, MOST_DEPTH, Purpose, parse};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::time::{Duration, SystemTime};

fn entry(dir: &Path) -> DirectorySettings {
    entry_with(dir, "")
}

fn entry_with(dir: &Path, keys: &str) -> DirectorySettings {
    let dir = dir.display();
    let text =
        format!("[[database]]\ndir = \"{dir}\"\nwatch = true\n{keys}\n[database.replica]\nurl = \"/r\"\n");
    let read = |_: &Path| Ok(Vec::new());
    let environment = Environment { variable: &|_| None, read: &read, working_dir: Path::new("/") };
    let checked =
        parse(Some((&text, Path::new("s.toml"))), &Additions::default(), Purpose::Databases, environment);
    checked.unwrap().config.directories.remove(0)
}

const DATABASE: &[u8] = b"SQLite format 3\0 and so on";

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn names_by_what_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let entry = entry(dir.path());
    let file = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    for name in ["a.db", "a.db-wal", ".hidden.db", "b.sqlite", "c.db.litevisor-staged"] {
        file(name, DATABASE);
    }
    file("empty.db", b"");
    file("junk.db", b"junk");
    fs::create_dir(dir.path().join("dir.db")).unwrap();
    fs::create_dir(dir.path().join(".a.db-litevisor")).unwrap();
    fs::write(DbPath::new(dir.path().join("aside.db")).aside().as_path(), DATABASE).unwrap();
    let names = Names::read(&entry);
    assert_eq!(names.databases, set(&["a.db", "aside.db"]));
    assert_eq!((names.empty, names.others), (set(&["empty.db"]), BTreeSet::from(["junk.db".into()])));
    assert_eq!(names.unfit, BTreeMap::new());
}

#[test]
fn names_that_cannot_be_replicated_are_told_once_and_hinder_nobody() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory { settings: entry(dir.path()), owners: Owners::default() };
    let long = format!("{}.db", "n".repeat(240));
    for name in
        [OsStr::new("a.db"), OsStr::new(&long), OsStr::from_bytes(b"\xff.db"), OsStr::from_bytes(b"\xff.txt")]
    {
        fs::write(dir.path().join(name), DATABASE).unwrap();
    }
    let names = |refused: &[Refused]| refused.iter().map(|one| one.db.file_name()).collect::<Vec<_>>();
    let longer = "r".repeat(300);
    let there = set(&[&longer, "b.db"]);
    let discovery = all(&directory, &Names::read(&directory.settings), &there);
    let fit: Vec<_> = discovery.databases.iter().map(|one| one.database.settings.path.file_name()).collect();
    assert_eq!(fit, ["a.db", "b.db"]);
    let unfit = [OsStr::new(&long), OsStr::new(&longer), OsStr::from_bytes(b"\xff.db")];
    assert_eq!(names(&discovery.refused), unfit);
    let known = dir.path().join("a.db");
    let mut newcomers =
        DirectoryWatch::new(&[directory], true, [known.as_path()].into_iter(), &discovery.refused);
    assert_eq!(names(&newcomers.poll().refused), [""; 0], "told at the start");
    fs::write(dir.path().join(OsStr::from_bytes(b"\xfe.db")), DATABASE).unwrap();
    assert_eq!(names(&newcomers.poll().refused), [OsStr::from_bytes(b"\xfe.db")]);
    assert_eq!(names(&newcomers.poll().refused), [""; 0]);
}

#[test]
fn newcomers_are_told_once() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("late");
    let directory = Directory { settings: entry(&dir), owners: Owners::default() };
    let known = dir.join("known.db");
    let mut newcomers = DirectoryWatch::new(&[directory], true, [known.as_path()].into_iter(), &[]);
    let mut look = || {
        let found = newcomers.poll();
        found.databases.into_iter().map(|one| one.path.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(look(), [""; 0], "there is no directory");
    fs::create_dir(&dir).unwrap();
    fs::write(&known, DATABASE).unwrap();
    fs::write(dir.join("b.db"), b"").unwrap();
    assert_eq!(look(), [""; 0]);
    // No change of the directory.
    fs::write(dir.join("b.db"), DATABASE).unwrap();
    fs::write(dir.join("a.db"), DATABASE).unwrap();
    assert_eq!(look(), ["a.db", "b.db"]);
    assert_eq!(look(), [""; 0]);
    fs::remove_file(dir.join("a.db")).unwrap();
    fs::write(dir.join("a.db"), DATABASE).unwrap();
    assert_eq!(look(), [""; 0], "its task waits for it");
    // A directory that has not changed for long is not read: its time is what tells.
    let old = SystemTime::now() - Duration::from_secs(60);
    let set_time = || fs::OpenOptions::new().read(true).open(&dir).unwrap().set_modified(old).unwrap();
    set_time();
    assert_eq!(look(), [""; 0]);
    fs::write(dir.join("c.db"), DATABASE).unwrap();
    assert_eq!(look(), ["c.db"]);
}

/// What is found below `dir`, and what is refused.
fn tree(dir: &Path, there: &[&str]) -> (Vec<String>, Vec<(String, String)>) {
    let directory = Directory { settings: entry_with(dir, "recursive = true"), owners: Owners::default() };
    let Discovery { databases, refused } = all(&directory, &Names::read(&directory.settings), &set(there));
    let below = |path: &Path| path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
    let found = databases.iter().map(|one| below(one.database.settings.path.as_path())).collect();
    (found, refused.into_iter().map(|one| (below(one.db.as_path()), one.why)).collect())
}

fn put(dir: &Path, name: impl AsRef<Path>) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, DATABASE).unwrap();
}

#[test]
fn subdirectories_are_searched_without_following_links() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    for name in
        ["a.db", "a/b.db", "a/b/c/d.db", "a/text.txt", ".hidden/e.db", "a/.f.db-litevisor/g.db", "h/.i.db"]
    {
        put(&dir, name);
    }
    put(root.path(), "outside/j.db");
    std::os::unix::fs::symlink(root.path().join("outside"), dir.join("link")).unwrap();
    std::os::unix::fs::symlink(dir.join("a"), dir.join("a/circle")).unwrap();
    std::os::unix::fs::symlink(root.path().join("outside/j.db"), dir.join("k.db")).unwrap();
    put(&dir, "file");
    let (found, refused) = tree(&dir, &["a/b.db", "l/m.db", "link/j.db", "file/n.db", "a/x/y/z.db"]);
    assert_eq!(found, ["a.db", "a/b.db", "a/b/c/d.db", "a/x/y/z.db", "l/m.db"].map(String::from));
    let told: Vec<_> =
        refused.iter().map(|(name, why)| (name.as_str(), why.rsplit(" is ").next().unwrap())).collect();
    assert_eq!(told, [("file/n.db", "no directory"), ("link/j.db", "not followed")]);
    let flat = Directory { settings: entry(&dir), owners: Owners::default() };
    assert_eq!(on_disk(&flat).databases.len(), 1);
}

/// In the replica, two databases would be mixed, or a database and litevisor's records.
#[test]
fn databases_in_directories_that_have_no_place_in_the_replica_are_refused_by_name() {
    use std::os::unix::ffi::OsStrExt;
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let deep = "d/".repeat(MOST_DEPTH);
    let names = ["owner/a.db", "setup/x/b.db", "dir.db/c.db", "fine/owner/d.db", &format!("{deep}e.db")];
    names.iter().for_each(|name| put(dir, name));
    put(dir, format!("{deep}d/f.db"));
    put(dir, Path::new(OsStr::from_bytes(b"\xff")).join("g.db"));
    let (found, refused) = tree(dir, &["owner/new.db", "h.db"]);
    assert_eq!(found, [names[4], "fine/owner/d.db", "h.db"]);
    for (name, why) in [
        ("owner/a.db", "litevisor's own records; rename it"),
        ("owner/new.db", "litevisor's own records; rename it"),
        ("setup/x/b.db", "litevisor's own records; rename it"),
        ("dir.db/c.db", "matches the pattern \"*.db\""),
        (format!("{deep}d").as_str(), "are not searched"),
        ("\u{fffd}/g.db", "is not UTF-8"),
    ] {
        assert!(
            refused.iter().any(|(refused, said)| refused == name && said.contains(why)),
            "{name}: {refused:?}"
        );
    }
    assert_eq!(refused.len(), 6, "{refused:?}");
}

#[test]
fn newcomers_in_subdirectories_are_told_once() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let directory = Directory { settings: entry_with(&dir, "recursive = true"), owners: Owners::default() };
    put(&dir, "a/known.db");
    let known = dir.join("a/known.db");
    let mut newcomers = DirectoryWatch::new(&[directory], true, [known.as_path()].into_iter(), &[]);
    let mut look = || {
        let found = newcomers.poll();
        let name = |path: &Path| path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
        let new: Vec<_> = found.databases.iter().map(|one| name(one.path.as_path())).collect();
        (new, found.refused.iter().map(|one| name(one.db.as_path())).collect::<Vec<_>>())
    };
    let new = |names: &[&str]| (names.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::new());
    assert_eq!(look(), new(&[]));
    put(&dir, "a/b/c/one.db");
    put(&dir, "two.db");
    assert_eq!(look(), new(&["a/b/c/one.db", "two.db"]));
    assert_eq!(look(), new(&[]));
    fs::rename(dir.join("a/b"), dir.join("moved")).unwrap();
    assert_eq!(look(), new(&["moved/c/one.db"]));
    fs::remove_dir_all(dir.join("moved")).unwrap();
    std::os::unix::fs::symlink(dir.join("a"), dir.join("moved")).unwrap();
    assert_eq!(look(), new(&[]));
    // Another directory under a name that was read long ago.
    let old = SystemTime::now() - Duration::from_secs(60);
    let age = |path: &Path| fs::OpenOptions::new().read(true).open(path).unwrap().set_modified(old).unwrap();
    fs::create_dir(dir.join("s")).unwrap();
    put(root.path(), "t/three.db");
    [&dir.join("s"), &root.path().join("t"), &dir].into_iter().for_each(|path| age(path));
    assert_eq!(look(), new(&[]));
    fs::remove_dir(dir.join("s")).unwrap();
    fs::rename(root.path().join("t"), dir.join("s")).unwrap();
    age(&dir);
    assert_eq!(look(), new(&["s/three.db"]));
    put(&dir, "x.db/four.db");
    assert_eq!(look(), (vec![], vec!["x.db/four.db".to_owned()]));
    assert_eq!(look(), new(&[]));
}

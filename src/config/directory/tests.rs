//! Directory entries: names, derived settings, overlaps.

use super::*;
use crate::config::{Additions, Checked, ConfigError, Environment, Purpose, parse, show};
use std::io;
use std::path::Path;

#[test]
fn globs() {
    for (pattern, yes, no) in [
        ("*.db", &["a.db", ".db", "a.b.db"][..], &["a.dbx", "a.db-wal", "db", ""][..]),
        ("*", &["", "a", "a.b"], &[]),
        (
            "t?n*t.sqlite*",
            &["tenant.sqlite", "tint.sqlite3", "tünt.sqlite"],
            &["tnant.sqlite", "tenant.sqlit"],
        ),
        ("a", &["a"], &["", "aa", "b"]),
        ("*a*b*", &["ab", "xaxbx", "aab", "abab"], &["ba", "a", "b"]),
    ] {
        let pattern = Pattern::parse(pattern).unwrap();
        for (names, expected) in [(yes, true), (no, false)] {
            for name in names {
                assert_eq!(pattern.matches(name), expected, "{pattern:?} {name}");
            }
        }
    }
    for wrong in ["a/*.db", "**", "[ab].db", "{a,b}.db"] {
        assert!(Pattern::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_no_database() {
    for name in [
        "",
        ".hidden.db",
        ".a.db-litevisor",
        "a.db-wal",
        "a.db-shm",
        "a.db-journal",
        "a.db.litevisor-staged",
        "a.db.litevisor-aside",
        "a.db.litevisor-aside-wal",
        "a/b",
        "a\0b",
        "a.tmp",
    ] {
        assert!(!is_database_name(name), "{name}");
    }
    for name in ["a.db", "a", "a b.sqlite3", "-wal.db", "..a".trim_start_matches('.')] {
        assert!(is_database_name(name), "{name}");
    }
}

fn read(text: &str) -> Result<Checked, ConfigError> {
    let read = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let env = |name: &str| (name == "KEY").then(|| "secret".into());
    let environment = Environment { variable: &env, read: &read, working_dir: Path::new("/srv") };
    parse(Some((text, Path::new("s.toml"))), &Additions::default(), Purpose::Databases, environment)
}

fn entry(keys: &str, url: &str) -> String {
    format!("[[database]]\n{keys}\n[database.replica]\nurl = \"{url}\"\n")
}

#[test]
fn each_database_gets_what_the_entry_says() {
    let text = entry("dir = \"tenants/\"\nwatch = true\nmode = \"0600\"", "s3://b/t?region=eu");
    let directories = read(&text).unwrap().config.directories;
    let [directory] = directories.as_slice() else { panic!("{directories:?}") };
    assert_eq!((directory.dir.as_path(), directory.watch), (Path::new("/srv/tenants"), true));
    assert!(directory.takes("a.db") && !directory.takes("a.sqlite") && !directory.takes("a.db-wal"));
    let one = directory.database("a.db");
    assert_eq!(one.path.as_path(), Path::new("/srv/tenants/a.db"));
    assert_eq!((one.replica.url.as_str(), one.replica.path.as_str()), ("s3://b/t/a.db", "t/a.db"));
    assert_eq!((one.replica.s3.region.as_deref(), one.mode), (Some("eu"), Some(0o600)));
    for (url, path, shown) in [
        ("s3://b", "a.db", "s3://b/a.db"),
        ("file:///r/t/", "/r/t/a.db", "file:///r/t/a.db"),
        ("backup", "/srv/backup/a.db", "file:///srv/backup/a.db"),
    ] {
        let one = read(&entry("dir = \"/t\"", url)).unwrap().config.directories[0].database("a.db");
        assert_eq!((one.replica.path.as_str(), one.replica.url.as_str()), (path, shown));
    }
}

#[test]
fn names_of_databases_below_a_directory() {
    let of = |keys: &str| read(&entry(keys, "s3://b/t")).unwrap().config.directories.remove(0);
    let (flat, deep) = (of("dir = \"/d\""), of("dir = \"/d\"\nrecursive = true"));
    for (path, in_flat, in_deep) in [
        ("/d/a.db", Some("a.db"), Some("a.db")),
        ("/d/x/a.db", None, Some("x/a.db")),
        ("/d/x/y/a.db", None, Some("x/y/a.db")),
        ("/d/.x/a.db", None, None),
        ("/d/x/.y/a.db", None, None),
        ("/d/x/a.db-wal", None, None),
        ("/e/a.db", None, None),
        ("/d/../e/a.db", None, None),
    ] {
        let path = Path::new(path);
        assert_eq!((flat.name_of(path), deep.name_of(path)), (in_flat, in_deep), "{path:?}");
    }
    assert!(!deep.takes("//a.db") && !deep.takes("../a.db") && !deep.takes("x//a.db"));
    let one = deep.database("x/y/a.db");
    assert_eq!((one.path.to_string().as_str(), one.replica.path.as_str()), ("/d/x/y/a.db", "t/x/y/a.db"));
    assert_eq!(one.replica.url, "s3://b/t/x/y/a.db");
    let long = format!("{}/a.db", "n".repeat(200)).repeat(5);
    assert!(deep.problem(Path::new(&long)).unwrap().contains("keys have room for 940"));
    assert_eq!(deep.problem(Path::new("x/owner/a.db")), None);
    assert!(deep.problem(Path::new("owner/a.db")).unwrap().contains("\"owner\""));
}

#[test]
fn what_is_shown_is_a_configuration_again() {
    let text = entry("dir = \"/t\"\npattern = \"t-?.*\"\nwatch = true\nrecursive = true", "/r");
    let config = read(&text).unwrap().config;
    let shown = show::show(&config);
    for line in
        ["dir = \"/t\"", "pattern = \"t-?.*\"", "watch = true", "recursive = true", "url = \"file:///r\""]
    {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert_eq!(read(&shown).unwrap().config.directories, config.directories);
}

#[test]
fn problems_name_the_key() {
    let tenants = entry("dir = \"/t\"", "s3://b/t");
    let after = |keys: &str, url: &str| format!("{tenants}{}", entry(keys, url));
    let deep = |keys: &str| entry("dir = \"/t\"\nrecursive = true", "s3://b/t") + &entry(keys, "s3://c/t");
    for (text, expected) in [
        (entry("dir = \"/t\"\npath = \"/a.db\"", "/r"), "database.dir cannot be given together with path"),
        (entry("path = \"/a.db\"\nwatch = true", "/r"), "database.watch belongs to dir"),
        (entry("path = \"/a.db\"\npattern = \"*\"", "/r"), "database.pattern belongs to dir"),
        (entry("path = \"/a.db\"\nrecursive = true", "/r"), "database.recursive belongs to dir"),
        (
            entry("dir = \"/t\"\npattern = \"*\"\nrecursive = true", "/r"),
            "database.pattern matches every subdirectory",
        ),
        (entry("dir = \"/t\"\nmeta_dir = \"/t\"", "/r"), "database.meta_dir is in the directory of /t"),
        (
            entry("path = \"/t/a.db\"\nmeta_dir = \"/t\"", "/r"),
            "database.meta_dir is in the directory of /t/a.db",
        ),
        (deep("path = \"/u/a.db\"\nmeta_dir = \"/t/sub\""), "database.meta_dir is in the directory of /t"),
        (entry("path = \"/t/../a.db\"\nmeta_dir = \"/m\"", "/r"), "database.meta_dir needs paths without"),
        (deep("dir = \"/t/sub\""), "database.dir overlaps with /t (line 2)"),
        (deep("path = \"/t/sub/x.db\""), "database.path overlaps with /t (line 2)"),
        (entry("dir = \"/t\"\npattern = \"a/*\"", "/r"), "database.pattern has a \"/\""),
        (entry("dir = \"/t\"\npattern = \"[a]\"", "/r"), "database.pattern knows * and ? only"),
        (entry("dir = \"/t\"", "/t"), "database.replica.url is the database's own path"),
        (entry("watch = true", "/r"), "database has no path"),
        (after("path = \"/t/x.db\"", "/r"), "database.path overlaps with /t (line 2)"),
        (after("dir = \"/t/.\"\npattern = \"*.sqlite\"", "/r"), "database.dir overlaps with /t (line 2)"),
        (after("path = \"/x.db\"", "s3://b/t/x.db"), "database.replica.url overlaps with s3://b/t (line 4)"),
        (after("path = \"/x.db\"", "s3://b/t"), "database.replica.url overlaps with s3://b/t (line 4)"),
        (after("dir = \"/u\"", "s3://b"), "database.replica.url overlaps with s3://b/t (line 4)"),
    ] {
        let told: Vec<String> = read(&text).unwrap_err().problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|line| line.contains(expected)), "{text}\n{told:#?}");
    }
    for fine in [
        after("path = \"/t/x.sqlite\"", "s3://b/x"),
        after("path = \"/t/sub/x.db\"", "s3://b/tx"),
        after("dir = \"/t/sub\"", "s3://c/t"),
        after("dir = \"/u\"", "s3://b/t?endpoint=http://h"),
        deep("path = \"/t/sub/x.sqlite\""),
        deep("path = \"/t/.hidden/x.db\""),
        deep("dir = \"/tenants\"\nmeta_dir = \"/tmeta\""),
    ] {
        assert!(read(&fine).is_ok(), "{fine}");
    }
}

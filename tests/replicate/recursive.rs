//! A directory entry with its subdirectories: databases come, go and come back at any depth, each with a
//! replica that Litestream restores.

use super::many::{LONG, Place, SLEEP, replicated, stop, sum, write};
use crate::support::asking::ask;
use crate::support::process::Process;
use crate::support::{SOON, litestream, wait_until};
use nix::sys::signal::{Signal, kill};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn config(place: &Place, keys: &str) -> String {
    format!(
        "[status]\nsocket = {:?}\n{}",
        place.path("status.sock"),
        place.as_directory(&format!("recursive = true\n{keys}"))
    )
}

/// As an app does: it makes the directories of its tenants.
fn put(place: &Place, name: &str, value: i64) {
    fs::create_dir_all(place.db(name).parent().unwrap()).unwrap();
    write(&place.db(name), value, if value % 2 == 0 { "wal" } else { "delete" });
}

fn wait_for(place: &Place, names: &[&str]) {
    wait_until("all in the replica", LONG, || names.iter().all(|name| replicated(place, name)));
}

fn kill_hard(run: &mut Process) {
    kill(run.pid(), Signal::SIGKILL).unwrap();
    run.wait(LONG);
    run.kill_tree();
}

fn databases_come_and_come_back(place: &Place) {
    let text = config(place, "");
    fs::create_dir(place.disk()).unwrap();
    fs::set_permissions(place.disk(), Permissions::from_mode(0o750)).unwrap();
    put(place, "top.db", 1);
    put(place, "a/b/c/deep.db", 2);
    let mut run = place.start(&text, "", SLEEP);
    for (name, value) in [("a/late.db", 4), ("new/x/y/late.db", 8), ("top.db", 16), ("a/b/c/deep.db", 32)] {
        put(place, name, value);
    }
    put(place, "a/.hidden/no.db", 1);
    wait_for(place, &["a/late.db", "new/x/y/late.db"]);
    let said = ask(&place.path("supervisor.toml"), &["sync"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", run.log_text());
    let rows = [("top.db", 17), ("a/b/c/deep.db", 34), ("a/late.db", 4), ("new/x/y/late.db", 8)];
    for (name, rows) in rows {
        place.assert_litestream_agrees(name, rows);
    }
    kill_hard(&mut run);
    place.wipe();
    fs::create_dir(place.disk()).unwrap();
    fs::set_permissions(place.disk(), Permissions::from_mode(0o750)).unwrap();

    let mut run = place.start(&text, "", SLEEP);
    for (name, rows) in rows {
        assert_eq!(sum(&place.db(name)), rows, "{name}");
    }
    for made in ["a", "a/b/c", "new/x/y"] {
        let meta = fs::metadata(place.db(made)).unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid()),
            (0o750, fs::metadata(place.disk()).unwrap().uid()),
            "{made}"
        );
    }
    assert!(!place.db("a/.hidden").exists());
    put(place, "a/b/c/deep.db", 100);
    assert_eq!(stop(&mut run).code, 143, "{}", run.log_text());
    place.assert_litestream_agrees("a/b/c/deep.db", 134);
    commands_know_them(place);
}

fn commands_know_them(place: &Place) {
    let file = place.path("supervisor.toml");
    let listed = ask(&file, &["list"]);
    let deep = place.db("a/b/c/deep.db");
    assert!(listed.code == 0 && listed.out.contains(deep.to_str().unwrap()), "{listed:?}");
    let verified = ask(&file, &["verify"]);
    assert!(verified.code == 0 && verified.out.contains("new/x/y/late.db"), "{verified:?}");
    place.wipe();
    let one = ask(&file, &["restore", deep.to_str().unwrap()]);
    assert_eq!((one.code, sum(&deep)), (0, 134), "{one:?}");
    assert!(!place.db("top.db").exists());
    place.wipe();
    let all = ask(&file, &["restore"]);
    assert_eq!((all.code, sum(&deep), sum(&place.db("top.db"))), (0, 134, 17), "{all:?}");
}

#[test]
fn databases_of_subdirectories_come_and_come_back_from_a_directory() {
    databases_come_and_come_back(&Place::in_directory());
}

#[test]
fn databases_of_subdirectories_come_and_come_back_from_a_bucket() {
    databases_come_and_come_back(&Place::in_s3("recursive"));
}

/// A directory that is renamed while its databases are replicated, and one that is removed.
#[test]
fn a_renamed_directory_gets_replicas_of_its_own() {
    let place = Place::in_directory();
    put(&place, "old/one.db", 2);
    put(&place, "gone/two.db", 2);
    let mut run = place.start(&config(&place, ""), "", SLEEP);
    wait_for(&place, &["old/one.db", "gone/two.db"]);
    fs::rename(place.db("old"), place.db("new")).unwrap();
    fs::remove_dir_all(place.db("gone")).unwrap();
    wait_for(&place, &["new/one.db"]);
    put(&place, "new/one.db", 4);
    // Under the name that it had.
    put(&place, "old/one.db", 10);
    let ended = stop(&mut run);
    assert_eq!(ended.code, 143, "{}", run.log_text());
    for (name, rows) in [("new/one.db", 6), ("gone/two.db", 2)] {
        place.assert_litestream_agrees(name, rows);
    }
    let newest = place.path("newest.db");
    litestream::restore(&place.replica("old/one.db"), &newest).unwrap();
    assert_eq!(sum(&newest), 10, "{}", run.log_text());
}

/// What cannot be replicated is named, at the start and while the app runs; the others are replicated.
#[test]
fn what_has_no_place_in_the_replica_is_refused_by_name() {
    let place = Place::in_s3("recursive-names");
    put(&place, "fine/one.db", 1);
    put(&place, "owner/two.db", 1);
    put(&place, "outside/three.db", 1);
    fs::rename(place.db("outside"), place.path("outside")).unwrap();
    symlink(place.path("outside"), place.db("link")).unwrap();
    let mut run = place.start(&config(&place, ""), "", SLEEP);
    put(&place, "tenant.db/four.db", 1);
    put(&place, "back\\slash/five.db", 1);
    put(&place, "fine/six.db", 2);
    wait_for(&place, &["fine/one.db", "fine/six.db"]);
    for (name, why) in [
        ("owner/two.db", "litevisor's own records"),
        ("tenant.db/four.db", "matches the pattern"),
        ("back\\slash/five.db", "object stores do not keep"),
    ] {
        let path = place.db(name).display().to_string().replace('\\', "");
        run.wait_for_log(name, SOON, |line| {
            line.contains("NOT REPLICATED") && line.contains(why) && line.replace('\\', "").contains(&path)
        });
    }
    let log = run.log_text();
    assert!(log.contains("link is a symbolic link: it is not followed"), "{log}");
    assert_eq!(stop(&mut run).code, 74, "{}", run.log_text());
    for name in ["owner/two.db", "tenant.db/four.db", "link/three.db"] {
        assert_eq!(place.replica(name).objects(), Default::default(), "{name}");
    }
    place.assert_litestream_agrees("fine/six.db", 2);
}

/// What has such a name in the bucket and is no database makes no directory, and hinders none.
#[test]
fn a_bucket_with_other_things_in_it() {
    let place = Place::in_directory();
    put(&place, "a/one.db", 3);
    let mut run = place.start(&config(&place, ""), "", SLEEP);
    wait_for(&place, &["a/one.db"]);
    assert_eq!(stop(&mut run).code, 143, "{}", run.log_text());
    let bucket = place.path("bucket");
    for other in ["notes/2024/empty.db", "plain/ltx/0", ".hidden/two.db/ltx/0", "owner/x.db/ltx/0"] {
        fs::create_dir_all(bucket.join(other)).unwrap();
    }
    fs::write(bucket.join("notes/readme.txt"), "text").unwrap();
    place.wipe();
    let mut run = place.start(&config(&place, ""), "", SLEEP);
    let top: Vec<_> = fs::read_dir(place.disk()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((top, sum(&place.db("a/one.db"))), (vec!["a".into()], 3), "{}", run.log_text());
    assert_eq!(stop(&mut run).code, 143, "{}", run.log_text());
    // A file where a directory was.
    place.wipe();
    fs::create_dir(place.disk()).unwrap();
    fs::write(place.db("a"), "text").unwrap();
    let mut run = place.start(&config(&place, ""), "", SLEEP);
    let told = run.log_text();
    assert!(told.contains("a/one.db") && told.contains("a is no directory"), "{told}");
    assert_eq!(stop(&mut run).code, 74, "{}", run.log_text());
    assert_eq!(fs::read(Path::new(&place.db("a"))).unwrap(), b"text");
    place.assert_litestream_agrees("a/one.db", 3);
}

//! A directory entry with its subdirectories, which belong to the app's user.

use super::led_astray::link;
use super::place::{APP, Place, mode, owner, sql_app, stop};
use crate::support::{SOON, wait_until};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn tenants() -> Option<Place> {
    let mut place = Place::new()?;
    place.name = ".";
    place.database = "recursive = true\n".into();
    Some(place)
}

fn live_sql(place: &Place, db: &Path, sql: &str) -> String {
    let (ended, log) = place.live(&["python3", "-c", sql_app(), db.to_str().unwrap(), sql]);
    assert_eq!(ended.code, 0, "{log}");
    log
}

#[test]
fn a_subdirectory_that_a_restore_makes_is_the_apps() {
    let Some(place) = tenants() else { return };
    let db = place.make("a/b").join("app.db");
    live_sql(&place, &db, "create table t(x); insert into t values (1)");
    place.wipe();
    live_sql(&place, &db, "insert into t values (2)");
    for made in ["a", "a/b", "a/b/app.db", "a/b/.app.db-litevisor"] {
        assert_eq!(owner(&place.data(made)), APP, "{made}");
    }
}

/// What is in root's `meta_dir` is root's, and of no use to the app's user.
#[test]
fn a_meta_dir_of_roots_is_out_of_the_apps_reach() {
    let Some(mut place) = tenants() else { return };
    let meta = place.path("meta");
    place.database = format!("recursive = true\nmeta_dir = {meta:?}\n");
    let db = place.make("sub").join("app.db");
    live_sql(&place, &db, "create table t(x); insert into t values (1)");
    let state = meta.join(place.data("sub").strip_prefix("/").unwrap()).join(".app.db-litevisor");
    let mut path = state.join("state.json");
    while path != place.path("") && path.starts_with(&meta) {
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o077), (0, 0), "{}", path.display());
        path.pop();
    }
    let beside: Vec<_> =
        fs::read_dir(place.data("sub")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(beside.iter().all(|name| name.to_string_lossy().starts_with("app.db")), "{beside:?}");
    let log = live_sql(&place, &db, "insert into t values (2)");
    assert!(log.contains("it continues the replica"), "{log}");
    // Another user could put something where root works next.
    mode(&meta, 0o777);
    let (ended, log) = place.live(&["true"]);
    assert!(ended.code == 78 && log.contains("chmod go-w"), "{log}");
}

#[test]
fn a_subdirectory_exchanged_for_a_link() {
    for target in ["service", "secrets"] {
        for wiped in [false, true] {
            let Some(place) = tenants() else { return };
            let db = place.make("sub").join("app.db");
            live_sql(&place, &db, "create table t(x); insert into t values (1)");
            if wiped {
                place.wipe();
            } else {
                fs::remove_dir_all(place.data("sub")).unwrap();
            }
            link(&place.outside(target), &place.data("sub"));
            let before = place.look_outside();
            let (ended, log) = place.live(&["true"]);
            assert!(place.look_outside() == before, "something outside has changed\n{log}");
            place.assert_nothing_leaked();
            assert_eq!(ended.code, 74, "{log}");
            assert!(log.contains("sub/app.db") && log.contains("sub is a symbolic link"), "{log}");
        }
    }
}

#[test]
fn a_subdirectory_exchanged_for_a_link_while_it_is_searched() {
    let Some(place) = tenants() else { return };
    let db = place.make("sub").join("app.db");
    live_sql(&place, &db, "create table t(x); insert into t values (1)");
    let before = place.look_outside();
    let mut run = place.run(&["sleep", "60"]);
    run.wait_for_log("replication", SOON, |line| line.contains("replicating"));
    fs::rename(place.data("sub"), place.data("was")).unwrap();
    for target in ["service", "secrets"] {
        let _ = fs::remove_file(place.data("sub"));
        link(&place.outside(target), &place.data("sub"));
        let other = format!("{target}-link");
        link(&place.outside(target), &place.data(&other));
        run.wait_for_log("a word about it", SOON, |line| {
            line.contains(&format!("{other} is a symbolic link"))
        });
    }
    wait_until("the renamed one", SOON, || place.path("bucket/was/app.db").exists());
    let ended = stop(&mut run);
    let log = run.log_text();
    assert!(place.look_outside() == before, "something outside has changed\n{log}");
    place.assert_nothing_leaked();
    assert_ne!(ended.code, 70, "{log}");
    assert!(
        !place.path("bucket/service-link").exists() && !place.path("bucket/secrets-link").exists(),
        "{log}"
    );
}

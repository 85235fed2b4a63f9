//! A directory entry with its subdirectories, which belong to the app's user.

use super::led_astray::link;
use super::place::{APP, Place, owner, sql_app, stop};
use crate::support::{SOON, wait_until};
use std::fs;
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
        run.wait_for_log("a word about it", SOON, |line| line.contains(&format!("{other} is a symbolic link")));
    }
    wait_until("the renamed one", SOON, || place.path("bucket/was/app.db").exists());
    let ended = stop(&mut run);
    let log = run.log_text();
    assert!(place.look_outside() == before, "something outside has changed\n{log}");
    place.assert_nothing_leaked();
    assert_ne!(ended.code, 70, "{log}");
    assert!(!place.path("bucket/service-link").exists() && !place.path("bucket/secrets-link").exists(), "{log}");
}

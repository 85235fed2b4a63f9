//! One way each to lead root out of the data directory, or to make it wait there.

use super::place::{APP, Place, SEGMENT, stop};
use crate::support::SOON;
use nix::sys::stat::Mode;
use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::path::Path;

/// Made by the app's user.
pub fn link(target: &Path, at: &Path) {
    symlink(target, at).unwrap();
    lchown(at, Some(APP), Some(APP)).unwrap();
}

pub fn fifo(at: &Path) {
    nix::unistd::mkfifo(at, Mode::from_bits_truncate(0o666)).unwrap();
    lchown(at, Some(APP), Some(APP)).unwrap();
}

/// Two lives: something is put in the way between them, the app goes on, and nothing outside has changed.
fn between_two_lives(wiped: bool, put: impl Fn(&Place)) {
    let Some(place) = Place::new() else { return };
    place.make_history();
    if wiped {
        place.wipe();
    }
    put(&place);
    let before = place.look_outside();
    let (ended, log) = place.live_sql("insert into t values (2)");
    assert!(place.look_outside() == before, "something outside has changed\n{log}");
    place.assert_nothing_leaked();
    assert_eq!(ended.code, 0, "{log}");
}

#[test]
fn a_link_in_place_of_litestreams_directory() {
    for (link_at, target) in [("", "litestream"), ("/ltx", "litestream/ltx"), ("/ltx/0", "litestream/ltx/0")]
    {
        between_two_lives(false, |place| {
            let at = place.data(&format!(".app.db-litestream{link_at}"));
            if !link_at.is_empty() {
                place.make(".app.db-litestream");
            }
            if link_at == "/ltx/0" {
                place.make(".app.db-litestream/ltx");
            }
            link(&place.outside(target), &at);
        });
    }
}

#[test]
fn a_link_in_place_of_the_spill_directory() {
    between_two_lives(false, |place| {
        link(&place.outside("tmp"), &place.make(".app.db-litevisor").join("spill"));
    });
}

#[test]
fn a_link_in_place_of_the_state_directory() {
    between_two_lives(true, |place| link(&place.outside("tmp"), &place.data(".app.db-litevisor")));
}

/// A restore makes its files anew, whatever has their names.
#[test]
fn links_in_place_of_what_a_restore_makes() {
    between_two_lives(true, |place| {
        link(&place.outside("secret"), &place.data("app.db.litevisor-staged"));
        link(&place.outside("secret"), &place.data("app.db.litevisor-staged-wal"));
        link(&place.outside("service/app.db"), &place.data("app.db.litevisor-aside"));
        link(&place.outside("secret"), &place.data("app.db-wal"));
    });
}

#[test]
fn what_is_no_file_in_place_of_the_record_and_the_marks() {
    type Put = fn(&Place, &Path);
    let ways: [Put; 4] = [
        |_, at| fifo(at),
        |_, at| link(Path::new("/dev/zero"), at),
        |_, at| fs::create_dir(at).unwrap(),
        |place, at| link(&place.outside("secret"), at),
    ];
    for put in ways {
        for name in ["state.json", "restored-on-purpose.json", "restored-from-0.3.json", "spill"] {
            between_two_lives(false, |place| {
                let at = place.make(".app.db-litevisor").join(name);
                let _ = fs::remove_file(&at);
                put(place, &at);
            });
        }
    }
}

/// It counts as the mark of a setup that did not succeed: the replica's state comes back.
#[test]
fn what_is_no_file_in_place_of_the_mark_of_a_setup() {
    type Put = fn(&Place, &Path);
    let ways: [Put; 3] = [
        |_, at| fifo(at),
        |_, at| link(Path::new("/dev/zero"), at),
        |place, at| link(&place.outside("secret"), at),
    ];
    for put in ways {
        between_two_lives(false, |place| put(place, &place.make(".app.db-litevisor").join("setup.json")));
    }
}

#[test]
fn a_record_without_an_end() {
    between_two_lives(false, |place| {
        let at = place.make(".app.db-litevisor").join("state.json");
        fs::File::create(at).unwrap().set_len(1 << 40).unwrap();
    });
}

/// In place of a segment that waits, and of one that is being written.
#[test]
fn what_is_no_file_in_the_spill_directory() {
    between_two_lives(false, |place| {
        let spill = place.make(".app.db-litevisor/spill");
        fifo(&spill.join(SEGMENT));
        link(&place.outside("secret"), &spill.join(format!("{SEGMENT}.tmp")));
        fs::write(spill.join("notes.tmp"), "the app's").unwrap();
    });
}

#[test]
fn a_directory_in_place_of_the_staged_file() {
    between_two_lives(true, |place| {
        for name in ["app.db.litevisor-staged", "app.db.litevisor-aside", "app.db.litevisor-staged-wal"] {
            fs::write(place.make(name).join("full"), "").unwrap();
        }
    });
}

/// Another service's database is not replaced, and not uploaded.
#[test]
fn the_directory_above_exchanged_for_a_link() {
    for target in ["service", "secrets"] {
        for wiped in [false, true] {
            let Some(mut place) = Place::new() else { return };
            place.name = "sub/app.db";
            place.make("sub");
            place.make_history();
            if wiped {
                place.wipe();
            }
            let _ = fs::rename(place.data("sub"), place.data("was"));
            link(&place.outside(target), &place.data("sub"));
            let before = place.look_outside();
            let (ended, log) = place.live(&["true"]);
            assert!(place.look_outside() == before, "something outside has changed\n{log}");
            place.assert_nothing_leaked();
            assert_eq!(ended.code, 78, "{log}");
            assert!(log.contains("sub is a symbolic link"), "{log}");
        }
    }
}

#[test]
fn a_directory_entry_exchanged_for_a_link() {
    let Some(mut place) = Place::new() else { return };
    place.name = "tenants";
    link(&place.outside("secrets"), &place.data("tenants"));
    let before = place.look_outside();
    let (_, log) = place.live(&["true"]);
    assert!(place.look_outside() == before, "something outside has changed\n{log}");
    place.assert_nothing_leaked();
    assert!(log.contains("tenants is a symbolic link"), "{log}");
    // And a database in it.
    fs::remove_file(place.data("tenants")).unwrap();
    link(&place.outside("secrets/vault.db"), &place.make("tenants").join("vault.db"));
    let (ended, log) = place.live(&["true"]);
    assert!(place.look_outside() == before, "something outside has changed\n{log}");
    place.assert_nothing_leaked();
    assert_eq!(ended.code, 0, "{log}");
}

#[test]
fn a_database_exchanged_while_it_is_replicated() {
    let Some(place) = Place::new() else { return };
    place.make_history();
    let before = place.look_outside();
    for target in ["secrets/app.db", "service/app.db"] {
        let mut run = place.run(&["sleep", "60"]);
        run.wait_for_log("replication", SOON, |line| line.contains("replicating"));
        for side in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(place.data(&format!("app.db{side}")));
        }
        link(&place.outside(target), &place.data("app.db"));
        run.wait_for_log("a word about it", SOON, |line| {
            line.contains("begins anew") || line.contains("not replicated")
        });
        let ended = stop(&mut run);
        let log = run.log_text();
        assert!(place.look_outside() == before, "something outside has changed\n{log}");
        place.assert_nothing_leaked();
        assert_ne!(ended.code, 70, "{log}");
        place.wipe();
    }
}

/// What root itself has set up goes on working.
#[test]
fn a_link_that_is_roots_leads_to_the_data_directory() {
    let Some(mut place) = Place::new() else { return };
    fs::create_dir(place.path("mnt")).unwrap();
    fs::rename(place.path("data"), place.path("mnt/disk")).unwrap();
    symlink("mnt/../mnt/disk", place.path("data")).unwrap();
    place.make_history();
    assert_eq!(super::place::owner(&place.db()), APP);
    // One that the app's user has made does not.
    place.name = "sub/app.db";
    place.make("elsewhere");
    link(&place.data("elsewhere"), &place.data("sub"));
    let (ended, log) = place.live(&["true"]);
    assert_eq!(ended.code, 78, "{log}");
}

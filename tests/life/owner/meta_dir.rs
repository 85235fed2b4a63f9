//! `meta_dir`: the data directory has the app's files only, the record is honoured, and two litevisors with
//! different directories exclude each other.

use super::place::{assert_unharmed, litevisor, running, said, site, with_socket};
use crate::support::gate::{Gate, Mood};
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, wait_until};
use std::path::Path;

fn with_meta(site: Site, name: &str) -> Site {
    let key = format!("meta_dir = {:?}", site.path(name));
    site.with_database_settings(&key)
}

fn assert_disk_is_the_apps(site: &Site, log: &str) {
    let names = site.files_on_disk();
    assert!(
        names.iter().all(|name| name.starts_with("bank.db") && !name.contains("litevisor")),
        "{names:?}\n{log}"
    );
}

#[test]
fn lives_leave_nothing_in_the_data_directory_and_continue_without_a_restore() {
    let site = with_meta(site(), "meta/of/all");
    site.make_history(20);
    assert_disk_is_the_apps(&site, "the first life");
    let record = site
        .path("meta/of/all")
        .join(site.disk().strip_prefix("/").unwrap())
        .join(".bank.db-litevisor/state.json");
    assert!(record.exists());
    let mut run = running(&site);
    assert_disk_is_the_apps(&site, &run.log_text());
    let log = run.log_text();
    assert!(log.contains("it continues the replica") && !log.contains("restored"), "{log}");
    run.kill_everything();
    let mut run = running(&site);
    assert!(run.log_text().contains("it continues the replica"), "{}", run.log_text());
    assert_unharmed(&site, &mut run, "after a kill");
    // Another disk, with the same `meta_dir`: its record says nothing of that file.
    site.wipe();
    let mut run = running(&site);
    assert!(run.log_text().contains("\"restored\""), "{}", run.log_text());
    assert_unharmed(&site, &mut run, "after the disk was lost");
    assert_disk_is_the_apps(&site, &run.log_text());
    // Without the record a start restores, and says why.
    std::fs::remove_dir_all(site.path("meta")).unwrap();
    let mut run = running(&site);
    let log = run.log_text();
    assert!(log.contains("`meta_dir` has no record of this database"), "{log}");
    assert_unharmed(&site, &mut run, "without the record");
}

#[test]
fn a_meta_dir_that_cannot_be_made_is_no_start() {
    let site = with_meta(site(), "file/meta");
    std::fs::write(site.path("file"), "").unwrap();
    let (code, told) = said(&litevisor(&site.config(), &["run", "true"]));
    assert!(code == 78 && told.contains("file/meta"), "{code} {told}");
}

/// As a second deployment would run: with a socket and a `meta_dir` of its own, or none.
fn second(site: &Site, meta_dir: Option<&str>) -> (i32, String) {
    let text = std::fs::read_to_string(site.config()).unwrap().replace("litevisor.sock", "second.sock");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("meta_dir")).collect();
    let path = format!("path = {:?}", site.db());
    let meta_dir = meta_dir.map(|name| format!("\nmeta_dir = {:?}", site.path(name))).unwrap_or_default();
    let config = site.path("second.toml");
    std::fs::write(&config, lines.join("\n").replace(&path, &format!("{path}{meta_dir}"))).unwrap();
    let marker = site.path("marker");
    let said = said(&litevisor(&config, &["run", "touch", marker.to_str().unwrap()]));
    assert!(!marker.exists(), "an app was started: {said:?}");
    said
}

fn assert_refused((code, told): (i32, String), pid: i32) {
    assert!(
        code == 78 && told.contains("Stop that one first") && told.contains(&format!("PID {pid}")),
        "{code} {told}"
    );
}

#[test]
fn two_meta_dirs_exclude_each_other() {
    for (first, others) in [(Some("one"), [Some("two"), None]), (None, [Some("two"), Some("one")])] {
        let site = match first {
            Some(name) => with_meta(site(), name),
            None => site(),
        };
        let mut run = running(&site);
        for other in others {
            assert_refused(second(&site, other), run.pid().as_raw());
        }
        assert_unharmed(&site, &mut run, "beside refused ones");
    }
}

/// While there is no database whose lock could show the owner.
#[test]
fn two_meta_dirs_exclude_each_other_during_a_restore() {
    let mut site = with_meta(with_socket(Site::in_s3("owner-meta")), "one");
    site.make_history(200);
    site.wipe();
    std::fs::remove_dir_all(site.path("one")).unwrap();
    let gate = Gate::before(&Seaweed::shared().endpoint(), Mood::Dripping(2_000));
    site.replica = site.replica.at(&gate.endpoint());
    let mut run = site.run(&["sleep", "600"]);
    let staged = site.disk().join("bank.db.litevisor-staged");
    wait_until("the restore", SOON, || Path::new(&staged).exists());
    gate.set(Mood::Refusing);
    for other in [Some("two"), None] {
        let (code, told) = second(&site, other);
        assert!(code == 78 && told.contains("it restores the database now"), "{code} {told}");
        assert!(staged.exists() && run.is_running(), "it was over too soon: {}", run.log_text());
    }
    gate.set(Mood::Open);
    run.wait_for_app();
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    site.assert_disk_holds_everything("after the restore");
}

//! After a kill the disk is kept, but not as it was: what the replica holds must stay its newest state
//! whatever happened to the local file, and what an app wrote in the meantime is its own newest state.

use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use std::process::Command;

/// Killed with everything in the replica, the last part of it only in the WAL here. Also a copy of the
/// database from before: the WAL does not have all pages that have changed since.
fn killed_site() -> (Site, Vec<u8>) {
    let site = Site::in_directory();
    site.make_history(20);
    let earlier = std::fs::read(site.db()).unwrap();
    site.make_history(200);
    let app = format!("{}; sleep 60", site.bank_line(&["--rate", "max", "--count", "300"]));
    let mut run = site.run(&["sh", "-c", &app]);
    wait_until("all transfers", SOON, || site.acked() >= 520);
    wait_until("all of them in the replica", SOON, || site.judge_replica(None).is_ok());
    run.kill_everything();
    assert_ne!(
        std::fs::metadata(wal(&site)).unwrap().len(),
        0,
        "nothing is in the WAL: the test tests nothing"
    );
    (site, earlier)
}

fn wal(site: &Site) -> std::path::PathBuf {
    site.disk().join("bank.db-wal")
}

fn remove_sides(site: &Site) {
    for side in ["bank.db-wal", "bank.db-shm"] {
        let _ = std::fs::remove_file(site.disk().join(side));
    }
}

/// The next start puts nothing older on top.
fn goes_on(site: &Site) {
    let tip = site.replica.newest_txid();
    let mut run = site.run_bank(&["--count", "1"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    site.assert_replica_holds_everything(&format!("after the next run:\n{}", run.log_text()));
    site.assert_disk_holds_everything("after the next run");
    assert!(site.replica.newest_txid() > tip);
}

#[test]
fn a_database_whose_wal_was_removed_is_restored() {
    let (site, _) = killed_site();
    remove_sides(&site);
    goes_on(&site);
}

#[test]
fn a_database_whose_wal_was_cut_short_is_restored() {
    let (site, _) = killed_site();
    let bytes = std::fs::read(wal(&site)).unwrap();
    std::fs::write(wal(&site), &bytes[..bytes.len() / 2]).unwrap();
    goes_on(&site);
}

#[test]
fn an_older_copy_of_the_database_is_replaced() {
    let (site, earlier) = killed_site();
    remove_sides(&site);
    std::fs::remove_file(site.db()).unwrap();
    std::fs::write(site.db(), earlier).unwrap();
    goes_on(&site);
}

#[test]
fn a_foreign_database_is_replaced() {
    let (site, _) = killed_site();
    remove_sides(&site);
    std::fs::remove_file(site.db()).unwrap();
    bank::seed(&site.db());
    goes_on(&site);
    assert!(!bank::schema(&site.db()).contains("image_default"));
}

/// SQLite itself removed the WAL, when the app that nobody replicated was the last to close the database.
#[test]
fn what_was_written_while_nobody_replicated_is_kept() {
    let (site, _) = killed_site();
    let words = site.bank_words(&["--rate", "max", "--count", "50"]);
    assert!(Command::new(&words[0]).args(&words[1..]).status().unwrap().success());
    assert!(!wal(&site).exists(), "the WAL is still there: the test tests nothing");
    goes_on(&site);
}

/// Overwritten in the same file, or replaced by another one, while the WAL of the killed run is left: SQLite
/// would apply that WAL to a database that it does not belong to.
#[test]
fn a_database_that_was_overwritten_beside_its_wal_is_restored() {
    for renamed in [false, true] {
        let (site, earlier) = killed_site();
        let other = site.path("other.db");
        std::fs::write(&other, earlier).unwrap();
        if renamed {
            std::fs::rename(&other, site.db()).unwrap();
        } else {
            std::fs::write(site.db(), std::fs::read(&other).unwrap()).unwrap();
        }
        let tip = site.replica.newest_txid();
        let mut run = site.run_bank(&["--count", "1"]);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        assert!(run.log_text().contains("the -wal of a killed run was left beside it"), "{}", run.log_text());
        site.assert_replica_holds_everything("after the next run");
        site.assert_disk_holds_everything("after the next run");
        assert!(site.replica.newest_txid() > tip);
    }
}

/// Nothing was done to the files: they are kept, also when the app's last commits had not been uploaded.
#[test]
fn a_database_that_was_killed_while_it_was_written_is_kept() {
    let site = Site::in_directory();
    site.make_history(50);
    let app = format!("{}; sleep 60", site.bank_line(&["--rate", "max", "--count", "100000"]));
    let mut run = site.run(&["sh", "-c", &app]);
    wait_until("transfers", SOON, || site.acked() >= 1500);
    run.kill_everything();
    let mut run = site.run_bank(&["--count", "1"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    assert!(run.log_text().contains("it continues the replica"), "{}", run.log_text());
    site.assert_replica_holds_everything("after the next run");
}

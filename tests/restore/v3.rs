//! Coming from Litestream 0.3.13: the entrypoint is changed, nothing else. Its replica is restored, the new
//! one grows beside it in the same root, nothing of the old one is touched, and Litestream 0.5.17 reads the
//! result.

use crate::support::disk::Tmpfs;
use crate::support::litestream::v3;
use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::{SOON, bank, litevisor, wait_until};
use std::collections::BTreeMap;
use std::process::Command;

/// The bank without litevisor, replicated by Litestream 0.3 while it runs.
fn old_life(site: &Site, transfers: u64) {
    let old = v3::replicate(&site.replica, &site.db());
    let words = site.bank_words(&["--rate", "200", "--count", &transfers.to_string()]);
    let mut app = Command::new(&words[0]);
    app.args(&words[1..]);
    let mut app = Process::start(app);
    assert_eq!(app.wait(SOON).code, 0, "{}", app.log_text());
    // It looks at the database once a second, and not at its end.
    let out = site.path("judged-by-v3.db");
    wait_until("everything in Litestream 0.3's replica", SOON, || {
        v3::restore(&site.replica, &site.db(), &out)
            .and_then(|()| bank::check(&out, &site.ack(), None))
            .is_ok()
    });
    old.stop();
}

fn generations(site: &Site) -> BTreeMap<String, String> {
    site.replica.objects().into_iter().filter(|(key, _)| key.starts_with("generations/")).collect()
}

/// Restores with litevisor and with 0.3.13 itself: the same file to the last byte.
fn agree(site: &Site) {
    let (ours, theirs) = (site.path("ours.db"), site.path("theirs.db"));
    let output = litevisor::restore(&site.config(), &site.db(), &ours);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    v3::restore(&site.replica, &site.db(), &theirs).unwrap();
    assert!(std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap(), "not what 0.3.13 restores");
    bank::check(&ours, &site.ack(), None).unwrap();
    std::fs::remove_file(ours).unwrap();
    std::fs::remove_file(theirs).unwrap();
}

fn new_life(site: &Site, transfers: u64) -> String {
    let mut run = site.run_bank(&["--rate", "200", "--count", &transfers.to_string()]);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 0, "{}", run.log_text());
    site.assert_disk_holds_everything("after a life under litevisor");
    // 0.5.17 chooses the newer format by the same rule.
    site.assert_replica_holds_everything(&format!("after a life under litevisor:\n{}", run.log_text()));
    run.log_text()
}

#[test]
fn the_entrypoint_is_changed() {
    for site in [Site::in_directory(), Site::in_s3("switch-from-v3")] {
        old_life(&site, 150);
        // Once more on the same disk: the WAL starts over, the generation goes on.
        old_life(&site, 50);
        agree(&site);
        let before = generations(&site);
        site.wipe();
        let log = new_life(&site, 60);
        assert!(log.contains("restored from Litestream 0.3's format"), "{log}");
        assert_eq!(generations(&site), before, "the old replica is not touched");
        assert!(site.replica.ltx_files().contains_key(&(9, 1, 1)), "{:?}", site.replica.ltx_files());
        site.wipe();
        let log = new_life(&site, 40);
        assert!(!log.contains("Litestream 0.3"), "the newer files are used: {log}");
        assert_eq!(site.acked(), 300);
        assert_eq!(generations(&site), before);
    }
}

/// 0.5's files are there, older than 0.3's (somebody went back and came again): the new state goes on top of
/// them.
#[test]
fn newer_old_data_goes_on_top_of_the_ltx_files() {
    let site = Site::in_directory();
    site.make_history(100);
    let before = site.replica.ltx_files();
    let newest = site.replica.newest_txid();
    old_life(&site, 80);
    site.wipe();
    let log = new_life(&site, 60);
    assert!(log.contains("restored from Litestream 0.3's format"), "{log}");
    let after = site.replica.ltx_files();
    assert!(before.iter().all(|(file, content)| after.get(file) == Some(content)), "{before:?}\n{after:?}");
    assert!(
        after.keys().any(|(level, min, max)| (*level, *min, *max) == (0, newest + 1, newest + 1)),
        "{after:?}"
    );
    site.wipe();
    new_life(&site, 20);
    assert_eq!(site.acked(), 260);
}

/// A machine whose disk stays: the database is there, and Litestream 0.3's directory beside it proves what it
/// is.
#[test]
fn a_disk_that_was_replicated_by_litestream_0_3_is_kept() {
    let site = Site::in_directory();
    old_life(&site, 100);
    let words = site.bank_words(&["--rate", "200", "--count", "30"]);
    let mut app = Command::new(&words[0]);
    app.args(&words[1..]);
    let mut app = Process::start(app);
    assert_eq!(app.wait(SOON).code, 0, "{}", app.log_text());
    let log = new_life(&site, 20);
    assert!(log.contains("keeping the local file"), "{log}");
    assert_eq!(site.acked(), 150, "also what nobody had replicated");
    site.wipe();
    new_life(&site, 10);
}

/// The container is started again on its disk before anything has reached the replica in the new format.
#[test]
fn what_was_written_before_the_first_upload_is_kept() {
    let site = Site::in_directory();
    old_life(&site, 100);
    site.wipe();
    // Nothing can be written to the replica: the app goes on, and then the machine is gone.
    let full = site.path("bucket").join("ltx");
    std::fs::create_dir(&full).unwrap();
    let disk = Tmpfs::mount(&full, 4);
    let filler = disk.fill();
    let mut run = site.run_bank(&["--rate", "200", "--count", "50"]);
    site.wait_for_acks(149);
    run.kill_everything();
    std::fs::remove_file(filler).unwrap();
    drop(disk);
    let log = new_life(&site, 10);
    assert!(log.contains("keeping the local file"), "{log}");
    assert_eq!(site.acked(), 160);
}

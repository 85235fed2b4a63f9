//! Restores from a real object store that is slow or away: stopped on the way, or started without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use nix::sys::signal::Signal;
use std::time::Duration;
use support::gate::{Gate, Mood};
use support::seaweed::Seaweed;
use support::site::Site;
use support::{SOON, bank, wait_until};

/// Whenever the signal comes, the default file stays as it was.
#[test]
fn sigterm_at_any_request_of_a_restore_leaves_the_previous_file() {
    let mut site = Site::in_s3("stopped-on-the-way");
    (0..4).for_each(|_| site.make_history(50));
    site.wipe();
    let gate = Gate::before(&Seaweed::shared().endpoint(), Mood::Slow(Duration::from_millis(300)));
    site.replica = site.replica.at(&gate.endpoint());
    bank::seed(&site.db());
    let before = std::fs::read(site.db()).unwrap();
    let marker = site.path("started");
    for requests in 1..=4 {
        let seen = gate.requests();
        let mut run = site.run(&["touch", marker.to_str().unwrap()]);
        wait_until("the store to be asked", SOON, || gate.requests() >= seen + requests);
        let sent = run.signal(Signal::SIGTERM);
        let ended = run.wait(SOON);
        let took = ended.at - sent;
        assert_eq!(ended.code, 143, "after {requests} requests:\n{}", run.log_text());
        assert!(took < Duration::from_millis(1500), "after {requests} requests it took {took:?}:\n{}", run.log_text());
        assert!(!marker.exists(), "the app was started");
        assert!(std::fs::read(site.db()).unwrap() == before, "after {requests} requests the file was changed");
        assert!(!site.files_on_disk().iter().any(|name| name.contains("restore")), "{:?}", site.files_on_disk());
    }
}

/// The app runs on the default file, loudly; nothing of it is uploaded, and the next start has the history.
#[test]
fn started_without_a_restore_uploads_nothing() {
    let mut site = Site::in_s3("started-all-the-same").with_settings("[restore]\ntimeout = \"2s\"");
    site.make_history(100);
    site.wipe();
    bank::seed(&site.db());
    let (direct, default) = (site.replica.clone(), bank::dump(&site.db()));
    let held = direct.objects();
    let gate = Gate::before(&Seaweed::shared().endpoint(), Mood::Refusing);
    site.replica = direct.at(&gate.endpoint());
    let mut site = site.with_database_settings("on_restore_failure = \"start\"");
    let mut run = site.run(&["sh", "-c", &format!("touch {}; exec sleep 60", site.path("started").display())]);
    wait_until("the app to be started", SOON, || site.path("started").exists());
    assert!(run.log_text().contains("WITHOUT a restore and WITHOUT replication"), "{}", run.log_text());
    assert_eq!(bank::dump(&site.db()), default);
    // The store is back while the app runs: it is left alone all the same.
    gate.set(Mood::Open);
    run.signal(Signal::SIGTERM);
    run.wait(SOON);
    assert_eq!(direct.objects(), held, "something was uploaded");

    site.replica = direct;
    let mut run = site.run(&["true"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    site.assert_disk_holds_everything("after the next start");
}

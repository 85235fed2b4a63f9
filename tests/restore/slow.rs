//! Restores from a real object store that is slow or away, to disks that are full: in a few round trips,
//! stopped on the way, refused, or started without.

use crate::support::gate::{Gate, Mood};
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use nix::sys::signal::Signal;

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
    let mut run =
        site.run(&["sh", "-c", &format!("touch {}; exec sleep 60", site.path("started").display())]);
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

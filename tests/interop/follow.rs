//! Copies that follow a replica which Litestream writes: its files carry no checksum of the database. What both make of the same
//! replica is the same.

use crate::support::litestream::{self, Replicate};
use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use litevisor::testing::model::{DbPath, Deadline};
use litevisor::testing::restore::follow::{Followed, Follower, Way};
use litevisor::testing::restore::{OnRestoreFailure, Owners, Progress, RestoreSettings, prepare};
use litevisor::testing::store::{Scheme, Store, StoreSettings, open};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn store(site: &Site) -> Arc<dyn Store> {
    let url = site.replica.url();
    let path = url.strip_prefix("file://").unwrap().to_owned();
    open(&StoreSettings { scheme: Scheme::File, url, path, ..StoreSettings::default() }).unwrap()
}

async fn poll(follower: &mut Follower) -> Followed {
    follower.poll(None, Deadline::after(Duration::from_secs(30))).await.unwrap()
}

fn follows(way: Way) {
    let site = Site::in_directory();
    let peer = Replicate::start(&site.replica, &site.db());
    let words = site.bank_words(&["--rate", "300"]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let mut bank = Process::start(command);
    wait_until("Litestream to write", SOON, || site.replica.newest_txid() > 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = store(&site);
        let copy = DbPath::new(site.path("copy.db"));
        let (settings, owners, progress) = (RestoreSettings::default(), Owners::default(), Progress::default());
        prepare(&copy, &*store, &settings, &owners, OnRestoreFailure::Abort, &progress).await.unwrap();
        let mut follower = Follower::open(&copy, store, settings, way).await.unwrap();
        let mut files = 0;
        while files < 8 {
            let before = site.replica.newest_txid();
            let followed = poll(&mut follower).await;
            assert!(followed.position.0 >= before, "{followed:?}, and the replica had {before}");
            files += followed.files;
            wait_until("Litestream to write on", SOON, || site.replica.newest_txid() > before);
        }
        nix::sys::signal::kill(bank.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(bank.wait(SOON).code, 0, "{}", bank.log_text());
        peer.stop();
        let followed = poll(&mut follower).await;
        assert_eq!(followed.behind(), 0);
        drop(follower);
        let theirs = site.path("theirs.db");
        litestream::restore(&site.replica, &theirs).unwrap();
        assert_eq!(bank::dump(copy.as_path()), bank::dump(&theirs));
        assert_eq!(bank::dump(copy.as_path()), bank::dump(&site.db()));
        if way == Way::InPlace {
            assert!(std::fs::read(copy.as_path()).unwrap() == std::fs::read(&theirs).unwrap(), "byte by byte");
        }
    });
}

#[test]
fn a_copy_in_place_follows_what_litestream_writes() {
    follows(Way::InPlace);
}

#[test]
fn a_copy_through_sqlite_follows_what_litestream_writes() {
    follows(Way::ThroughSqlite);
}

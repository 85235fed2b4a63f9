//! Copies that follow a replica which Litestream writes: its files carry no checksum of the database. What
//! both make of the same replica is the same.

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
        let (settings, owners, progress) =
            (RestoreSettings::default(), Owners::default(), Progress::default());
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
            assert!(
                std::fs::read(copy.as_path()).unwrap() == std::fs::read(&theirs).unwrap(),
                "byte by byte"
            );
        }
    });
}

/// `litevisor follow`, stopped at several positions: what `litestream restore -txid` makes of each. At the
/// end `litestream restore -f` has the same, too.
#[test]
fn a_follower_agrees_with_litestream_at_the_same_positions() {
    let site = Site::in_directory().with_replica_settings("sync_interval = \"100ms\"");
    let mut writer = site.run_bank(&["--rate", "100"]);
    wait_until("a replica", SOON, || site.replica.newest_txid() > 1);
    let (copy, theirs, followed) = (site.path("copy.db"), site.path("theirs.db"), site.path("followed.db"));
    let peer = litestream::follow(&site.replica, &followed);
    let mut positions = Vec::new();
    while positions.len() < 5 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
        command.args(["follow", "--once", "-o"]).arg(&copy).arg(site.replica.url());
        let mut follower = Process::start(command);
        assert_eq!(follower.wait(SOON).code, 0, "{}", follower.log_text());
        let line = follower
            .wait_for_log("the position", SOON, |line| line.contains("the file has what is in the replica"));
        let txid = line.split("\"txid\":\"").nth(1).unwrap()[..16].to_owned();
        litestream::restore_at(&site.replica, &txid, &theirs).unwrap();
        assert!(bank::dump(&copy) == bank::dump(&theirs), "at {txid}");
        positions.push(txid);
        let acked = site.acked();
        site.wait_for_acks(acked + 20);
    }
    positions.dedup();
    assert_eq!(positions.len(), 5, "{positions:?}");
    assert_eq!(writer.stop().code, 0, "{}", writer.log_text());
    wait_until("litestream restore -f to have everything", SOON, || {
        followed.exists() && bank::dump(&followed) == bank::dump(&site.db())
    });
    drop(peer);
}

#[test]
fn a_copy_in_place_follows_what_litestream_writes() {
    follows(Way::InPlace);
}

#[test]
fn a_copy_through_sqlite_follows_what_litestream_writes() {
    follows(Way::ThroughSqlite);
}

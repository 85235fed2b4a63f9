//! The objects and the fence of a hand-over in a replica: Litestream restores across them and continues
//! behind them, and litevisor's own commands, retention and compaction leave them alone.

use crate::support::litestream::{self, Replicate};
use crate::support::process::Process;
use crate::support::replica::Replica;
use crate::support::seaweed::{Seaweed, block_on};
use crate::support::site::Site;
use crate::support::{SOON, bank, litevisor, wait_until};
use ::litevisor::testing::handover::{
    Claim, Client, End, Epoch, How, Instance, Positions, Reason, Release, fence,
};
use ::litevisor::testing::model::Deadline;
use ::litevisor::testing::store::{Scheme, Store, StoreSettings, open};
use nix::sys::signal::{Signal, kill};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn store_of(replica: &Replica) -> Arc<dyn Store> {
    let settings = match replica {
        Replica::Directory(path) => {
            StoreSettings::new(Scheme::File, replica.url(), String::new(), path.to_str().unwrap().to_owned())
        }
        Replica::S3 { bucket, prefix, .. } => Seaweed::shared().settings(bucket, prefix),
        other => panic!("{other:?}"),
    };
    open(&settings).unwrap()
}

/// A whole epoch, and the fence of the next one.
async fn take_over(store: Arc<dyn Store>) -> u64 {
    let client = Client::new(Arc::clone(&store));
    let instance = Instance { id: "a".into(), host: "h".into(), revision: None };
    for number in 1..=2 {
        let epoch = Epoch::new(number).unwrap();
        let (instance, reason) = (instance.clone(), Reason::Start);
        let claim = Claim {
            epoch,
            instance,
            reason,
            failed: None,
            positions: Positions::new(),
            gated: true,
            heartbeat: None,
            version: "1".into(),
        };
        assert!(client.claim(&claim, soon()).await.unwrap());
        for beat in 1..=3 {
            client.beat(epoch, beat, soon()).await.unwrap();
        }
    }
    let epoch = Epoch::new(1).unwrap();
    let release = Release { epoch, instance, how: How::Stopped, end: End::Unproven, from: None, time_ms: 0 };
    client.release(&release, soon()).await.unwrap();
    let first = fence(&*store, 0xfeed, soon()).await.unwrap().unwrap();
    // Another one that took over by force.
    let second = fence(&*store, 0xbeef, soon()).await.unwrap().unwrap();
    assert_eq!(second.txid.0, first.txid.0 + 1);
    assert!(second.checksum.is_some() && second.checksum == first.checksum, "{first:?} {second:?}");
    second.txid.0
}

/// Two claims, a release, and the last two heartbeats of each epoch.
const OBJECTS: usize = 7;

fn owner_objects(site: &Site) -> usize {
    block_on(async { store_of(&site.replica).list("owner/", soon()).await.unwrap().len() })
}

fn succeeds(site: &Site, command: &str) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    let output = program.arg(command).arg(site.db()).arg("--config").arg(site.config()).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "litevisor {command}: {said}");
    said
}

fn everybody_reads_across_a_fence(site: &Site) {
    site.make_history(200);
    let fenced = block_on(take_over(store_of(&site.replica)));
    site.assert_replica_holds_everything("litestream restore across two fences");
    let listed = litestream::ltx(&site.replica).unwrap();
    assert!(listed.contains(&format!("{fenced:016x}")), "litestream ltx: {listed}");
    succeeds(site, "list");
    succeeds(site, "verify");
    let (ours, theirs) = (site.path("ours.db"), site.path("judged.db"));
    let done = litevisor::restore(&site.config(), &site.db(), &ours);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(bank::dump(&ours), bank::dump(&theirs));
    // The one that was fenced comes back with its disk, and another one comes without.
    site.make_history(100);
    assert_eq!(owner_objects(site), OBJECTS, "a run leaves the owner objects alone");
    block_on(take_over_again(store_of(&site.replica)));
    site.wipe();
    site.make_history(100);
    assert_eq!(site.acked(), 400);
    assert_eq!(owner_objects(site), OBJECTS);
    // Litestream continues behind a fence.
    block_on(take_over_again(store_of(&site.replica)));
    let newest = site.replica.newest_txid();
    let peer = Replicate::start(&site.replica, &site.db());
    let words = site.bank_words(&["--rate", "300"]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let mut app = Process::start(command);
    wait_until("Litestream to write", SOON, || site.replica.newest_txid() > newest);
    site.wait_for_acks(450);
    kill(app.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(app.wait(SOON).code, 0, "{}", app.log_text());
    peer.stop();
    site.assert_replica_holds_everything("after Litestream's turn behind a fence");
    assert_eq!(owner_objects(site), OBJECTS);
}

async fn take_over_again(store: Arc<dyn Store>) {
    fence(&*store, 0xcafe, soon()).await.unwrap().unwrap();
}

#[test]
fn everybody_reads_across_a_fence_in_a_directory() {
    everybody_reads_across_a_fence(&Site::in_directory());
}

#[test]
fn everybody_reads_across_a_fence_in_a_bucket() {
    everybody_reads_across_a_fence(&Site::in_s3("handover"));
}

/// Levels of a second and a retention of a few: raw files and fences are merged and deleted, owner objects
/// are not.
#[test]
fn compaction_and_retention_leave_the_owner_objects_alone() {
    let site = Site::in_directory().with_database_settings(
        "levels = [\"1s\"]\nsnapshot = { interval = \"2s\" }\nretention = { snapshots = \"3s\", l0 = \"1s\" }\n",
    );
    site.make_history(50);
    let fenced = block_on(take_over(store_of(&site.replica)));
    let mut run = site.run_bank(&["--rate", "100"]);
    let raw = format!("{fenced:016x}-{fenced:016x}.ltx");
    let is_gone = || {
        block_on(async {
            let objects = store_of(&site.replica).list("ltx/0/", soon()).await.unwrap();
            objects.iter().all(|object| !object.key.ends_with(&raw))
        })
    };
    wait_until("the fence to be merged and deleted", SOON, is_gone);
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    assert_eq!(owner_objects(&site), OBJECTS);
    site.assert_replica_holds_everything("after the fence was merged");
}

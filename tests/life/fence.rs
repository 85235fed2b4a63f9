//! Two of a kind on one replica, and two processes on one database: nobody's file is overwritten, nothing
//! forks, nobody's lock gets lost.

use crate::support::litevisor::{As, Litevisor};
use crate::support::replica::Replica;
use crate::support::site::Site;
use crate::support::{SOON, bank, litestream, wait_for, wait_until};
use litevisor::testing::ltx::Header;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A second machine with a copy of the first one's disk and the same replica.
fn twin(site: &Site) -> Site {
    let mut twin = Site::in_directory();
    twin.replica = site.replica.clone();
    copy_tree(&site.disk(), &twin.disk());
    std::fs::write(twin.ack(), std::fs::read(site.ack()).unwrap_or_default()).unwrap();
    twin
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// Every file that was there is there unchanged.
fn assert_untouched(replica: &Replica, objects: &BTreeMap<String, String>) {
    let now = replica.objects();
    for (key, content) in objects {
        assert_eq!(now.get(key), Some(content), "{key}");
    }
}

fn one_of_two_is_fenced(site: &Site, other: &Site) {
    let sites = [site, other];
    let mut runs = sites.map(|site| site.run_bank(&["--rate", "50"]));
    let loser = wait_for("one of the two to end", SOON, || runs.iter_mut().position(|run| !run.is_running()));
    let objects = site.replica.objects();
    let ended = runs[loser].wait(SOON);
    assert_eq!(ended.code, 75, "the one that was fenced:\n{}", runs[loser].log_text());
    let winner = 1 - loser;
    let acked = sites[winner].acked();
    sites[winner].wait_for_acks(acked + 20);
    let log = runs[winner].log_text();
    assert!(runs[winner].is_running(), "the other one goes on:\n{log}");
    assert_eq!(runs[winner].stop().code, 0, "{}", runs[winner].log_text());
    assert_untouched(&site.replica, &objects);
    sites[winner].assert_replica_holds_everything("what the winner wrote");
    let out = site.path("judged-again.db");
    litestream::restore(&site.replica, &out).unwrap();
    assert_eq!(bank::dump(&out), bank::dump(&sites[winner].db()), "and nothing of the loser");
}

#[test]
fn of_two_on_one_directory_one_is_fenced() {
    let site = Site::in_directory();
    site.make_history(100);
    let other = twin(&site);
    one_of_two_is_fenced(&site, &other);
}

#[test]
fn of_two_on_one_bucket_one_is_fenced() {
    let site = Site::in_s3("twins");
    site.make_history(100);
    let other = twin(&site);
    one_of_two_is_fenced(&site, &other);
}

#[test]
fn of_two_that_begin_with_an_empty_replica_one_is_fenced() {
    let site = Site::in_directory();
    let other = twin(&site);
    one_of_two_is_fenced(&site, &other);
}

/// It slept (a frozen machine, a throttled container) while another one went on from its position, merged
/// what it wrote and deleted it: the name of its next file is free again.
#[test]
fn one_that_slept_does_not_go_on_where_it_was() {
    let brisk = "levels = [\"300ms\"]\nretention = { l0 = \"1s\" }";
    let site = Site::in_directory().with_database_settings(brisk);
    site.make_history(100);
    let mut other = twin(&site);
    other.database_settings.clone_from(&site.database_settings);
    let mut sleeper = site.run_bank(&["--rate", "20"]);
    site.wait_for_acks(site.acked() + 20);
    // Right after an upload nothing is under way: the next one comes a second later.
    let before = site.replica.newest_txid();
    wait_until("an upload", SOON, || site.replica.newest_txid() > before);
    let tree: Vec<_> =
        std::iter::once(sleeper.pid()).chain(crate::support::process::descendants(sleeper.pid())).collect();
    tree.iter().for_each(|pid| nix::sys::signal::kill(*pid, nix::sys::signal::SIGSTOP).unwrap());
    let end = site.replica.newest_txid();
    std::fs::remove_dir_all(other.disk()).unwrap();
    let mut winner = other.run_bank(&["--rate", "50"]);
    wait_until("the sleeper's next file to be written, merged and deleted", SOON, || {
        let files = site.replica.ltx_files();
        files.keys().any(|(_, _, max)| *max > end + 3) && !files.contains_key(&(0, end + 1, end + 1))
    });
    let newest = site.replica.newest_txid();
    tree.iter().for_each(|pid| nix::sys::signal::kill(*pid, nix::sys::signal::SIGCONT).unwrap());
    assert_eq!(sleeper.wait(SOON).code, 75, "{}", sleeper.log_text());
    assert!(winner.is_running() && site.replica.newest_txid() >= newest, "{}", winner.log_text());
    assert_eq!(winner.stop().code, 0, "{}", winner.log_text());
    assert!(!site.replica.ltx_files().contains_key(&(0, end + 1, end + 1)), "the sleeper left something");
    other.assert_replica_holds_everything("what the winner wrote");
}

#[test]
fn the_loser_goes_on_without_replication_where_that_is_configured() {
    let site = Site::in_directory().with_database_settings("on_conflict = \"continue\"");
    site.make_history(100);
    let mut other = twin(&site);
    other.database_settings.clone_from(&site.database_settings);
    let sites = [&site, &other];
    let mut runs = sites.map(|site| site.run_bank(&["--rate", "50"]));
    let lost =
        |run: &Litevisor| run.log().into_iter().find(|line| line.contains("another instance writes to"));
    let loser = wait_for("one of the two to lose", SOON, || runs.iter().position(|run| lost(run).is_some()));
    let said = lost(&runs[loser]).unwrap();
    assert!(said.contains("(node ") && said.contains(" at 2"), "who, and when: {said}");
    assert!(said.contains("the last of ours in the replica is"), "what is missing: {said}");
    runs[loser].wait_for_complaint("WITHOUT replication", SOON);
    let objects = site.replica.objects();
    let acked = sites[loser].acked();
    sites[loser].wait_for_acks(acked + 20);
    assert_eq!(runs[loser].stop().code, 75, "{}", runs[loser].log_text());
    let last = runs[loser].log().pop().unwrap();
    assert!(last.contains("INCOMPLETE") && last.contains("\"missing\":\"everything after"), "{last}");
    let winner = 1 - loser;
    let acked = sites[winner].acked();
    sites[winner].wait_for_acks(acked + 20);
    assert_eq!(runs[winner].stop().code, 0, "{}", runs[winner].log_text());
    assert_untouched(&site.replica, &objects);
    sites[winner].assert_replica_holds_everything("what the winner wrote");
}

/// Else two copies of one disk, both about to send the same number, would take each other's upload for their
/// own.
#[test]
fn each_run_signs_with_a_node_id_of_its_own_and_still_knows_the_last_ones_work() {
    let site = Site::in_directory();
    let mut signed = BTreeMap::new();
    for run in 0..3 {
        let mut ended = site.run_bank(&["--count", "3"]);
        assert_eq!(ended.wait(SOON).code, 0, "{}", ended.log_text());
        assert!(!ended.log_text().contains("whole database is uploaded"), "{}", ended.log_text());
        assert!(run == 0 || ended.log_text().contains("it continues the replica"), "{}", ended.log_text());
        for key in site.replica.objects().into_keys() {
            let node = Header::from_start(&site.replica.read(&key)).unwrap().node_id;
            signed.entry(key).or_insert((run, node));
        }
    }
    let nodes: BTreeSet<(i32, u64)> = signed.into_values().collect();
    assert_eq!(nodes.len(), 3, "one node id per run: {nodes:?}");
    assert_eq!(nodes.iter().map(|(_, node)| node).collect::<BTreeSet<_>>().len(), 3, "{nodes:?}");
}

/// POSIX locks belong to the process: had we closed a descriptor of the database, the app would be the last
/// one to close it, and would delete the WAL with what is not uploaded yet.
#[test]
fn the_last_connection_of_the_app_never_takes_the_wal_away() {
    let site = Site::in_directory().with_replica_settings("sync_interval = \"30s\"");
    site.make_history(50);
    let mut run = site.run(&["sleep", "60"]);
    run.wait_for_app();
    let wal = site.disk().join("bank.db-wal");
    let inode = || std::fs::metadata(&wal).map(|meta| meta.ino()).ok();
    let mut held = None;
    for round in 1..=5 {
        let words = site.bank_words(&["--rate", "max", "--count", "200"]);
        assert!(Command::new(&words[0]).args(&words[1..]).status().unwrap().success());
        let now = inode();
        assert!(now.is_some(), "round {round}: the WAL is gone: our locks were lost\n{}", run.log_text());
        assert_eq!(*held.get_or_insert(now), now, "round {round}: another WAL");
    }
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    site.assert_replica_holds_everything("after the stop");
}

/// More databases with a first snapshot to stream than there are threads for it.
#[test]
fn many_first_snapshots_at_once_do_not_wait_for_each_other_for_ever() {
    const DATABASES: usize = 18;
    let site = Site::in_directory();
    let mut config = String::new();
    for number in 0..DATABASES {
        let db = site.disk().join(format!("{number}.db"));
        let app = rusqlite::Connection::open(&db).unwrap();
        app.execute_batch(
            "PRAGMA journal_mode = wal; CREATE TABLE t(x); INSERT INTO t VALUES (randomblob(12000000))",
        )
        .unwrap();
        let bucket = site.path("buckets").join(number.to_string());
        let (db, bucket) = (db.display(), bucket.display());
        config += &format!("[[database]]\npath = \"{db}\"\n[database.replica]\nurl = \"file://{bucket}\"\n");
    }
    let path = site.path("many.toml");
    std::fs::write(&path, config).unwrap();
    let mut run = Litevisor::run(
        As::Process,
        &["--config".into(), path.into(), "--".into(), "sleep".into(), "90".into()],
    );
    let complete =
        |number: usize| Replica::Directory(site.path("buckets").join(number.to_string())).newest_txid() >= 2;
    wait_until("all first snapshots", Duration::from_secs(60), || (0..DATABASES).all(complete));
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

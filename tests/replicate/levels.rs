//! Levels, snapshots and retention from outside: the shipped binary with intervals of a second, a bank that
//! writes, and copies of the replica at many instants, each of which both tools restore to the same database.

use crate::support::gate::{Gate, Mood};
use crate::support::replica::Replica;
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, bank, litestream, litevisor, now_ms, wait_until};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Beyond which nothing is due any more, once nobody writes.
const REST: Duration = Duration::from_secs(8);

fn short(retention: &str) -> String {
    format!(
        "levels = [\"500ms\", \"1s\", \"2s\"]\nsnapshot = {{ interval = \"2s\" }}\nretention = {{ {retention} }}"
    )
}

fn quick(site: Site) -> Site {
    let settings = short("snapshots = \"3s\", l0 = \"500ms\"");
    site.with_database_settings(&settings).with_replica_settings("sync_interval = \"100ms\"")
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".ltx"))
        .collect()
}

/// A directory's listing that no file was added to or taken from meanwhile.
fn settled_names(directory: &Path) -> BTreeSet<String> {
    loop {
        let (first, second) = (names(directory), names(directory));
        if first == second {
            return first;
        }
    }
}

/// The replica as a tool sees that lists it level by level: what is merged or deleted meanwhile stands on a
/// higher level.
fn copy(site: &Site, name: &str) -> Replica {
    let Replica::Directory(root) = &site.replica else { panic!("no directory") };
    let copy = site.path(name);
    for level in 0..=9 {
        let (from, to) = (root.join(format!("ltx/{level}")), copy.join(format!("ltx/{level}")));
        std::fs::create_dir_all(&to).unwrap();
        for name in settled_names(&from) {
            // Gone meanwhile.
            let _ = std::fs::hard_link(from.join(&name), to.join(&name));
        }
    }
    Replica::Directory(copy)
}

/// Restores with both tools; everything acknowledged before then is there, and both say the same.
fn judge(site: &Site, replica: &Replica, before_ms: Option<u64>, what: &str) {
    let (theirs, ours) = (site.path("theirs.db"), site.path("ours.db"));
    litestream::restore(replica, &theirs)
        .unwrap_or_else(|wrong| panic!("{what}: {wrong}\n{:#?}", replica.ltx_files().keys()));
    let done = litevisor::restore_url(&replica.url(), &ours);
    assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
    bank::check(&theirs, &site.ack(), before_ms).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    assert_eq!(bank::dump(&ours), bank::dump(&theirs), "{what}");
    remove(&ours);
}

fn remove(db: &Path) {
    for side in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{side}", db.display()));
    }
}

fn levels(replica: &Replica) -> Vec<usize> {
    let files = replica.ltx_files();
    (0..=9).map(|level| files.keys().filter(|file| file.0 == level).count()).collect()
}

fn raw_files_gone(replica: &Replica) -> bool {
    replica
        .ltx_files()
        .keys()
        .filter(|file| file.0 == 0)
        .map(|file| file.1)
        .min()
        .is_some_and(|first| first > 2)
}

#[test]
fn every_instant_can_be_restored_by_both_tools() {
    let site = quick(Site::in_directory());
    let mut run = site.run_bank(&["--rate", "200"]);
    site.wait_for_acks(1);
    wait_until("the bank in the replica", SOON, || {
        let copied = copy(&site, "first");
        let done = litestream::restore(&copied, &site.path("theirs.db"))
            .and_then(|()| bank::check(&site.path("theirs.db"), &site.ack(), Some(0)));
        done.is_ok()
    });
    let mut seen = [false; 10];
    let mut rounds = 0;
    let end = Instant::now() + Duration::from_secs(12);
    while Instant::now() < end || !seen[3] || !raw_files_gone(&site.replica) || levels(&site.replica)[9] < 2 {
        assert!(
            end.elapsed() < SOON,
            "levels seen {seen:?}, now {:?}\n{}",
            levels(&site.replica),
            run.log_text()
        );
        let committed = now_ms() - 3000;
        let copied = copy(&site, &format!("copy-{rounds}"));
        levels(&copied).iter().enumerate().for_each(|(level, count)| seen[level] |= *count > 0);
        judge(&site, &copied, Some(committed), &format!("copy {rounds}"));
        rounds += 1;
        if rounds == 3 {
            run.kill_everything();
            judge(&site, &copy(&site, "killed"), Some(0), "after the kill");
            run = site.run_bank(&["--rate", "200"]);
        }
    }
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    judge(&site, &site.replica.clone(), None, "after the stop");
    // Each position that is still there by itself, told apart by how many transfers it holds.
    let mut last = 0;
    for txid in
        site.replica.ltx_files().keys().filter(|file| file.0 > 0).map(|file| file.2).collect::<BTreeSet<_>>()
    {
        let out = site.path("txid.db");
        let mut restore = Command::new(env!("CARGO_BIN_EXE_litevisor"));
        restore.args(["restore", &site.replica.url(), "--txid", &format!("{txid:x}"), "-o"]).arg(&out);
        let done = restore.output().unwrap();
        if !done.status.success() {
            assert_eq!(last, 0, "{txid:x} is refused, and one before it was not");
            continue;
        }
        let count = "SELECT count(*) FROM ledger";
        let transfers = bank::read_only(&out).query_row(count, [], |row| row.get::<_, i64>(0)).unwrap();
        assert!(transfers >= last, "{txid:x} holds {transfers} transfers, one before it {last}");
        last = transfers;
        remove(&out);
    }
    assert!(last > 0);
    site.wipe();
    let mut next = site.run_bank(&["--count", "1"]);
    assert_eq!(next.wait(SOON).code, 0, "{}", next.log_text());
    site.assert_disk_holds_everything("restored from levels");
    site.assert_replica_holds_everything("and went on");
}

#[test]
fn without_retention_no_file_ever_goes() {
    let site = quick(Site::in_directory()).with_database_settings(&short("enabled = false"));
    let mut run = site.run_bank(&["--rate", "100"]);
    let mut seen = BTreeSet::new();
    wait_until("all levels and a second snapshot", Duration::from_secs(40), || {
        seen.extend(site.replica.ltx_files().into_keys());
        let levels = levels(&site.replica);
        levels[3] > 0 && levels[9] > 1
    });
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    let left: BTreeSet<_> = site.replica.ltx_files().into_keys().collect();
    assert!(left.is_superset(&seen), "gone: {:x?}", seen.difference(&left));
    judge(&site, &site.replica.clone(), None, "after the stop");
}

/// Once the last writes have gone through the levels, nothing is asked of the store.
#[test]
fn at_rest_there_is_not_one_request() {
    let mut site = quick(Site::in_s3("levels-idle"));
    let seaweed = Seaweed::shared();
    let gate = Gate::before(&seaweed.endpoint(), Mood::Open);
    let direct = site.replica.clone();
    site.replica = direct.at(&gate.endpoint());
    let line = format!("{}; exec sleep 600", site.bank_line(&["--rate", "100", "--count", "150"]));
    let mut run = site.run(&["sh", "-c", &line]);
    wait_until("raw files to be merged and deleted", Duration::from_secs(60), || raw_files_gone(&direct));
    let (mut requests, mut since) = (gate.requests(), Instant::now());
    wait_until("a rest", Duration::from_secs(90), || {
        if gate.requests() != requests {
            (requests, since) = (gate.requests(), Instant::now());
        }
        since.elapsed() > REST
    });
    assert_eq!(levels(&direct)[0], 1, "{:x?}", direct.ltx_files().keys());
    judge_s3(&site, &direct);
    run.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(run.wait(SOON).code, 143, "{}", run.log_text());
}

fn judge_s3(site: &Site, replica: &Replica) {
    let out: PathBuf = site.path("theirs.db");
    litestream::restore(replica, &out).unwrap();
    bank::check(&out, &site.ack(), None).unwrap();
}

/// One compressed copy and the changes; a restart adds none.
#[test]
fn a_fresh_replica_takes_little_more_than_one_copy() {
    let site = Site::in_directory().with_database_settings("levels = [\"500ms\", \"1s\", \"2s\"]");
    std::fs::create_dir_all(site.disk()).unwrap();
    bank::seed(&site.db());
    let filler = rusqlite::Connection::open(site.db()).unwrap();
    filler.execute_batch("CREATE TABLE filler(x); INSERT INTO filler VALUES (randomblob(4000000))").unwrap();
    drop(filler);
    for _ in 0..2 {
        let mut run = site.run_bank(&["--rate", "30", "--count", "60"]);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    }
    let size = |file: &(u32, u64, u64), text: &String| -> (u32, u64) {
        (file.0, text.split(' ').next().unwrap().parse().unwrap())
    };
    let files: Vec<_> = site.replica.ltx_files().iter().map(|(file, text)| size(file, text)).collect();
    let total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(
        files.iter().filter(|(level, _)| *level == 9).count(),
        1,
        "a restart makes no snapshot: {files:?}"
    );
    let copy = files.iter().find(|(level, _)| *level == 9).unwrap().1;
    assert!(total * 10 <= copy * 11, "{total} bytes for one copy of {copy}: {files:?}");
    judge(&site, &site.replica.clone(), None, "after two runs");
}

//! What the replica needs was merged and deleted, began anew, has another page size; a file that is no copy.

use super::*;

/// A writer with history, and a copy that follows it.
fn following() -> (Site, PathBuf, Process) {
    let site = site();
    site.make_history(40);
    let copy = site.path("copy.db");
    let follower = follow(&site, &copy, &[]);
    follower.wait_for_log("the copy", SOON, |line| line.contains("following"));
    wait_for_everything(&site, &copy);
    (site, copy, follower)
}

#[test]
fn retention_passes_a_follower_that_stands_still() {
    let (site, copy, follower) = following();
    let reader = Reader::start(&copy, site.path("seen"));
    let position = site.replica.newest_txid();
    kill(follower.pid(), Signal::SIGSTOP).unwrap();
    let mut writer = site.run_bank(&["--rate", "100"]);
    wait_until("retention to pass the follower", SOON * 3, || {
        let raw = site.replica.ltx_files().into_keys().filter(|(level, ..)| *level == 0);
        raw.map(|(_, from, _)| from).min().is_some_and(|oldest| oldest > position + 1)
    });
    kill(follower.pid(), Signal::SIGCONT).unwrap();
    assert_eq!(writer.stop().code, 0, "{}", writer.log_text());
    wait_for_everything(&site, &copy);
    let seen = reader.end();
    seen.assert_whole();
    stop(follower);
}

#[test]
fn a_replica_that_began_anew_is_exchanged_between_the_readers_transactions() {
    let (site, copy, follower) = following();
    let reader = Reader::start(&copy, site.path("seen"));
    site.replica.objects().keys().for_each(|key| site.replica.remove(key));
    site.wipe();
    fs::remove_file(site.ack()).unwrap();
    site.make_history(15);
    follower.wait_for_log("the new restore", SOON, |line| {
        line.contains("go on with it from their next transaction")
    });
    wait_for_everything(&site, &copy);
    wait_until("the reader to see it", SOON, || bank::dump(&copy) == bank::dump(&site.db()));
    let seen = reader.end();
    seen.assert_whole();
    assert!(seen.states >= 2 && seen.failed == "{}", "{seen:?}");
    stop(follower);
}

#[test]
fn another_page_size_is_a_new_file_and_who_reads_the_old_one_is_named() {
    let (site, copy, follower) = following();
    let reader = Reader::start(&copy, site.path("seen"));
    let writer = rusqlite::Connection::open(site.db()).unwrap();
    writer.execute_batch("PRAGMA journal_mode = delete; PRAGMA page_size = 8192; VACUUM").unwrap();
    drop(writer);
    let mut run = site.run_bank(&["--rate", "max", "--count", "10"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    follower.wait_for_log("a new file", SOON, |line| line.contains("Programs must open it again"));
    wait_for_everything(&site, &copy);
    let seen = reader.end();
    seen.assert_whole();
    let again = Reader::start(&copy, site.path("again")).end();
    again.assert_whole();
    assert_eq!(fs::read(&copy).unwrap()[16..18], 8192_u16.to_be_bytes());
    stop(follower);
}

#[test]
fn what_another_program_writes_into_a_copy_is_taken_out_again() {
    let (site, copy, follower) = following();
    let reader = Reader::start(&copy, site.path("seen"));
    rusqlite::Connection::open(&copy).unwrap().execute_batch("DELETE FROM ledger WHERE number < 9").unwrap();
    let mut writer = site.run_bank(&["--rate", "max", "--count", "5"]);
    assert_eq!(writer.wait(SOON).code, 0, "{}", writer.log_text());
    follower.wait_for_log("it to be found", SOON, |line| line.contains("another program has written to it"));
    wait_for_everything(&site, &copy);
    // The reader has seen the other program's transaction.
    let seen = reader.end();
    assert_eq!((seen.integrity.as_str(), seen.failed.as_str()), ("ok", "{}"), "{seen:?}");
    stop(follower);
}

#[test]
fn what_is_no_copy_is_not_touched_and_an_empty_replica_is_said() {
    let site = site();
    let foreign = site.path("foreign.db");
    let ends = |out: &Path| {
        let mut follower = follow(&site, out, &[]);
        (follower.wait(SOON).code, follower.log_text())
    };
    let (code, log) = ends(&foreign);
    assert_eq!(code, 66, "{log}");
    site.make_history(5);
    bank::seed(&foreign);
    let before = bank::dump(&foreign);
    let (code, log) = ends(&foreign);
    assert_eq!(code, 78, "{log}");
    assert!(bank::dump(&foreign) == before);
    assert!(log.contains("is no copy that follows"), "{log}");
    let mut once = follow(&site, &site.path("once.db"), &["--once"]);
    assert_eq!(once.wait(SOON).code, 0, "{}", once.log_text());
    assert!(bank::dump(&site.path("once.db")) == bank::dump(&site.db()));
}

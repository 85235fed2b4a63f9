//! A restore that waits for answers rather than for bytes.

use crate::support::gate::{Asked, Gate, Mood};
use crate::support::litevisor::restore;
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use rusqlite::Connection;
use std::time::{Duration, Instant};

const DELAY: Duration = Duration::from_millis(100);
const COMMITS: usize = 25;

/// A snapshot and one file for each commit, none of them merged.
fn many_small_files(site: &Site) {
    bank::seed(&site.db());
    let mut run = site.run(&["sleep", "600"]);
    run.wait_for_app();
    let app = Connection::open(site.db()).unwrap();
    app.execute_batch("PRAGMA busy_timeout=5000; CREATE TABLE late(x)").unwrap();
    wait_until("the first files", SOON, || site.replica.newest_txid() > 0);
    for number in 0..COMMITS as i64 {
        let before = site.replica.newest_txid();
        app.execute("INSERT INTO late VALUES (?1)", [number]).unwrap();
        wait_until("the commit's file", SOON, || site.replica.newest_txid() > before);
    }
    drop(app);
    run.stop();
    let raw = site.replica.ltx_files().keys().filter(|(level, ..)| *level == 0).count();
    assert!(raw >= COMMITS, "{:?}", site.replica.ltx_files().keys());
}

/// How often somebody had to wait for an answer before he could ask on: what comes before any answer can be
/// back belongs to the same round.
fn rounds(asked: &[Asked]) -> usize {
    let (mut rounds, mut ends) = (0, None);
    for request in asked {
        if ends.is_none_or(|ends| request.at >= ends) {
            (rounds, ends) = (rounds + 1, Some(request.at + DELAY));
        }
    }
    rounds
}

#[test]
fn many_small_files_cost_a_few_round_trips() {
    let mut site = Site::in_s3("many-small-files")
        .with_database_settings("levels = [\"1h\"]")
        .with_replica_settings("sync_interval = \"10ms\"\n");
    many_small_files(&site);
    let truth = bank::dump(&site.db());
    let gate = Gate::before(&Seaweed::shared().endpoint(), Mood::Slow(DELAY));
    site.replica = site.replica.at(&gate.endpoint());
    gate.take_asked();

    let (out, begun) = (site.path("out.db"), Instant::now());
    let done = restore(&site.config(), &site.db(), &out);
    let took = begun.elapsed();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(bank::dump(&out), truth);
    let asked = gate.take_asked();
    let lines: Vec<&str> = asked.iter().map(|request| request.line.as_str()).collect();
    assert!(lines.len() >= COMMITS + 2, "the gate saw too little: {lines:?}");
    // One look, and each file once.
    assert!(lines.len() <= COMMITS + 4, "{} requests: {lines:#?}", lines.len());
    assert!(rounds(&asked) <= 3, "{} rounds: {asked:#?}", rounds(&asked));
    assert!(took < Duration::from_secs(1), "{took:?}");

    // The same before an app: it is there in well under a second.
    site.wipe();
    let (marker, begun) = (site.path("started"), Instant::now());
    let mut run = site.run(&["touch", marker.to_str().unwrap()]);
    wait_until("the app", SOON, || marker.exists());
    let took = begun.elapsed();
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    assert!(took < Duration::from_secs(1), "{took:?}:\n{}", run.log_text());
    assert_eq!(bank::dump(&site.db()), truth);
}

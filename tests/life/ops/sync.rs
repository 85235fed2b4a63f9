//! `sync` really waits, and never says more than is true.

use crate::support::asking::{Asked, status};
use crate::support::gate::Mood;
use crate::support::{SOON, bank, litevisor};
use std::time::{Duration, Instant};

/// Uploads come from syncs alone.
const RARELY: &str = "sync_interval = \"10m\"";

/// The test writes itself: it knows when a commit has returned.
fn commit(asked: &Asked, rows: i64) {
    let db = rusqlite::Connection::open(asked.site.db()).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (n, blob)").unwrap();
    for n in 0..rows {
        db.execute("INSERT INTO t VALUES (?1, randomblob(2000))", [n]).unwrap();
    }
}

fn assert_restores_to_what_is_there(asked: &Asked) {
    let out = asked.site.path("restored.db");
    let _ = std::fs::remove_file(&out);
    let done = litevisor::restore(&asked.site.config(), &asked.site.db(), &out);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(bank::dump(&out), bank::dump(&asked.site.db()));
}

#[test]
fn what_it_waited_for_is_in_the_replica() {
    let mut asked = Asked::new("ops-sync", "");
    asked.site.replica_settings = format!("{RARELY}\n");
    let mut run = asked.site.run(&["sleep", "600"]);
    asked.wait_until_ready();
    asked.gate.set(Mood::Slow(Duration::from_millis(150)));
    let db = asked.site.db();
    for words in [vec!["sync"], vec!["sync", db.to_str().unwrap()], vec!["sync", "--timeout", "1m"]] {
        commit(&asked, 20);
        let said = asked.ask(&words);
        assert!(
            said.code == 0 && said.out.contains("bank.db: uploaded 0"),
            "{words:?}: {said:?}\n{}",
            run.log_text()
        );
        assert_restores_to_what_is_there(&asked);
    }
    commit(&asked, 20);
    let (code, body) = asked.http("POST", "/sync?timeout=20s");
    assert!(code == 200 && body.contains("\"complete\":true"), "{code} {body}");
    assert_restores_to_what_is_there(&asked);
    let value = status(&asked.site.config());
    assert_eq!(value["databases"][0]["lag_bytes"], 0, "{value:#}");
    for (target, code) in [("/sync?db=/other.db", 404), ("/sync?timeout=never", 400)] {
        assert_eq!(asked.http("POST", target).0, code, "{target}");
    }
    let unknown = asked.ask(&["sync", "/other.db"]);
    assert!(unknown.code == 64 && unknown.err.contains("/other.db"), "{unknown:?}");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

#[test]
fn a_store_that_is_away_is_told_at_the_limit() {
    let asked = Asked::new("ops-sync-away", "");
    let mut run = asked.site.run(&["sleep", "600"]);
    asked.wait_until_ready();
    commit(&asked, 5);
    assert_eq!(asked.ask(&["sync"]).code, 0);
    asked.gate.set(Mood::Refusing);
    commit(&asked, 5);
    let begun = Instant::now();
    let said = asked.ask(&["sync", "--timeout", "1500ms"]);
    assert!(
        begun.elapsed() >= Duration::from_millis(1500) && begun.elapsed() < SOON,
        "{:?}",
        begun.elapsed()
    );
    assert!(
        said.code == 74 && said.err.contains("bank.db: NOT in the replica: everything after"),
        "{said:?}"
    );
    let (code, body) = asked.http("POST", "/sync?timeout=300ms");
    assert!(code == 504 && body.contains("\"complete\":false"), "{code} {body}");
    asked.gate.set(Mood::Open);
    let said = asked.ask(&["sync"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_restores_to_what_is_there(&asked);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

//! An app that locks the whole database (`PRAGMA locking_mode = EXCLUSIVE`): it always can open it, and what it wrote is in the
//! replica when litevisor has ended.

use crate::support::SOON;
use crate::support::asking::{ask, free_port, http, status, wait_for_status};
use crate::support::litestream;
use crate::support::site::Site;
use rusqlite::Connection;

/// Adds a row, without patience for any lock, in the journal mode that is asked for; then waits for the file `go`.
fn app(site: &Site, before_mode: bool, wait: bool) -> Vec<String> {
    let lock = "c.execute('PRAGMA locking_mode=EXCLUSIVE').fetchall()";
    let mode = "c.execute('PRAGMA journal_mode=wal').fetchall()";
    let [first, second] = if before_mode { [lock, mode] } else { [mode, lock] };
    let script = format!(
        "import os, sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n{first}\n{second}\n\
         c.execute('CREATE TABLE IF NOT EXISTS t(x)')\nc.execute('INSERT INTO t VALUES (1)')\n\
         open(sys.argv[2] + '.wrote', 'a').write('x')\n\
         while {wait} and not os.path.exists(sys.argv[2]): time.sleep(0.02)\n",
        wait = if wait { "True" } else { "False" }
    );
    let go = site.path("go");
    ["python3", "-c", &script, site.db().to_str().unwrap(), go.to_str().unwrap()].map(String::from).to_vec()
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

fn rows(site: &Site) -> i64 {
    let out = site.path("judged.db");
    let _ = std::fs::remove_file(&out);
    litestream::restore(&site.replica, &out).unwrap();
    Connection::open(&out).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn wrote(site: &Site) -> usize {
    std::fs::read(site.path("go.wrote")).map_or(0, |bytes| bytes.len())
}

#[test]
fn it_is_never_locked_out() {
    for before_mode in [true, false] {
        let port = free_port();
        let site = Site::in_directory().with_settings(&format!("[status]\nlisten = \"127.0.0.1:{port}\""));
        for life in 1..=5 {
            if life == 4 {
                site.wipe();
            }
            let _ = std::fs::remove_file(site.path("go"));
            let mut run = site.run(&words(&app(&site, before_mode, true)));
            crate::support::wait_until("the app's row", SOON, || wrote(&site) == life || !run.is_running());
            assert_eq!(wrote(&site), life, "{}", run.log_text());
            let said = wait_for_status("it is said", &site.config(), |status| {
                status["databases"][0]["problem"].as_str().is_some_and(|text| text.contains("locks the whole database"))
            });
            assert_ne!(said["databases"][0]["state"], "replicating", "{said:#}");
            let (ready, text) = http(port, "GET", "/readyz");
            assert!(ready == 200 && text.contains("NOT REPLICATED"), "{ready} {text}");
            run.wait_for_log("a warning", SOON, |line| line.contains("NOT REPLICATED while the app runs"));
            assert_ne!(
                ask(&site.config(), &["sync", "--timeout", "1s"]).code,
                0,
                "nothing of it is in the replica yet"
            );
            std::fs::write(site.path("go"), "").unwrap();
            let ended = run.wait(SOON);
            assert_eq!(ended.code, 0, "life {life}: {}", run.log_text());
            assert_eq!(rows(&site), life as i64, "{}", run.log_text());
        }
    }
}

/// A job that ends at once, and a stop while the app has the database.
#[test]
fn jobs_and_stops_lose_nothing() {
    let site = Site::in_directory();
    for life in 1..=4 {
        let mut run = site.run(&words(&app(&site, true, life > 2)));
        if life > 2 {
            crate::support::wait_until("the app's row", SOON, || wrote(&site) == life || !run.is_running());
            assert_eq!(run.stop().code, 143, "{}", run.log_text());
        }
        run.wait(SOON);
        assert_eq!(rows(&site), life as i64, "{}", run.log_text());
    }
}

/// The pragma is gone in the next version of the app.
#[test]
fn when_it_shares_the_database_again_each_commit_is_replicated() {
    let site = Site::in_directory();
    for _ in 0..2 {
        let _ = std::fs::remove_file(site.path("go"));
        std::fs::write(site.path("go"), "").unwrap();
        assert_eq!(site.run(&words(&app(&site, true, true))).wait(SOON).code, 0);
    }
    let run = site.run(&["sleep", "600"]);
    run.wait_for_app();
    let sharing = Connection::open(site.db()).unwrap();
    sharing.busy_timeout(SOON).unwrap();
    sharing.execute_batch("INSERT INTO t VALUES (3)").unwrap();
    wait_for_status("it is replicated", &site.config(), |status| status["databases"][0]["state"] == "replicating");
    assert_eq!(ask(&site.config(), &["sync", "--timeout", "20s"]).code, 0, "{}", run.log_text());
    assert_eq!(rows(&site), 3);
    assert_eq!(status(&site.config())["databases"][0]["problem"], serde_json::Value::Null);
}

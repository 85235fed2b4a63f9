//! An app that locks the whole database (`PRAGMA locking_mode = EXCLUSIVE`): it always can open it, and what
//! it wrote is in the replica when litevisor has ended.

use crate::support::asking::{ask, free_port, http, status, wait_for_status};
use crate::support::litestream;
use crate::support::litevisor::{As, Litevisor};
use crate::support::site::Site;
use crate::support::{SOON, side_by_side};
use rusqlite::Connection;

/// Adds a row, without patience for any lock, in the journal mode that is asked for; then waits for the file
/// `go`.
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
    side_by_side(2, [true, false], |before_mode| {
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
                status["databases"][0]["problem"]
                    .as_str()
                    .is_some_and(|text| text.contains("locks the whole database"))
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
    });
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
    wait_for_status("it is replicated", &site.config(), |status| {
        status["databases"][0]["state"] == "replicating"
    });
    assert_eq!(ask(&site.config(), &["sync", "--timeout", "20s"]).code, 0, "{}", run.log_text());
    assert_eq!(rows(&site), 3);
    assert_eq!(status(&site.config())["databases"][0]["problem"], serde_json::Value::Null);
}

/// A process that opens the database like `app`, with this patience, and tells what came of it.
fn tries(db: &std::path::Path, timeout: &str, before_read: bool) -> bool {
    let read = if before_read { "" } else { "c.execute('SELECT count(*) FROM t').fetchall()" };
    let script = format!(
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=float(sys.argv[2]), isolation_level=None)\n{read}\n\
         c.execute('PRAGMA locking_mode=EXCLUSIVE').fetchall()\nc.execute('INSERT INTO t VALUES (1)')"
    );
    let mut python = std::process::Command::new("python3");
    python.args(["-c", &script, db.to_str().unwrap(), timeout]).output().unwrap().status.success()
}

/// A life of an app that shares the database.
fn shared_life(site: &Site, mode: &str) {
    let script = format!(
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)\n\
         c.execute('PRAGMA journal_mode={mode}').fetchall()\nc.execute('CREATE TABLE IF NOT EXISTS t(x)')\n\
         c.execute('INSERT INTO t VALUES (1)')"
    );
    let mut run = site.run(&["python3", "-c", &script, site.db().to_str().unwrap()]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
}

/// A database that exists, of which nothing is recorded, or what an earlier version of the app did: an app
/// without patience is refused once, and never again.
#[test]
fn an_app_that_begins_to_lock_is_refused_once() {
    let cases = [
        (false, false, "wal"),
        (false, false, "delete"),
        (true, false, "wal"),
        (true, true, "wal"),
        (false, true, "wal"),
    ];
    side_by_side(3, cases, |(earlier, wiped, mode)| {
        let site = Site::in_directory();
        let mut wanted = 1;
        if earlier {
            shared_life(&site, mode);
        } else {
            let made = Connection::open(site.db()).unwrap();
            made.execute_batch(&format!(
                "PRAGMA journal_mode={mode}; CREATE TABLE t(x); INSERT INTO t VALUES (1)"
            ))
            .unwrap();
        }
        let mut codes = Vec::new();
        for _ in 0..3 {
            if wiped && (earlier || !codes.is_empty()) {
                site.wipe();
            }
            let mut run = site.run(&words(&app(&site, true, false)));
            let code = run.wait(SOON).code;
            wanted += i64::from(code == 0);
            assert_eq!(rows(&site), wanted, "{}", run.log_text());
            codes.push((code, run.log_text()));
        }
        let codes: Vec<_> = codes.iter().map(|(code, _)| *code).collect();
        assert!(codes[1..] == [0, 0], "{earlier} {wiped} {mode}: {codes:?}");
    });
}

/// An app that waits for the lock, or is started again and again, gets it while litevisor runs.
#[test]
fn an_app_that_waits_gets_the_database() {
    for (sidecar, timeout, before_read) in
        [(false, "20", true), (false, "20", false), (false, "0", true), (true, "20", true), (true, "0", true)]
    {
        let site = Site::in_directory();
        shared_life(&site, "wal");
        let mut run = if sidecar {
            Litevisor::replicate(As::Process, &site.config(), &[])
        } else {
            site.run(&["sleep", "600"])
        };
        let case = format!("sidecar {sidecar}, patience {timeout}, {before_read}");
        run.wait_for_log(&case, SOON, |line| line.contains("\"replicating\""));
        crate::support::wait_until(&case, SOON, || tries(&site.db(), timeout, before_read));
        run.wait_for_log("a warning", SOON, |line| {
            line.contains("the app cannot open the database beside litevisor")
        });
        assert_eq!(run.stop().code, if sidecar { 0 } else { 143 }, "{}", run.log_text());
        assert_eq!(rows(&site), 2, "{}", run.log_text());
    }
}

/// The other databases of the directory are replicated meanwhile.
#[test]
fn one_of_several_in_a_directory_is_locked() {
    let site = Site::in_directory();
    let [tenants, bucket] = ["tenants", "all"].map(|name| site.path(name));
    std::fs::create_dir(&tenants).unwrap();
    for name in ["a.db", "b.db", "c.db"] {
        let sql = "PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1)";
        Connection::open(tenants.join(name)).unwrap().execute_batch(sql).unwrap();
    }
    let config = site.path("many.toml");
    let text = format!(
        "[[database]]\ndir = {tenants:?}\n[database.replica]\nurl = \"file://{}\"\n",
        bucket.display()
    );
    std::fs::write(&config, text).unwrap();
    let words = ["--config", config.to_str().unwrap(), "--", "sleep", "600"];
    let mut run = Litevisor::run(As::Process, &words.map(Into::into));
    let state = |value: &serde_json::Value, at: usize| value["databases"][at]["state"] == "replicating";
    wait_for_status("all three", &config, |value| (0..3).all(|at| state(value, at)));
    crate::support::wait_until("the app to get it", SOON, || tries(&tenants.join("b.db"), "20", true));
    let value = wait_for_status("one aside", &config, |value| !state(value, 1));
    assert!(state(&value, 0) && state(&value, 2), "{value:#}");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let out = site.path("out.db");
    let restored = crate::support::litevisor::restore_url(&format!("file://{}/b.db", bucket.display()), &out);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let count =
        Connection::open(&out).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(count, Ok(2));
}

/// The key: no connection of ours before the app's end, also for an app that sets the pragma after its first
/// statement and does not wait.
#[test]
fn a_database_that_is_configured_as_exclusive_is_opened_after_the_app() {
    let site = Site::in_directory().with_database_settings("locking_mode = \"exclusive\"");
    Connection::open(site.db())
        .unwrap()
        .execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1)")
        .unwrap();
    for life in 2..=4 {
        if life == 4 {
            site.wipe();
        }
        let script = format!(
            "import sqlite3, sys\nc = sqlite3.connect({:?}, timeout=0, isolation_level=None)\n\
             c.execute('SELECT count(*) FROM t').fetchall()\nc.execute('PRAGMA locking_mode=EXCLUSIVE').fetchall()\n\
             c.execute('INSERT INTO t VALUES (2)')",
            site.db()
        );
        let mut run = site.run(&["python3", "-c", &script]);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        assert_eq!(rows(&site), life, "{}", run.log_text());
    }
}

/// A connection for each request, some of them without a statement, in several threads: such an app shares
/// the database.
#[test]
fn an_app_with_a_connection_for_each_request_is_replicated_all_the_time() {
    let site = Site::in_directory();
    let script = "import os, sqlite3, sys, threading, time\ndb, go, end = sys.argv[1], sys.argv[2], time.time() + 4\n\
        def requests(n):\n  while time.time() < end:\n    c = sqlite3.connect(db, timeout=20, isolation_level=None)\n    \
        if n % 3: c.execute('INSERT INTO t VALUES (1)') if n % 3 == 1 else c.execute('SELECT count(*) FROM t').fetchall()\n    \
        c.close(); n += 1\n\
        threads = [threading.Thread(target=requests, args=(n,)) for n in range(4)]\n\
        [t.start() for t in threads]; [t.join() for t in threads]\nopen(go, 'w').close(); time.sleep(600)";
    let sql = "PRAGMA journal_mode=wal; CREATE TABLE t(x)";
    Connection::open(site.db()).unwrap().execute_batch(sql).unwrap();
    let mut run =
        site.run(&["python3", "-c", script, site.db().to_str().unwrap(), site.path("go").to_str().unwrap()]);
    crate::support::wait_until("its requests", SOON, || site.path("go").exists() || !run.is_running());
    assert_eq!(status(&site.config())["databases"][0]["state"], "replicating", "{}", run.log_text());
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert!(!run.log_text().contains("EXCLUSIVE"), "{}", run.log_text());
    let local = Connection::open(site.db())
        .unwrap()
        .query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(rows(&site), local.unwrap());
}

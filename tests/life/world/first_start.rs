//! First starts of apps that make their database in a rollback mode and wait for no lock: none of their
//! statements may meet a lock of ours, and the replica has the whole of it at the end.
//! `LITEVISOR_FIRST_STARTS=1000` starts more of them.

use super::*;
use crate::support::litevisor::As;
use crate::support::side_by_side;
use std::sync::Mutex;
use std::time::Duration;

const STARTS: u32 = 10;

fn starts() -> u32 {
    std::env::var("LITEVISOR_FIRST_STARTS").map_or(STARTS, |text| text.parse().unwrap())
}

fn schema() -> String {
    let tables: Vec<String> =
        (0..40).map(|at| format!("CREATE TABLE t{at}(x);\nINSERT INTO t{at} VALUES ({at});\n")).collect();
    format!("{}CREATE TABLE t(x);\nINSERT INTO t VALUES ('the end');\n", tables.concat())
}

fn every_start_succeeds(driver: &str, command: impl Fn(&Site, &Path) -> String + Sync) {
    let failed = Mutex::new(Vec::new());
    side_by_side(3, 0..starts(), |_| {
        let site = Site::in_directory();
        let schema_file = site.path("schema.sql");
        std::fs::write(&schema_file, schema()).unwrap();
        let line = command(&site, &schema_file);
        let config = site.config();
        let words = ["--config", config.to_str().unwrap(), "--", "sh", "-ec", &line];
        let mut run = Litevisor::run(As::Process, &words.map(Into::into));
        let ended = run.wait(SOON);
        if ended.code == 0 {
            agrees(&site, driver);
        } else {
            failed.lock().unwrap().push(run.log_text());
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} failed, the first: {}", failed.len(), starts(), failed[0]);
}

#[test]
fn of_the_sqlite_command_line() {
    every_start_succeeds("sqlite3", |site, schema| {
        let (db, schema) = (site.db(), schema.display());
        format!("[ -s {0} ] || sqlite3 -bail {0} < {schema}", db.display())
    });
}

#[test]
fn of_python_without_a_timeout() {
    let script = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n\
                  for s in open(sys.argv[2]):\n  c.execute(s)\n  time.sleep(0.005)\n";
    every_start_succeeds("python", |site, schema| {
        let file = site.path("app.py");
        std::fs::write(&file, script).unwrap();
        format!("python3 {} {} {}", file.display(), site.db().display(), schema.display())
    });
}

/// However long it takes: as long as it writes, nothing of ours locks the file, and no warning calls it
/// absent.
#[test]
fn of_one_that_loads_its_schema_for_longer_than_ten_seconds() {
    let site = Site::in_directory();
    let script = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n\
                  c.execute('CREATE TABLE t(x)')\nend = time.monotonic() + 13\n\
                  while time.monotonic() < end:\n  c.execute('INSERT INTO t VALUES (1)')\n  time.sleep(0.05)\n\
                  sys.exit(c.execute('PRAGMA journal_mode').fetchone() != ('delete',))";
    let mut run = site.run(&["python3", "-c", script, site.db().to_str().unwrap()]);
    let ended = run.wait(Duration::from_secs(60));
    let log = run.log_text();
    assert_eq!(ended.code, 0, "{log}");
    assert!(log.contains("not replicated yet") && !log.contains("there is no database"), "{log}");
    agrees(&site, "a slow start");
}

/// The sidecar is there before the app, and its disk is empty.
#[test]
fn beside_a_sidecar() {
    side_by_side(3, 0..starts(), |_| {
        let site = Site::in_directory();
        let schema_file = site.path("schema.sql");
        std::fs::write(&schema_file, schema()).unwrap();
        let mut sidecar = Litevisor::replicate(As::Process, &site.config(), &[]);
        sidecar.wait_for_log("the start", SOON, |line| line.contains("starting empty"));
        let mut app = std::process::Command::new("sqlite3");
        let loaded = app
            .arg("-bail")
            .arg(site.db())
            .stdin(std::fs::File::open(&schema_file).unwrap())
            .output()
            .unwrap();
        assert!(
            loaded.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&loaded.stderr),
            sidecar.log_text()
        );
        assert_eq!(sidecar.stop().code, 0, "{}", sidecar.log_text());
        agrees(&site, "beside a sidecar");
    });
}

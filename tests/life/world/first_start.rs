//! First starts of apps that make their database in a rollback mode and wait for no lock: none of their statements may meet a
//! lock of ours, and the replica has the whole of it at the end. `LITEVISOR_FIRST_STARTS=1000` starts more of them.

use super::*;
use crate::support::litevisor::As;

const STARTS: u32 = 10;

fn starts() -> u32 {
    std::env::var("LITEVISOR_FIRST_STARTS").map_or(STARTS, |text| text.parse().unwrap())
}

fn schema() -> String {
    let tables: Vec<String> =
        (0..40).map(|at| format!("CREATE TABLE t{at}(x);\nINSERT INTO t{at} VALUES ({at});\n")).collect();
    format!("{}CREATE TABLE t(x);\nINSERT INTO t VALUES ('the end');\n", tables.concat())
}

fn every_start_succeeds(driver: &str, command: impl Fn(&Site, &Path) -> String) {
    let mut failed = Vec::new();
    for _ in 0..starts() {
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
            failed.push(run.log_text());
        }
    }
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

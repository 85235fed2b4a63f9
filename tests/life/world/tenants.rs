//! The faults of the other files with fifty databases of a directory entry: each concerns its own database,
//! and no other.

use super::*;
use crate::support::asking::ask;
use crate::support::litevisor::{As, restore_url};
use std::time::Duration;

const COUNT: usize = 50;
/// Fifty restores and flushes on a slow machine.
const LONG: Duration = Duration::from_secs(120);

struct Tenants {
    site: Site,
    config: PathBuf,
}

impl Tenants {
    fn new() -> Tenants {
        let site = Site::in_directory();
        let (dir, bucket) = (site.disk(), site.path("bucket"));
        let text = format!(
            "[status]\nsocket = {:?}\n[[database]]\ndir = {dir:?}\nwatch = true\n[database.replica]\nurl = \"file://{}\"\n",
            site.path("status.sock"),
            bucket.display()
        );
        let config = site.path("tenants.toml");
        std::fs::write(&config, text).unwrap();
        Tenants { site, config }
    }

    fn db(&self, number: usize) -> PathBuf {
        self.site.disk().join(format!("{number}.db"))
    }

    fn make(&self, rows: u32) {
        (0..COUNT).for_each(|number| make(&self.db(number), "wal", 4096, rows));
    }

    fn run(&self, command: &[&str]) -> Litevisor {
        let words = [&["--config", self.config.to_str().unwrap(), "--"], command].concat();
        Litevisor::run(As::Process, &words.iter().map(Into::into).collect::<Vec<_>>())
    }

    /// A life in which the app does nothing. Its log.
    fn live(&self) -> String {
        let mut run = self.run(&["true"]);
        assert_eq!(run.wait(LONG).code, 0, "{}", run.log_text());
        run.log_text()
    }

    /// Rows of each database in the replica.
    fn rows(&self) -> Vec<usize> {
        let restored = |number: usize| {
            let out = self.site.path("out.db");
            let _ = std::fs::remove_file(&out);
            let restore =
                restore_url(&format!("file://{}/{number}.db", self.site.path("bucket").display()), &out);
            assert!(restore.status.success(), "{number}: {}", String::from_utf8_lossy(&restore.stderr));
            content(&out).len()
        };
        (0..COUNT).map(restored).collect()
    }
}

fn moved_over(db: &Path, rows: u32) {
    let other = db.with_extension("new");
    make(&other, "delete", 4096, rows);
    std::fs::rename(other, db).unwrap();
}

/// One entrypoint makes them all in a rollback mode, and waits for no lock.
#[test]
fn first_starts_meet_no_lock() {
    let tenants = Tenants::new();
    let script = "import sqlite3, sys\n\
                  cs = [sqlite3.connect(f'{sys.argv[1]}/{n}.db', timeout=0, isolation_level=None) for n in range(50)]\n\
                  for sql in ['CREATE TABLE t(x)'] + ['INSERT INTO t VALUES (1)'] * 4:\n  for c in cs: c.execute(sql)";
    let disk = tenants.site.disk();
    let mut run = tenants.run(&["python3", "-c", script, disk.to_str().unwrap()]);
    assert_eq!(run.wait(LONG).code, 0, "{}", run.log_text());
    assert_eq!(tenants.rows(), [4; COUNT], "{}", run.log_text());
}

#[test]
fn files_that_took_the_place_of_restored_ones_are_restored_again() {
    let tenants = Tenants::new();
    tenants.make(3);
    tenants.live();
    tenants.site.wipe();
    tenants.live();
    [7, 8].iter().for_each(|number| moved_over(&tenants.db(*number), 9));
    let log = tenants.live();
    assert_eq!(log.matches("another file was put in its place").count(), 2, "{log}");
    assert_eq!(log.matches("it continues the replica").count(), COUNT - 2, "{log}");
    assert_eq!(tenants.rows(), [3; COUNT], "{log}");
}

#[test]
fn one_is_restored_while_the_app_runs() {
    let tenants = Tenants::new();
    tenants.make(3);
    tenants.live();
    let before = open(&tenants.db(7));
    insert(&before, 2);
    drop(before);
    let mut run = tenants.run(&["sleep", "600"]);
    run.wait_for_app();
    wait_until("replication", SOON, || ask(&tenants.config, &["sync"]).code == 0);
    let db = tenants.db(7);
    let said =
        ask(&tenants.config, &["restore", db.to_str().unwrap(), "--force", "--txid", "0000000000000002"]);
    assert_eq!(said.code, 0, "{}\n{}", said.err, run.log_text());
    assert_eq!(content(&db).len(), 3);
    wait_until("all again", SOON, || ask(&tenants.config, &["sync"]).code == 0);
    insert(&open(&db), 1);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let rows = tenants.rows();
    assert!(rows[7] == 4 && rows.iter().filter(|rows| **rows == 3).count() == COUNT - 1, "{rows:?}");
}

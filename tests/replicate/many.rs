//! Many databases in one process: named one by one or found in a directory and in its replica; also those
//! that appear while the app runs. `LITEVISOR_TEST_MANY=500` makes the crowd larger than CI's.

use crate::support::process::{Ended, Process};
use crate::support::replica::Replica;
use crate::support::{SOON, bank, litestream, wait_until};
use nix::sys::signal::{Signal, kill};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For hundreds of databases on a slow machine.
pub(super) const LONG: Duration = Duration::from_secs(120);
/// The app: ends of SIGTERM.
pub(super) const SLEEP: &str = "exec sleep 600";

fn crowd() -> usize {
    std::env::var("LITEVISOR_TEST_MANY").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// A disk, and replicas under one prefix.
pub(super) struct Place {
    directory: tempfile::TempDir,
    replicas: Replica,
}

impl Place {
    pub fn in_directory() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let replicas = Replica::Directory(directory.path().join("bucket"));
        Place { directory, replicas }
    }

    pub fn in_s3(bucket: &str) -> Place {
        Place { directory: tempfile::tempdir().unwrap(), replicas: Replica::s3(bucket, "tenants") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    pub fn db(&self, name: &str) -> PathBuf {
        self.disk().join(name)
    }

    pub fn replica(&self, name: &str) -> Replica {
        self.replicas.below(name)
    }

    /// One entry for each of `names`.
    fn one_by_one(&self, names: &[String]) -> String {
        let entry = |name: &String| {
            let replica = self.replica(name).toml();
            format!("[[database]]\npath = \"{}\"\n[database.replica]\n{replica}", self.db(name).display())
        };
        names.iter().map(entry).collect()
    }

    /// One entry for all.
    pub fn as_directory(&self, keys: &str) -> String {
        let replica = self.replicas.toml();
        format!("[[database]]\ndir = \"{}\"\n{keys}\n[database.replica]\n{replica}", self.disk().display())
    }

    pub fn command(&self, config: &str, limits: &str, words: &[&str]) -> Command {
        let file = self.path("supervisor.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("{limits} exec \"$@\""),
            "sh",
            env!("CARGO_BIN_EXE_litevisor"),
            words[0],
        ]);
        command.arg("--config").arg(file).args(&words[1..]);
        command
    }

    /// litevisor with an app of `sh -c`, once that app runs.
    pub fn start(&self, config: &str, limits: &str, app: &str) -> Process {
        let mark = self.path("started");
        let _ = std::fs::remove_file(&mark);
        let app = format!("touch {}; {app}", mark.display());
        let mut process = Process::start(self.command(config, limits, &["run", "--", "sh", "-c", &app]));
        let started = std::time::Instant::now() + LONG;
        while !mark.exists() {
            assert!(process.is_running() && std::time::Instant::now() < started, "{}", process.log_text());
            std::thread::sleep(Duration::from_millis(5));
        }
        process
    }

    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.disk()).unwrap();
    }

    /// What Litestream makes of it.
    pub fn assert_litestream_agrees(&self, name: &str, rows: i64) {
        let out = self.path("judged.db");
        litestream::restore(&self.replica(name), &out).unwrap_or_else(|said| panic!("{name}: {said}"));
        assert_eq!(sum(&out), rows, "{name}");
    }
}

pub(super) fn stop(process: &mut Process) -> Ended {
    kill(process.pid(), Signal::SIGTERM).unwrap();
    process.wait(LONG)
}

/// As an app does; the first time in the journal mode that SQLite begins with.
pub(super) fn write(db: &Path, value: i64, mode: &str) {
    let app = rusqlite::Connection::open(db).unwrap();
    app.busy_timeout(SOON).unwrap();
    app.execute_batch(&format!(
        "PRAGMA journal_mode={mode}; CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES ({value});"
    ))
    .unwrap();
}

pub(super) fn sum(db: &Path) -> i64 {
    bank::read_only(db).query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).unwrap()
}

fn a_crowd_survives_its_disk(place: &Place) {
    let names: Vec<String> = (0..crowd()).map(|number| format!("tenant-{number}.db")).collect();
    let config = place.one_by_one(&names);
    std::fs::create_dir(place.disk()).unwrap();
    let told = place.path("limit");
    let app = format!("ulimit -Sn > {}; {SLEEP}", told.display());
    let mut run = place.start(&config, "ulimit -Sn 256;", &app);
    for (number, name) in (1..).zip(&names) {
        write(&place.db(name), number, if number % 2 == 0 { "wal" } else { "delete" });
    }
    let ended = stop(&mut run);
    assert_eq!(ended.code, 143, "{}", run.log_text());
    assert_eq!(std::fs::read_to_string(&told).unwrap().trim(), "256", "the app's own limit");
    for number in [1, names.len().div_ceil(2), names.len()] {
        place.assert_litestream_agrees(&names[number - 1], i64::try_from(number).unwrap());
    }
    place.wipe();
    let mut run = place.start(&config, "ulimit -Sn 256;", "exit 0");
    assert_eq!(run.wait(LONG).code, 0, "{}", run.log_text());
    for (number, name) in (1..).zip(&names) {
        assert_eq!(sum(&place.db(name)), number, "{name}");
    }
}

#[test]
fn a_crowd_survives_its_disk_in_a_directory() {
    a_crowd_survives_its_disk(&Place::in_directory());
}

#[test]
fn a_crowd_survives_its_disk_in_a_bucket() {
    a_crowd_survives_its_disk(&Place::in_s3("crowd"));
}

#[test]
fn too_few_descriptors_are_told_before_anything_begins() {
    let place = Place::in_directory();
    let names: Vec<String> = (0..60).map(|number| format!("{number}.db")).collect();
    let words = ["run", "--", "true"];
    let mut run = Process::start(place.command(&place.one_by_one(&names), "ulimit -n 256;", &words));
    assert_eq!(run.wait(SOON).code, 78, "{}", run.log_text());
    let told = run.log_text();
    assert!(told.contains("for 60 databases 780 open files are needed, but the limit is 256"), "{told}");
}

pub(super) fn replicated(place: &Place, name: &str) -> bool {
    place.replica(name).newest_txid() > 0
}

fn databases_of_a_directory_come_and_come_back(place: &Place) {
    let config = place.as_directory("");
    let mut run = place.start(&config, "", SLEEP);
    std::fs::create_dir(place.disk()).unwrap();
    std::fs::write(place.db("junk.db"), "no database").unwrap();
    std::fs::write(place.db("late.db"), "").unwrap();
    write(&place.db("other.sqlite"), 1, "wal");
    write(&place.db("a.db"), 1, "delete");
    write(&place.db("b.db"), 2, "wal");
    wait_until("both in the replica", SOON, || replicated(place, "a.db") && replicated(place, "b.db"));
    // The directory does not change any more when a file in it becomes a database.
    write(&place.db("late.db"), 4, "wal");
    wait_until("the late one in the replica", SOON, || replicated(place, "late.db"));
    write(&place.db("a.db"), 10, "wal");
    write(&place.db("last.db"), 8, "wal");
    let ended = stop(&mut run);
    assert_eq!(ended.code, 143, "{}", run.log_text());
    let told = run.log_text();
    assert_eq!(told.matches("junk.db is not an SQLite database").count(), 1, "{told}");
    assert!(!told.contains("other.sqlite"), "{told}");
    for (name, rows) in [("a.db", 11), ("b.db", 2), ("late.db", 4), ("last.db", 8)] {
        place.assert_litestream_agrees(name, rows);
    }

    // What is no replica of a database is left alone, whatever its name.
    if let Replica::Directory(root) = &place.replicas {
        std::fs::create_dir_all(root.join("plain/ltx")).unwrap();
        std::fs::create_dir_all(root.join("empty.db/sub")).unwrap();
    }
    place.wipe();
    let mut run = place.start(&place.as_directory("watch = false"), "", SLEEP);
    let mut names: Vec<String> = std::fs::read_dir(place.disk()).unwrap().flatten().map(name_of).collect();
    names.retain(|name| name.ends_with(".db") && !name.starts_with('.'));
    names.sort();
    assert_eq!(names, ["a.db", "b.db", "last.db", "late.db"]);
    // With `watch = false` only those; what comes later is reported.
    write(&place.db("b.db"), 20, "wal");
    write(&place.db("unasked.db"), 1, "wal");
    let ended = stop(&mut run);
    let log = run.log_text();
    assert!(
        log.contains("NOT REPLICATED: it appeared after the start") && log.contains("unasked.db"),
        "{log}"
    );
    assert_eq!(ended.code, 143, "{}", run.log_text());
    assert!(!replicated(place, "unasked.db"));

    place.wipe();
    let command = place.command(&place.as_directory(""), "", &["restore"]).output().unwrap();
    assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    for (name, rows) in [("a.db", 11), ("b.db", 22), ("late.db", 4), ("last.db", 8)] {
        assert_eq!(sum(&place.db(name)), rows, "{name}");
    }
}

fn name_of(entry: std::fs::DirEntry) -> String {
    entry.file_name().into_string().unwrap()
}

#[test]
fn databases_of_a_directory_come_and_come_back_from_a_directory() {
    databases_of_a_directory_come_and_come_back(&Place::in_directory());
}

#[test]
fn databases_of_a_directory_come_and_come_back_from_a_bucket() {
    databases_of_a_directory_come_and_come_back(&Place::in_s3("directory"));
}

/// A database of an app that ends at once.
#[test]
fn the_last_flush_covers_what_has_just_appeared() {
    let place = Place::in_directory();
    std::fs::create_dir(place.disk()).unwrap();
    let (db, ack) = (place.db("bank.db"), place.path("ack"));
    let app =
        format!("{} run --db {} --ack {} --count 5", bank::binary().display(), db.display(), ack.display());
    let mut run = place.start(&place.as_directory("watch = true"), "", &app);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    let out = place.path("judged.db");
    litestream::restore(&place.replica("bank.db"), &out).unwrap();
    bank::check(&out, &ack, None).unwrap_or_else(|wrong| panic!("{wrong}\n{}", run.log_text()));
}

/// A tenant of that name lives in the bucket already, unknown at the start.
#[test]
fn what_appears_does_not_become_the_head_of_another_history() {
    let place = Place::in_directory();
    let config = place.as_directory("pattern = \"*.db\"\nwatch = true");
    std::fs::create_dir(place.disk()).unwrap();
    write(&place.db("a.db"), 1, "wal");
    let mut run = place.start(&config, "", SLEEP);
    assert_eq!(stop(&mut run).code, 143, "{}", run.log_text());
    let (bucket, away) = (place.path("bucket/a.db"), place.path("away"));
    std::fs::rename(&bucket, &away).unwrap();
    place.wipe();
    std::fs::create_dir(place.disk()).unwrap();

    let mut run = place.start(&config, "", SLEEP);
    std::fs::rename(&away, &bucket).unwrap();
    let before = place.replica("a.db").objects();
    write(&place.db("a.db"), 100, "wal");
    write(&place.db("b.db"), 2, "wal");
    run.wait_for_log("a.db is refused", SOON, |line| {
        line.contains("NOT REPLICATED") && line.contains("a.db")
    });
    wait_until("the other one in the replica", SOON, || replicated(&place, "b.db"));
    write(&place.db("a.db"), 100, "wal");
    assert!(run.is_running(), "the app is stopped for it");
    assert_eq!(stop(&mut run).code, 74, "{}", run.log_text());
    let told = run.log_text();
    assert!(
        told.contains("INCOMPLETE")
            && told.contains("\"missing\":\"everything after none")
            && told.contains("holds another history"),
        "{told}"
    );
    assert_eq!(place.replica("a.db").objects(), before);
    place.assert_litestream_agrees("a.db", 1);
    place.assert_litestream_agrees("b.db", 2);
}

/// Names that cannot be replicated: said at once, in the status and at the end; all others are replicated and
/// come back.
#[test]
fn a_name_that_cannot_be_replicated_hinders_no_other() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::in_s3("many-names");
    let long = format!("{}.db", "n".repeat(236));
    let bad = [b"a\\b.db".as_slice(), b"\xff.db", b"new\nline.db", long.as_bytes()]
        .map(std::ffi::OsStr::from_bytes);
    let config = place.as_directory("watch = true");
    std::fs::create_dir(place.disk()).unwrap();
    write(&place.db("early.db"), 1, "wal");
    write(&place.disk().join(bad[0]), 7, "wal");
    for round in 0..2 {
        let mut run = place.start(&config, "", SLEEP);
        assert!(run.log_text().contains("NOT REPLICATED") == (round == 0), "{}", run.log_text());
        if round == 0 {
            for name in bad {
                write(&place.disk().join(name), 7, "wal");
            }
            write(&place.db("late.db"), 2, "wal");
            wait_until("the late one in its replica", SOON, || replicated(&place, "late.db"));
            wait_until("word of all four", SOON, || {
                run.log_text().matches("NOT REPLICATED").count() == bad.len()
            });
        }
        let ended = stop(&mut run);
        assert_eq!(ended.code, if round == 0 { 74 } else { 143 }, "{}", run.log_text());
        assert!(round == 1 || run.log_text().contains("everything of this run"), "{}", run.log_text());
        for (name, value) in [("early.db", 1), ("late.db", 2)] {
            place.assert_litestream_agrees(name, value);
        }
        place.wipe();
        std::fs::create_dir(place.disk()).unwrap();
    }
}

/// An earlier version replicated longer names than can be restored.
#[test]
fn a_name_in_the_bucket_that_cannot_be_restored_hinders_no_other() {
    let place = Place::in_directory();
    let config = place.as_directory("");
    std::fs::create_dir(place.disk()).unwrap();
    write(&place.db("good.db"), 3, "wal");
    let mut run = place.start(&config, "", SLEEP);
    assert_eq!(stop(&mut run).code, 143, "{}", run.log_text());
    let bucket = place.path("bucket");
    let copied = Command::new("cp")
        .arg("-a")
        .args([bucket.join("good.db"), bucket.join(format!("{}.db", "n".repeat(236)))])
        .status();
    assert!(copied.unwrap().success());
    place.wipe();
    let mut run = place.start(&config, "", SLEEP);
    assert_eq!(sum(&place.db("good.db")), 3);
    assert_eq!(run.log_text().matches("NOT REPLICATED").count(), 1, "{}", run.log_text());
    assert_eq!(stop(&mut run).code, 74, "{}", run.log_text());
}

//! The database file is overwritten, replaced or removed while it is replicated, with and without an app that
//! has it open. All lights are red until what stands there is whole; then the replica has it.

use super::*;
use crate::support::asking::{ask, free_port, http, status, wait_for_status};
use crate::support::litevisor::As;
use crate::support::side_by_side;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// How a backup gets into the place of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `cat backup > app.db`
    Overwrite,
    /// `rm app.db-wal app.db-shm; cat backup > app.db`
    OverwriteWithoutSides,
    /// `rm app.db-wal app.db-shm; mv backup app.db`
    Rename,
    /// `rm app.db app.db-wal app.db-shm`, and a new one is made.
    Anew,
}

const WAYS: [Way; 4] = [Way::Overwrite, Way::OverwriteWithoutSides, Way::Rename, Way::Anew];

fn replace(site: &Site, way: Way, mode: &str, rows: u32) {
    let backup = site.path("backup.db");
    make(&backup, mode, 4096, rows);
    let [db, wal, shm] = sides(&site.db());
    if way != Way::Overwrite {
        for side in [&wal, &shm] {
            let _ = std::fs::remove_file(side);
        }
    }
    match way {
        Way::Overwrite | Way::OverwriteWithoutSides => {
            std::fs::write(&db, std::fs::read(&backup).unwrap()).unwrap();
        }
        Way::Rename => std::fs::rename(&backup, &db).unwrap(),
        Way::Anew => {
            std::fs::remove_file(&db).unwrap();
            make(&db, mode, 4096, rows);
        }
    }
    let _ = std::fs::remove_file(&backup);
}

/// Another process that has the database open: a row for every line.
struct Holder {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Holder {
    fn open(db: &Path) -> Holder {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)\n\
                      c.execute('select count(*) from t').fetchall()\nprint('open', flush=True)\n\
                      for _ in sys.stdin:\n  c.execute('insert into t values (randomblob(2000))')\n  print('', flush=True)\n\
                      c.close()";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(db)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut holder = Holder { child, answers };
        holder.answer();
        holder
    }

    fn answer(&mut self) {
        let mut line = String::new();
        assert!(self.answers.read_line(&mut line).unwrap() > 0, "the holder has died");
    }

    fn insert(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.answer();
    }

    fn close(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A site whose status can be asked for, and its port.
fn asked() -> (Site, u16) {
    let (mut site, port) = (Site::in_directory(), free_port());
    let socket = site.path("litevisor.sock");
    site.settings =
        format!("[shutdown]\ngrace = \"8s\"\n[status]\nsocket = {socket:?}\nlisten = \"127.0.0.1:{port}\"\n");
    (site, port)
}

fn database(value: &serde_json::Value) -> &str {
    value.pointer("/databases/0/state").and_then(|state| state.as_str()).unwrap_or_default()
}

fn green_again(site: &Site, port: u16, before: u64) {
    wait_until("what is there now to be in the replica", SOON, || site.replica.newest_txid() > before);
    wait_for_status("a green state", &site.config(), |value| database(value) == "replicating");
    wait_until("/readyz", SOON, || http(port, "GET", "/readyz").0 == 200);
    let synced = ask(&site.config(), &["sync"]);
    assert_eq!(synced.code, 0, "{synced:?}");
}

#[test]
fn no_process_has_it_open() {
    let cases = WAYS.into_iter().flat_map(|way| [(way, "wal", 60), (way, "delete", 2)]);
    side_by_side(4, cases, |(way, mode, rows)| {
        let (site, port) = asked();
        make(&site.db(), "wal", 4096, 20);
        let run = replicating(&site);
        insert(&open(&site.db()), 3);
        settle(&site);
        assert_eq!(ask(&site.config(), &["sync"]).code, 0);
        let before = site.replica.newest_txid();
        replace(&site, way, mode, rows);
        green_again(&site, port, before);
        insert(&open(&site.db()), 2);
        let when = format!("{way:?} {mode} {rows}");
        let log = stopped(run, &site, &when);
        assert_eq!(content(&site.db()).len() as u32, rows + 2, "{when}");
        assert!(log.contains("overwritten") || log.contains("replaced or removed"), "{when}: {log}");
    });
}

#[test]
fn an_app_has_it_open_until_it_is_restarted() {
    let cases = WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]);
    side_by_side(4, cases, |(way, killed)| {
        let (site, port) = asked();
        make(&site.db(), "wal", 4096, 20);
        let mut holder = Holder::open(&site.db());
        let run = replicating(&site);
        holder.insert();
        settle(&site);
        assert_eq!(ask(&site.config(), &["sync"]).code, 0);
        let before = site.replica.newest_txid();
        replace(&site, way, "wal", 60);
        wait_for_status("a red state", &site.config(), |value| database(value) == "replaced");
        let told = wait_for_status("what to do", &site.config(), |value| {
            value.to_string().contains("estart the app")
        });
        let (ready, reasons) = http(port, "GET", "/readyz");
        assert_eq!(ready, 503, "{way:?}: {reasons}");
        let synced = ask(&site.config(), &["sync", "--timeout", "1s"]);
        assert_eq!(synced.code, 74, "{way:?}: {synced:?} {told}");
        assert_eq!(site.replica.newest_txid(), before, "{way:?}: nothing is uploaded meanwhile");
        if killed {
            holder.kill()
        } else {
            holder.close()
        }
        green_again(&site, port, before);
        let when = format!("{way:?}, killed {killed}");
        stopped(run, &site, &when);
        assert_eq!(content(&site.db()).len(), 60, "{when}");
    });
}

#[test]
fn an_app_that_has_it_open_to_the_end_is_no_success() {
    side_by_side(4, WAYS, |way| {
        let (site, _) = asked();
        make(&site.db(), "wal", 4096, 20);
        let mut holder = Holder::open(&site.db());
        let mut run = replicating(&site);
        holder.insert();
        settle(&site);
        replace(&site, way, "wal", 60);
        wait_for_status("a red state", &site.config(), |value| database(value) == "replaced");
        assert_eq!(run.stop().code, 74, "{way:?}: {}", run.log_text());
        holder.kill();
    });
}

/// Pages of the file are garbage: the replica keeps what was there before, and the message says how to get it
/// back.
#[test]
fn what_is_no_sound_database_is_not_uploaded() {
    let (site, port) = asked();
    make(&site.db(), "wal", 4096, 20);
    let mut run = replicating(&site);
    settle(&site);
    assert_eq!(ask(&site.config(), &["sync"]).code, 0);
    let before = site.replica.newest_txid();
    let wanted = content(&site.db());
    let mut bytes = std::fs::read(site.db()).unwrap();
    let end = bytes.len();
    bytes[4096..end].fill(7);
    std::fs::write(site.db(), bytes).unwrap();
    run.wait_for_complaint("is no sound database", SOON);
    assert_eq!(http(port, "GET", "/readyz").0, 503);
    assert_eq!(database(&status(&site.config())), "replaced");
    assert_eq!(run.stop().code, 74, "{}", run.log_text());
    assert_eq!(site.replica.newest_txid(), before);
    let out = site.path("theirs.db");
    litestream::restore(&site.replica, &out).unwrap();
    assert!(content(&out) == wanted);
    // As the message says.
    for file in sides(&site.db()) {
        let _ = std::fs::remove_file(file);
    }
    let run = replicating(&site);
    assert!(content(&site.db()) == wanted);
    stopped(run, &site, "restored");
}

#[test]
fn beside_an_app_of_its_own() {
    let (site, port) = asked();
    make(&site.db(), "wal", 4096, 20);
    let mut sidecar = Litevisor::replicate(As::Process, &site.config(), &[]);
    wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    let mut holder = Holder::open(&site.db());
    holder.insert();
    settle(&site);
    assert_eq!(ask(&site.config(), &["sync"]).code, 0);
    let before = site.replica.newest_txid();
    replace(&site, Way::Overwrite, "wal", 60);
    wait_for_status("a red state", &site.config(), |value| database(value) == "replaced");
    holder.close();
    green_again(&site, port, before);
    assert_eq!(sidecar.stop().code, 0, "{}", sidecar.log_text());
    agrees(&site, "replicate");
}

#[test]
fn one_of_several_in_a_directory() {
    let (site, _) = asked();
    let [tenants, bucket] = ["tenants", "all"].map(|name| site.path(name));
    std::fs::create_dir(&tenants).unwrap();
    for name in ["a.db", "b.db", "c.db"] {
        make(&tenants.join(name), "wal", 4096, 5);
    }
    let text = format!(
        "{}\n[[database]]\ndir = {tenants:?}\n[database.replica]\nurl = \"file://{}\"\n",
        site.settings,
        bucket.display()
    );
    let config = site.path("many.toml");
    std::fs::write(&config, text).unwrap();
    let words = ["--config", config.to_str().unwrap(), "--", "sleep", "1000"];
    let mut run = Litevisor::run(As::Process, &words.map(Into::into));
    let state = |value: &serde_json::Value, at: usize| {
        value
            .pointer(&format!("/databases/{at}/state"))
            .and_then(|state| state.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    wait_for_status("all three", &config, |value| (0..3).all(|at| state(value, at) == "replicating"));
    let holder = Holder::open(&tenants.join("b.db"));
    assert_eq!(ask(&config, &["sync"]).code, 0);
    let backup = site.path("backup.db");
    make(&backup, "wal", 4096, 50);
    std::fs::write(tenants.join("b.db"), std::fs::read(&backup).unwrap()).unwrap();
    wait_for_status("one in red", &config, |value| {
        [0, 1, 2].map(|at| state(value, at) == "replaced") == [false, true, false]
    });
    holder.close();
    wait_for_status("all in green", &config, |value| (0..3).all(|at| state(value, at) == "replicating"));
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let out = site.path("b.out");
    let restore = crate::support::litevisor::restore_url(&format!("file://{}/b.db", bucket.display()), &out);
    assert!(restore.status.success());
    assert_eq!(content(&out).len(), 50);
}

/// The last flush closes the database as SQLite does: a backup that is copied over the file while nothing
/// runs is a whole database, not one to which an old `-wal` belongs.
#[test]
fn a_backup_is_copied_over_it_between_two_runs() {
    for rows in [60, 2] {
        let site = Site::in_directory();
        make(&site.db(), "wal", 4096, 20);
        let run = replicating(&site);
        insert(&open(&site.db()), 3);
        stopped(run, &site, "the first run");
        assert!(!sides(&site.db())[1].exists(), "the -wal was left");
        // Nothing has happened to it: it is kept, and nothing is uploaded.
        let before = site.replica.newest_txid();
        let log = stopped(running(&site), &site, "the second run");
        assert!(log.contains("it continues the replica"), "{log}");
        assert_eq!(site.replica.newest_txid(), before, "{log}");
        replace(&site, Way::Overwrite, "wal", rows);
        let run = running(&site);
        insert(&open(&site.db()), 1);
        stopped(run, &site, "after the backup");
        assert_eq!(content(&site.db()).len() as u32, rows + 1);
    }
}

/// SQLite's own way, with the app running: for all who have the database open it is a transaction.
#[test]
fn a_backup_is_restored_by_sqlite() {
    let (site, _) = asked();
    make(&site.db(), "wal", 4096, 20);
    let mut holder = Holder::open(&site.db());
    let run = replicating(&site);
    holder.insert();
    let backup = site.path("backup.db");
    make(&backup, "delete", 4096, 60);
    let restored = Command::new("sqlite3")
        .arg(site.db())
        .args([".timeout 5000", &format!(".restore {}", backup.display())])
        .status();
    assert!(restored.unwrap().success());
    holder.insert();
    assert_eq!(ask(&site.config(), &["sync"]).code, 0);
    holder.close();
    let log = stopped(run, &site, "restored by sqlite3");
    assert_eq!(content(&site.db()).len(), 61);
    assert!(!log.contains("overwritten") && !log.contains("replaced"), "{log}");
}

/// Nothing proves that a file that is moved there continues the replica; less so beside the WAL of the one
/// before.
#[test]
fn another_file_is_moved_there_between_two_runs() {
    for wal_is_left in [false, true] {
        let site = Site::in_directory();
        make(&site.db(), "wal", 4096, 20);
        let run = replicating(&site);
        insert(&open(&site.db()), 3);
        wait_until("the WAL", SOON, || {
            std::fs::metadata(&sides(&site.db())[1]).is_ok_and(|meta| meta.len() > 0)
        });
        let wal = std::fs::read(&sides(&site.db())[1]).unwrap();
        stopped(run, &site, "the first run");
        let wanted = content(&site.db());
        let other = site.path("other.db");
        make(&other, "delete", 4096, 60);
        std::fs::rename(&other, site.db()).unwrap();
        if wal_is_left {
            std::fs::write(&sides(&site.db())[1], wal).unwrap();
        }
        let log = stopped(running(&site), &site, "the second run");
        assert!(log.contains("replacing the local file by the replica's state"), "{log}");
        assert!(content(&site.db()) == wanted, "{log}");
    }
}

/// The same for a file that was restored, and from which nothing has been uploaded since; also after a kill.
#[test]
fn another_file_is_moved_in_the_place_of_a_restored_one() {
    for killed in [false, true] {
        let site = Site::in_directory();
        make(&site.db(), "wal", 4096, 20);
        let run = replicating(&site);
        stopped(run, &site, "the first run");
        let wanted = content(&site.db());
        site.wipe();
        let mut run = running(&site);
        if killed {
            run.kill_everything();
        } else {
            run.stop();
        }
        for side in &sides(&site.db())[1..] {
            let _ = std::fs::remove_file(side);
        }
        let other = site.disk().join("other.db");
        make(&other, "delete", 4096, 60);
        std::fs::rename(&other, site.db()).unwrap();
        let log = stopped(running(&site), &site, "the last run");
        assert!(log.contains("another file was put in its place"), "{log}");
        assert!(content(&site.db()) == wanted, "{log}");
    }
}

/// A sidecar replaces no file: it refuses to start.
#[test]
fn a_sidecar_refuses_what_took_the_place_of_a_restored_file() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 20);
    stopped(replicating(&site), &site, "the first run");
    site.wipe();
    running(&site).stop();
    let other = site.disk().join("other.db");
    make(&other, "delete", 4096, 60);
    std::fs::rename(&other, site.db()).unwrap();
    let before = site.replica.newest_txid();
    let mut sidecar = Litevisor::replicate(As::Process, &site.config(), &[]);
    assert_eq!(sidecar.wait(SOON).code, 65, "{}", sidecar.log_text());
    assert!(sidecar.log_text().contains("another file was put in its place"), "{}", sidecar.log_text());
    assert_eq!((content(&site.db()).len(), site.replica.newest_txid()), (60, before));
}

/// A backup that was moved over the database between two runs is replaced, and may be a user's only copy: it
/// is kept, once, and its rows can be brought back.
#[test]
fn a_file_that_is_replaced_at_the_start_is_kept() {
    let site = Site::in_directory();
    make(&site.db(), "wal", 4096, 3);
    let live = |site: &Site| {
        let mut run = site.run(&["true"]);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        run.log_text()
    };
    live(&site);
    let kept = |number: u32| site.disk().join(format!(".bank.db-litevisor/replaced-{number}/bank.db"));
    for number in 1..=4 {
        let backup = site.path("backup.db");
        make(&backup, "delete", 4096, 10 + number);
        for side in &sides(&site.db())[1..] {
            let _ = std::fs::remove_file(side);
        }
        std::fs::rename(&backup, site.db()).unwrap();
        let log = live(&site);
        assert_eq!(content(&site.db()).len(), 3, "{log}");
        assert_eq!(log.contains("the file that was replaced is kept"), number <= 2, "{log}");
        assert_eq!(log.contains("is removed, not kept: 2 of them are kept already"), number > 2, "{log}");
        assert!(!live(&site).contains("replaced"), "the next start has nothing to replace");
    }
    assert_eq!([1, 2].map(|number| content(&kept(number)).len()), [11, 12]);
    assert!(!kept(3).exists());
    let run = replicating(&site);
    let restore = "import sqlite3, sys\na, b = map(sqlite3.connect, sys.argv[1:])\na.backup(b)";
    let words = [kept(1), site.db()];
    assert!(Command::new("python3").args(["-c", restore]).args(words).status().unwrap().success());
    stopped(run, &site, "with the rows of the backup");
    assert_eq!(content(&site.db()).len(), 11);
}

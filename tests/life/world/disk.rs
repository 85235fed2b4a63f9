//! Disks and files that are not as one wishes: full, read-only, links, other kinds of files. The app goes on
//! or is not started, and the log says why; never is another writer suspected, and nothing waits for ever.

use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::{SOON, litestream};
use rusqlite::Connection;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::process::Command;

/// litevisor on a disk of its own: `mount` is a line of shell that mounts something at "$0".
fn on_mount(site: &Site, mount: &str, command: &[String]) -> Process {
    on_mount_with(site, &site.config(), mount, command)
}

fn on_mount_with(site: &Site, config: &std::path::Path, mount: &str, command: &[String]) -> Process {
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare.args(["--mount", "--", "sh", "-c"]).arg(format!("{mount} && exec \"$@\"")).arg(site.disk());
    unshare.arg(env!("CARGO_BIN_EXE_litevisor")).args(["run", "--config"]).arg(config).arg("--");
    unshare.args(command.iter().map(OsString::from));
    Process::start(unshare)
}

const READ_ONLY: &str = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"";

/// What is acknowledged was committed; the record cannot be written, and the WAL not be copied.
#[test]
fn a_full_disk_is_no_other_writer_and_loses_nothing() {
    let site = Site::in_directory();
    let words = site.bank_words(&["--rate", "max"]);
    let mut run = on_mount(&site, "mount -t tmpfs -o size=1m none \"$0\"", &words);
    let ended = run.wait(3 * SOON);
    assert_ne!(ended.code, 75, "{}", run.log_text());
    assert_ne!(ended.code, 74, "{}", run.log_text());
    assert!(site.acked() > 0);
    site.assert_replica_holds_everything("the disk was full");
}

/// 25 MB of rows, written anew again and again in transactions of 1 MB, deleted at the end.
const TENANT: &str = r#"
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
c.execute("PRAGMA journal_mode=wal")
c.execute("PRAGMA synchronous=NORMAL")
c.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x BLOB)")
for turn in range(6):
    for i in range(25):
        c.execute("INSERT OR REPLACE INTO t VALUES (?, randomblob(1000000))", (i,))
        time.sleep(0.05)
    print("turn", turn, file=sys.stderr, flush=True)
c.execute("DELETE FROM t WHERE id >= 2")
print("done", c.execute("SELECT count(*) FROM t").fetchone()[0], file=sys.stderr, flush=True)
"#;

const SMALL: &str = "mount -t tmpfs -o size=64m none \"$0\"";

fn tenant(site: &Site) -> Vec<String> {
    ["python3", "-c", TENANT, site.db().to_str().unwrap()].map(String::from).to_vec()
}

/// What fits on a small disk under SQLite's own checkpoints fits with us, too, and can be deleted.
#[test]
fn data_that_fit_on_a_small_disk_fit_with_us() {
    let site = Site::in_directory();
    let mut plain = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        plain.arg("--map-root-user");
    }
    plain.args(["--mount", "--", "sh", "-c"]).arg(format!("{SMALL} && exec \"$@\"")).arg(site.disk());
    let plain = plain.args(tenant(&site)).output().unwrap();
    assert!(plain.status.success(), "they must fit without us: {}", String::from_utf8_lossy(&plain.stderr));
    let mut run = on_mount(&site, SMALL, &tenant(&site));
    let ended = run.wait(3 * SOON);
    assert_eq!(ended.code, 0, "{}", run.log_text());
    assert_eq!(count(&site), 2, "{}", run.log_text());
}

/// The same for a database of a directory entry, beside another one.
#[test]
fn data_that_fit_on_a_small_disk_fit_with_a_directory_of_databases() {
    let mut site = Site::in_directory();
    let bucket = site.path("bucket");
    let config = site.path("dir.toml");
    let text = format!(
        "[[database]]\ndir = {:?}\nwatch = true\n[database.replica]\nurl = {bucket:?}\n",
        site.disk()
    );
    std::fs::write(&config, text).unwrap();
    let other = site.disk().join("other.db");
    let script = format!(
        "import sqlite3, sys\nsqlite3.connect({other:?}).executescript('PRAGMA journal_mode=wal; CREATE \
         TABLE t(x); INSERT INTO t VALUES (7)')\n{TENANT}"
    );
    let words = ["python3", "-c", &script, site.db().to_str().unwrap()].map(String::from);
    let mut run = on_mount_with(&site, &config, SMALL, &words);
    let ended = run.wait(3 * SOON);
    assert_eq!(ended.code, 0, "{}", run.log_text());
    let top = site.replica.clone();
    for (name, rows) in [("bank.db", 2), ("other.db", 1)] {
        site.replica = top.below(name);
        assert_eq!(count(&site), rows, "{name}: {}", run.log_text());
    }
}

/// The same while the store takes nothing: there is no room to spill, and what changed is uploaded when it is
/// back.
#[test]
fn data_that_fit_on_a_small_disk_fit_with_the_store_away() {
    use crate::support::gate::{Gate, Mood};
    let budget = "[shutdown]\ngrace = \"60s\"\napp_timeout = \"3s\"";
    let mut site = Site::in_s3("small-disk-away").with_settings(budget);
    let gate = Gate::before(&crate::support::seaweed::Seaweed::shared().endpoint(), Mood::Open);
    site.replica = site.replica.at(&gate.endpoint());
    let go = site.path("go");
    let mut words: Vec<String> = vec![
        "sh".into(),
        "-c".into(),
        "python3 -c 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(\"PRAGMA \
         journal_mode=wal\"); c.execute(\"CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)\")' \"$5\"; while [ \
         ! -e \"$0\" ]; do sleep 0.02; done; shift; exec \"$@\""
            .into(),
        go.to_str().unwrap().into(),
        "-".into(),
    ];
    words.extend(tenant(&site));
    let mut run = on_mount(&site, SMALL, &words);
    crate::support::wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    gate.set(Mood::Refusing);
    std::fs::write(&go, "").unwrap();
    run.wait_for_log("the app's end", 3 * SOON, |line| line.contains("done 2") || line.contains("Error"));
    gate.set(Mood::Open);
    let ended = run.wait(3 * SOON);
    assert_eq!(ended.code, 0, "{}", run.log_text());
    assert_eq!(count(&site), 2, "{}", run.log_text());
}

/// A file system without creation times (ext4 with small inodes, as ext3): a backup that was moved over the
/// database between two runs cannot be told from what the app wrote. It becomes the next position, and
/// nothing is lost: the positions before stay.
#[test]
fn without_creation_times_a_file_in_the_databases_place_is_the_next_position() {
    let site = Site::in_directory();
    let image = site.path("image");
    std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-I", "128"])
        .arg(&image)
        .stderr(std::process::Stdio::null())
        .status();
    let mount = format!("mount -o loop {image:?} \"$0\"");
    let on_it = |line: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--", "sh", "-c"]).arg(format!("{mount} && {line}")).arg(site.disk());
        unshare.output().is_ok_and(|output| output.status.success())
    };
    if !made.is_ok_and(|made| made.success()) || !on_it("touch \"$0/x\" && [ $(stat -c %W \"$0/x\") = 0 ]") {
        return; // only root can mount it, and only where there are loop devices
    }
    let make = |file: &str, rows: u32| {
        let sql = "CREATE TABLE t(x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i \
                   < ROWS) INSERT INTO t SELECT i FROM n";
        let sql = sql.replace("ROWS", &rows.to_string());
        let script = format!("import sqlite3; sqlite3.connect(\\\"{file}\\\").executescript(\\\"{sql}\\\")");
        format!("python3 -c \"{script}\"")
    };
    let bank = site.db();
    let mut first = on_mount(&site, &mount, &["sh".into(), "-c".into(), make(bank.to_str().unwrap(), 3)]);
    assert_eq!(first.wait(SOON).code, 0, "{}", first.log_text());
    assert_eq!(count(&site), 3, "{}", first.log_text());
    let before = site.replica.newest_txid();
    let backup = site.disk().join("backup");
    let moved = format!("{} && mv {backup:?} {bank:?}", make(backup.to_str().unwrap(), 7));
    assert!(on_it(&moved), "{moved}");
    let mut second = on_mount(&site, &mount, &["true".into()]);
    assert_eq!(second.wait(SOON).code, 0, "{}", second.log_text());
    assert_eq!(count(&site), 7, "{}", second.log_text());
    assert!(
        site.replica.newest_txid() > before && second.log_text().contains("the whole database is uploaded")
    );
    let out = site.path("before.db");
    let [url, txid] = [site.replica.url(), format!("{before:016x}")];
    let words = ["restore", &url, "-o", out.to_str().unwrap(), "--txid", &txid];
    assert!(Command::new(env!("CARGO_BIN_EXE_litevisor")).args(words).status().unwrap().success());
    assert_eq!(
        Connection::open(&out).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)),
        Ok(3)
    );
}

/// Rows in the replica.
fn count(site: &Site) -> i64 {
    let out = site.path("restored.db");
    litestream::restore(&site.replica, &out).unwrap();
    Connection::open(&out).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_read_only_disk_is_read_and_nothing_is_restored_to_it() {
    for mode in ["wal", "delete"] {
        let site = Site::in_directory();
        let app = Connection::open(site.db()).unwrap();
        app.execute_batch(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(x)")).unwrap();
        drop(app);
        let mut run = on_mount(&site, READ_ONLY, &["true".into()]);
        assert_eq!(run.wait(SOON).code, 0, "{mode}: {}", run.log_text());
        assert!(run.log_text().contains("read-only file system"), "{mode}: {}", run.log_text());
        assert_eq!(site.replica.newest_txid(), 0, "{mode}");
    }
    let site = Site::in_directory();
    site.make_history(3);
    site.wipe();
    let marker = site.path("started");
    let mut run = on_mount(&site, READ_ONLY, &crate::support::site::marker_app(&marker));
    assert_eq!(run.wait(SOON).code, 78, "{}", run.log_text());
    assert!(run.log_text().contains("Read-only file system"), "{}", run.log_text());
    assert!(!marker.exists());
}

#[test]
fn what_can_never_be_replicated_is_told_at_the_start() {
    let link = |site: &Site| {
        Connection::open(site.disk().join("real.db")).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
        symlink(site.disk().join("real.db"), site.db()).unwrap();
    };
    let dangling = |site: &Site| symlink(site.disk().join("nowhere"), site.db()).unwrap();
    let text = |site: &Site| std::fs::write(site.db(), "hello").unwrap();
    let encrypted = |site: &Site| std::fs::write(site.db(), [0x5a; 8192]).unwrap();
    let directory = |site: &Site| std::fs::create_dir(site.db()).unwrap();
    type Case<'a> = (&'a str, &'a dyn Fn(&Site));
    let cases: [Case<'_>; 5] = [
        ("symbolic link", &link),
        ("symbolic link", &dangling),
        ("not an SQLite database", &text),
        ("not an SQLite database", &encrypted),
        ("no regular file", &directory),
    ];
    for (said, prepare) in cases {
        let site = Site::in_directory();
        prepare(&site);
        let marker = site.path("started");
        let words = crate::support::site::marker_app(&marker);
        let mut run = site.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(run.wait(SOON).code, 78, "{said}: {}", run.log_text());
        assert!(run.log_text().contains(said), "{said}: {}", run.log_text());
        assert!(!marker.exists(), "{said}");
    }
}

/// It came while the app ran: the app goes on, and the end does not pass for a success, nor take for ever.
#[test]
fn what_appears_and_can_never_be_replicated_is_no_success() {
    let site = Site::in_directory();
    let mut run = site.run(&["sh", "-c", &format!("echo 'no database at all' > {}", site.db().display())]);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 74, "{}", run.log_text());
    run.wait_for_complaint("not an SQLite database", SOON);
}

#[test]
fn names_that_mean_something_elsewhere() {
    for name in ["a b.db", "größe.db", "100%25.db", "what?mode=ro.db", "a#b.db", "it's.db", "file:x.db"] {
        let site = Site::in_directory();
        let db = site.disk().join(name);
        let app = Connection::open_with_flags(
            &db,
            rusqlite::OpenFlags::default() & !rusqlite::OpenFlags::SQLITE_OPEN_URI,
        );
        app.unwrap()
            .execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1)")
            .unwrap();
        let config = site.path("named.toml");
        let text = format!(
            "[[database]]\npath = '''{}'''\n[database.replica]\n{}",
            db.display(),
            site.replica.toml()
        );
        std::fs::write(&config, text).unwrap();
        let run = |words: &[&str]| {
            let mut args: Vec<OsString> = vec!["--config".into(), config.clone().into(), "--".into()];
            args.extend(words.iter().map(OsString::from));
            let mut run =
                crate::support::litevisor::Litevisor::run(crate::support::litevisor::As::Process, &args);
            assert_eq!(run.wait(SOON).code, 0, "{name}: {}", run.log_text());
        };
        run(&["true"]);
        let out = site.path("theirs.db");
        litestream::restore(&site.replica, &out).unwrap();
        site.wipe();
        run(&["test", "-s", db.to_str().unwrap()]);
    }
}

/// The page that SQLite leaves out for its locks is the first one behind 1 GiB. Needs 5 GB of disk and some
/// minutes.
#[test]
fn growth_past_the_lock_page() {
    if std::env::var_os("BIG_TESTS").is_none() {
        return; // BIG_TESTS=1 cargo test --test life growth
    }
    let site = Site::in_directory();
    let mut run = site.run(&["sleep", "10000"]);
    run.wait_for_app();
    let app = Connection::open(site.db()).unwrap();
    app.busy_timeout(SOON).unwrap();
    app.execute_batch("PRAGMA page_size=65536; PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    crate::support::wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    // Little of it is random: what counts is the number of pages.
    let insert =
        "INSERT INTO t SELECT randomblob(2000) || zeroblob(3000000) FROM json_each('[1,2,3,4,5,6,7,8]')";
    let lock_page = (1_i64 << 30) / 65536 + 1;
    let pages = || app.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap();
    while pages() < lock_page + 200 {
        app.execute(insert, []).unwrap();
    }
    let sums =
        "SELECT count(*) || ' ' || sum(length(x)) || ' ' || group_concat(hex(substr(x, 1, 2000))) FROM t";
    let wanted: String = app.query_row(sums, [], |row| row.get(0)).unwrap();
    drop(app);
    run.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(run.wait(20 * SOON).code, 143, "{}", run.log_text());
    let (theirs, ours) = (site.path("theirs.db"), site.path("ours.db"));
    litestream::restore(&site.replica, &theirs).unwrap();
    let restore = crate::support::litevisor::restore_url(&site.replica.url(), &ours);
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    for out in [theirs, ours] {
        let db = Connection::open(&out).unwrap();
        let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok", "{}", out.display());
        assert!(
            db.query_row(sums, [], |row| row.get::<_, String>(0)).unwrap() == wanted,
            "{}",
            out.display()
        );
    }
}

/// Whoever made them, the app can use them: SQLite's side files, the restored file, our record.
#[test]
fn everything_beside_the_database_belongs_to_its_owner() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !nix::unistd::geteuid().is_root() {
        return; // only root can run an app as somebody else
    }
    let site = Site::in_directory().with_settings("[app]\nuser = \"4242:4242\"");
    for made in [&site.disk(), &site.path("")] {
        chown(made, Some(4242), Some(4242)).unwrap();
    }
    let ack = site.ack();
    std::fs::write(&ack, "").unwrap();
    chown(&ack, Some(4242), Some(4242)).unwrap();
    for when in ["made by the app", "restored"] {
        let mut run = site.run_bank(&["--rate", "max", "--count", "5"]);
        let ended = run.wait(SOON);
        assert_eq!(ended.code, 0, "{when}: {}", run.log_text());
        for name in site.files_on_disk() {
            let meta = std::fs::symlink_metadata(site.disk().join(&name)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (4242, 4242), "{when}: {name}");
        }
        site.wipe();
        chown(site.disk(), Some(4242), Some(4242)).unwrap();
    }
}

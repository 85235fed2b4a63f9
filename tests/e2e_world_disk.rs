//! Disks and files that are not as one wishes: full, read-only, links, other kinds of files. The app goes on or is not
//! started, and the log says why; never is another writer suspected, and nothing waits for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use rusqlite::Connection;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::process::Command;
use support::process::Process;
use support::site::Site;
use support::{SOON, litestream};

/// litevisor on a disk of its own: `mount` is a line of shell that mounts something at "$0".
fn on_mount(site: &Site, mount: &str, command: &[String]) -> Process {
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare.args(["--mount", "--", "sh", "-c"]).arg(format!("{mount} && exec \"$@\"")).arg(site.disk());
    unshare.arg(env!("CARGO_BIN_EXE_litevisor")).args(["run", "--config"]).arg(site.config()).arg("--");
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
    let mut run = on_mount(&site, READ_ONLY, &support::site::marker_app(&marker));
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
        let words = support::site::marker_app(&marker);
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
        let app =
            Connection::open_with_flags(&db, rusqlite::OpenFlags::default() & !rusqlite::OpenFlags::SQLITE_OPEN_URI);
        app.unwrap().execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
        let config = site.path("named.toml");
        let text = format!("[[database]]\npath = '''{}'''\n[database.replica]\n{}", db.display(), site.replica.toml());
        std::fs::write(&config, text).unwrap();
        let run = |words: &[&str]| {
            let mut args: Vec<OsString> = vec!["--config".into(), config.clone().into(), "--".into()];
            args.extend(words.iter().map(OsString::from));
            let mut run = support::litevisor::Litevisor::run(support::litevisor::As::Process, &args);
            assert_eq!(run.wait(SOON).code, 0, "{name}: {}", run.log_text());
        };
        run(&["true"]);
        let out = site.path("theirs.db");
        litestream::restore(&site.replica, &out).unwrap();
        site.wipe();
        run(&["test", "-s", db.to_str().unwrap()]);
    }
}

/// The page that SQLite leaves out for its locks is the first one behind 1 GiB. Needs 5 GB of disk and some minutes.
#[test]
fn growth_past_the_lock_page() {
    if std::env::var_os("BIG_TESTS").is_none() {
        return; // BIG_TESTS=1 cargo test --test e2e_world_disk growth
    }
    let site = Site::in_directory();
    let mut run = site.run(&["sleep", "10000"]);
    run.wait_for_app();
    let app = Connection::open(site.db()).unwrap();
    app.busy_timeout(SOON).unwrap();
    app.execute_batch("PRAGMA page_size=65536; PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    support::wait_until("the first snapshot", SOON, || site.replica.newest_txid() > 0);
    // Little of it is random: what counts is the number of pages.
    let insert = "INSERT INTO t SELECT randomblob(2000) || zeroblob(3000000) FROM json_each('[1,2,3,4,5,6,7,8]')";
    let lock_page = (1_i64 << 30) / 65536 + 1;
    let pages = || app.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap();
    while pages() < lock_page + 200 {
        app.execute(insert, []).unwrap();
    }
    let sums = "SELECT count(*) || ' ' || sum(length(x)) || ' ' || group_concat(hex(substr(x, 1, 2000))) FROM t";
    let wanted: String = app.query_row(sums, [], |row| row.get(0)).unwrap();
    drop(app);
    run.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(run.wait(20 * SOON).code, 143, "{}", run.log_text());
    let (theirs, ours) = (site.path("theirs.db"), site.path("ours.db"));
    litestream::restore(&site.replica, &theirs).unwrap();
    let restore = support::litevisor::restore_url(&site.replica.url(), &ours);
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    for out in [theirs, ours] {
        let db = Connection::open(&out).unwrap();
        let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok", "{}", out.display());
        assert!(db.query_row(sums, [], |row| row.get::<_, String>(0)).unwrap() == wanted, "{}", out.display());
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

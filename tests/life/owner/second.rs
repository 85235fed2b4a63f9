//! A second litevisor on the same file is refused before it touches the file or the replica, and names the
//! first one.

use super::place::{assert_unharmed, litevisor, running, said, site, with_socket};
use crate::support::litevisor::{As, Litevisor};
use crate::support::site::Site;
use crate::support::{SOON, wait_until};
use std::path::Path;

/// As a second deployment would run: with a socket of its own.
fn second(site: &Site, words: &[&str]) -> (i32, String) {
    let text = std::fs::read_to_string(site.config()).unwrap().replace("litevisor.sock", "second.sock");
    let config = site.path("second.toml");
    std::fs::write(&config, text).unwrap();
    said(&litevisor(&config, words))
}

#[test]
fn a_second_run_or_sidecar_is_refused_and_the_first_goes_on() {
    for site in [site(), with_socket(Site::in_s3("owner-second"))] {
        let mut run = running(&site);
        let pid = run.pid().as_raw();
        let marker = site.path("marker");
        for words in [vec!["run", "touch", marker.to_str().unwrap()], vec!["replicate"]] {
            let (code, told) = second(&site, &words);
            assert_eq!(code, 78, "{words:?}: {told}");
            assert!(
                told.contains(&format!("PID {pid}")) && told.contains("Stop that one first"),
                "{words:?}: {told}"
            );
            assert!(!marker.exists(), "{words:?}: an app was started");
        }
        assert_unharmed(&site, &mut run, "beside refused ones");
        assert!(!run.log_text().contains("another instance"), "{}", run.log_text());
    }
}

/// The app's user may own the directory: neither a deleted nor an exchanged lock file lets a second one in.
#[test]
fn a_deleted_lock_protects_nobody_elses_database() {
    let site = site();
    let mut run = running(&site);
    let state = site.disk().join(".bank.db-litevisor");
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 3] = [
        ("deleted", |state| std::fs::remove_file(state.join("lock")).unwrap()),
        ("a FIFO", |state| {
            let _ = std::fs::remove_file(state.join("lock"));
            nix::unistd::mkfifo(&state.join("lock"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("the whole directory", |state| std::fs::remove_dir_all(state).unwrap()),
    ];
    for (what, spoil) in spoils {
        spoil(&state);
        let (code, told) = second(&site, &["run", "true"]);
        assert!(code == 78 && told.contains("Stop that one first"), "{what}: {code} {told}");
        assert!(told.contains(&format!("PID {}", run.pid())), "{what}: {told}");
    }
    assert_unharmed(&site, &mut run, "without its lock file");
}

#[test]
fn a_killed_ones_lock_is_free_at_once_and_an_ending_one_is_waited_for() {
    let site = site();
    let mut run = running(&site);
    run.kill_everything();
    let mut next = site.run(&["true"]);
    assert_eq!(next.wait(SOON).code, 0, "{}", next.log_text());
    // The next one starts while the last one is ending.
    let mut last = site.run_bank(&["--rate", "50"]);
    let acked = site.acked();
    site.wait_for_acks(acked + 5);
    last.signal(nix::sys::signal::Signal::SIGTERM);
    let mut next = site.run(&["true"]);
    assert_eq!(last.wait(SOON).code, 0, "{}", last.log_text());
    assert_eq!(next.wait(SOON).code, 0, "{}", next.log_text());
    site.assert_replica_holds_everything("after the change");
}

#[test]
fn once_beside_a_running_one_asks_it_to_sync() {
    for sidecar in [false, true] {
        let mut site = site();
        site.replica_settings = "sync_interval = \"10m\"\n".into();
        site.make_history(10);
        let mut first = match sidecar {
            true => Litevisor::replicate(As::Process, &site.config(), &[]),
            false => site.run(&["sleep", "600"]),
        };
        first.wait_for_log("replication", SOON, |line| line.contains("\"replicating\""));
        let db = rusqlite::Connection::open(site.db()).unwrap();
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS more (x); INSERT INTO more VALUES (1); INSERT INTO more VALUES (2)",
        )
        .unwrap();
        let (code, told) = said(&litevisor(&site.config(), &["replicate", "--once"]));
        assert!(code == 0 && told.contains("bank.db: uploaded 0"), "{code} {told}");
        assert!(told.contains(&format!("PID {}", first.pid())), "{told}");
        let out = site.path("judged.db");
        crate::support::litestream::restore(&site.replica, &out).unwrap();
        assert_eq!(super::place::dump(&out), super::place::dump(&site.db()), "its answer was true");
        drop(db);
        // It cannot be asked: refused, never fenced.
        let text = std::fs::read_to_string(site.config()).unwrap().replace("litevisor.sock", "nowhere.sock");
        std::fs::write(site.path("other.toml"), text).unwrap();
        let (code, told) = said(&litevisor(&site.path("other.toml"), &["replicate", "--once"]));
        assert!(code == 78 && told.contains("no litevisor answers"), "{code} {told}");
        assert!(first.is_running(), "{}", first.log_text());
        assert_eq!(first.stop().code, if sidecar { 0 } else { 143 }, "{}", first.log_text());
    }
}

/// A directory of 50 databases, one of which appears late: each has its lock.
#[test]
fn fifty_databases_of_a_directory_are_locked_and_the_late_one_too() {
    let site = site();
    let text = format!(
        "{}\n[[database]]\ndir = {:?}\nwatch = true\n[database.replica]\n{}",
        site.settings,
        site.disk(),
        site.replica.toml()
    );
    let config = site.path("many.toml");
    std::fs::write(&config, text).unwrap();
    let make = |name: &str| {
        let db = rusqlite::Connection::open(site.disk().join(name)).unwrap();
        db.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    };
    (0..50).for_each(|n| make(&format!("{n:02}.db")));
    let args = ["--config".into(), config.clone().into(), "--".into(), "sleep".into(), "600".into()];
    let mut run = Litevisor::run(As::Process, &args);
    run.wait_for_app();
    make("late.db");
    let lock = |name: &str| site.disk().join(format!(".{name}-litevisor/lock"));
    wait_until("the late one's lock", SOON, || {
        std::fs::read(lock("late.db")).is_ok_and(|text| !text.is_empty())
    });
    assert!((0..50).all(|n| lock(&format!("{n:02}.db")).exists()));
    for name in ["17.db", "late.db"] {
        let text = format!(
            "[status]\nsocket = \"none\"\n[[database]]\npath = {:?}\n[database.replica]\nurl = {:?}\n",
            site.disk().join(name),
            site.path("elsewhere")
        );
        let other = site.path("other.toml");
        std::fs::write(&other, text).unwrap();
        let (code, told) = said(&litevisor(&other, &["run", "true"]));
        assert!(code == 78 && told.contains(&format!("PID {}", run.pid())), "{name}: {code} {told}");
        assert!(!site.path("elsewhere").exists(), "{name}: the replica was touched");
        let (code, told) =
            said(&litevisor(&config, &["restore", site.disk().join(name).to_str().unwrap(), "--force"]));
        assert!(code == 0 && told.contains("asking it to stop the app"), "{name}: {code} {told}");
    }
    // All at once would stop the app for each of them.
    let (code, told) = said(&litevisor(&config, &["restore", "--force"]));
    assert!(code == 78 && told.contains(&format!("PID {}", run.pid())), "{code} {told}");
    let (code, told) = said(&litevisor(&config, &["replicate", "--once"]));
    assert_eq!((code, told.matches("late.db: uploaded").count() > 0), (0, true), "{told}");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

//! `litevisor replicate`: beside an app that somebody else starts and stops, as a sidecar and from cron. The
//! bank runs as a process of its own, like an app in another container on the same volume.

use crate::support::asking::wait_for_status;
use crate::support::gate::{Gate, Mood};
use crate::support::litevisor::{As, Litevisor};
use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::{SOON, bank, process, wait_until};
use nix::sys::signal::{Signal, kill};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// The bank on its own.
fn app(site: &Site, options: &[&str]) -> Process {
    let words = site.bank_words(options);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Process::start(command)
}

fn beside(site: &Site, args: &[&str]) -> Litevisor {
    Litevisor::replicate(site.kind, &site.config(), args)
}

fn wait_until_replicating(sidecar: &Litevisor) {
    sidecar.wait_for_log("replication", SOON, |line| line.contains("\"replicating\""));
}

/// Content and inode of the database file.
fn file(site: &Site) -> (Vec<u8>, u64) {
    (std::fs::read(site.db()).unwrap(), std::fs::metadata(site.db()).unwrap().ino())
}

#[test]
fn a_sidecar_restores_what_is_missing_and_follows() {
    for site in [Site::in_directory(), Site::in_s3("sidecar-pid1").with_pid1()] {
        site.make_history(100);
        site.wipe();
        let mut sidecar = beside(&site, &[]);
        wait_until_replicating(&sidecar);
        site.assert_disk_holds_everything("after the restore");
        let before = site.acked();
        let mut app = app(&site, &["--rate", "max", "--count", "200"]);
        assert_eq!(app.wait(SOON).code, 0);
        // As in Kubernetes: the app has ended.
        let asked = Instant::now();
        assert_eq!(sidecar.stop().code, 0, "{}", sidecar.log_text());
        assert!(asked.elapsed() < Duration::from_secs(5), "nobody had it open: {}", sidecar.log_text());
        assert_eq!(site.acked(), before + 200);
        site.assert_replica_holds_everything("after the stop");
    }
}

/// For as long as a database in a rollback mode must be quiet before it is switched, and a little longer.
fn pauses(app: &Process, over: impl Fn() -> bool) {
    kill(app.pid(), Signal::SIGSTOP).unwrap();
    let end = Instant::now() + Duration::from_secs(4);
    while !over() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(app.pid(), Signal::SIGCONT).unwrap();
}

/// As in Cloud Run: the stop signal goes to all containers at once, and the app's last writes come after it.
#[test]
fn a_stop_waits_for_an_app_that_is_stopped_at_the_same_time() {
    for journal in ["wal", "delete"] {
        let site = Site::in_s3(&format!("sidecar-{journal}"));
        let mut sidecar = beside(&site, &[]);
        sidecar.wait_for_log("an empty start", SOON, |line| line.contains("starting empty"));
        let mut app = app(&site, &["--rate", "100", "--journal", journal, "--on-term", "write-more"]);
        site.wait_for_acks(20);
        while journal == "delete" && !sidecar.log_text().contains("\"replicating\"") {
            pauses(&app, || sidecar.log_text().contains("\"replicating\""));
        }
        wait_until_replicating(&sidecar);
        sidecar.signal(Signal::SIGTERM);
        let at_signal = site.acked();
        site.wait_for_acks(at_signal + 30);
        kill(app.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(app.wait(SOON).code, 0);
        assert_eq!(sidecar.wait(SOON).code, 0, "{}", sidecar.log_text());
        site.assert_replica_holds_everything(&format!("journal {journal}"));
    }
}

/// An app that goes on for ever: the waiting has an end, and a second signal is one.
#[test]
fn a_stop_does_not_wait_for_ever() {
    for signals in [1, 2] {
        let site = Site::in_directory().with_settings("[shutdown]\ngrace = \"4s\"\napp_timeout = \"2s\"");
        let mut sidecar = beside(&site, &[]);
        let mut app = app(&site, &["--rate", "50"]);
        wait_until_replicating(&sidecar);
        site.wait_for_acks(20);
        let before_ms = crate::support::now_ms();
        let asked = sidecar.signal(Signal::SIGTERM);
        if signals == 2 {
            sidecar.wait_for_log("the signal", SOON, |line| line.contains("SIGTERM received"));
            sidecar.signal(Signal::SIGINT);
        }
        let ended = sidecar.wait(SOON);
        assert_eq!(ended.code, 0, "{}", sidecar.log_text());
        assert!(app.is_running());
        let took = ended.at.duration_since(asked);
        let (waited, warned) =
            (took >= Duration::from_secs(2), sidecar.log_text().contains("still has a database open"));
        assert_eq!((waited, warned), (signals == 1, signals == 1), "{took:?}\n{}", sidecar.log_text());
        site.judge_replica(Some(before_ms)).unwrap();
    }
}

/// The sidecar's container is killed and started again; the app has gone on meanwhile.
#[test]
fn a_killed_sidecar_goes_on_where_the_app_is() {
    for site in [Site::in_directory(), Site::in_s3("sidecar-killed")] {
        let mut first = beside(&site, &[]);
        let mut app = app(&site, &["--rate", "200"]);
        wait_until_replicating(&first);
        for life in 0..2 {
            site.wait_for_acks(site.acked() + 50);
            first.kill_everything();
            // It restarts its WAL while nobody holds it, the second time.
            site.wait_for_acks(site.acked() + 50);
            if life == 1 {
                let db = rusqlite::Connection::open(site.db()).unwrap();
                db.busy_timeout(SOON).unwrap();
                db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
            }
            first = beside(&site, &[]);
            wait_until_replicating(&first);
        }
        kill(app.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(app.wait(SOON).code, 0);
        assert_eq!(first.stop().code, 0, "{}", first.log_text());
        site.assert_replica_holds_everything("after the last stop");
    }
}

/// Refused with `code`; the file is the same one, and an app goes on in it.
fn refused(site: &Site, args: &[&str], code: i32, told: &str) {
    let (before, objects) = (file(site), site.replica.objects());
    let open = rusqlite::Connection::open(site.db()).unwrap();
    open.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).unwrap();
    let mut sidecar = beside(site, args);
    assert_eq!(sidecar.wait(SOON).code, code, "{}", sidecar.log_text());
    assert!(sidecar.log_text().contains(told), "{told}\n{}", sidecar.log_text());
    assert!(before == file(site), "the file was changed or replaced");
    assert!(objects == site.replica.objects(), "the replica was changed");
    let others = |name: &String| name.contains("aside") || name.contains("staged");
    assert!(!site.files_on_disk().iter().any(others), "{:?}", site.files_on_disk());
    open.execute_batch("CREATE TABLE it_goes_on (x)").unwrap();
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    for args in [&[][..], &["--once"]] {
        let site = Site::in_directory();
        site.make_history(100);
        site.wipe();
        bank::seed(&site.db());
        refused(&site, args, 65, "nothing is recorded about it");
    }
}

#[test]
fn a_file_that_is_behind_is_refused_and_left_alone() {
    let site = Site::in_s3("sidecar-behind");
    site.make_history(100);
    let old = site.path("old");
    std::fs::rename(site.disk(), &old).unwrap();
    std::fs::create_dir(site.disk()).unwrap();
    site.make_history(100);
    std::fs::remove_dir_all(site.disk()).unwrap();
    std::fs::rename(old, site.disk()).unwrap();
    refused(&site, &[], 65, "is behind");
}

/// SQLite makes the file before its first page: somebody may have it open.
#[test]
fn an_empty_file_is_not_replaced() {
    let site = Site::in_directory();
    site.make_history(50);
    site.wipe();
    std::fs::write(site.db(), "").unwrap();
    let before = file(&site);
    let mut sidecar = beside(&site, &[]);
    assert_eq!(sidecar.wait(SOON).code, 78, "{}", sidecar.log_text());
    assert!(sidecar.log_text().contains("start litevisor before the app"), "{}", sidecar.log_text());
    assert!(before == file(&site));
}

/// Without a startup probe the app may be faster than the restore.
#[test]
fn an_app_that_is_faster_than_the_restore_keeps_its_file() {
    let mut site = Site::in_s3("sidecar-race");
    site.make_history(50);
    site.wipe();
    let gate = Gate::before(&crate::support::seaweed::Seaweed::shared().endpoint(), Mood::Open);
    site.replica = site.replica.at(&gate.endpoint());
    gate.set(Mood::Slow(Duration::from_millis(1500)));
    let seen = gate.requests();
    let mut sidecar = beside(&site, &[]);
    wait_until("the restore to begin", SOON, || gate.requests() > seen);
    bank::seed(&site.db());
    let before = file(&site);
    assert_eq!(sidecar.wait(SOON).code, 78, "{}", sidecar.log_text());
    assert!(before == file(&site));
    assert_eq!(site.files_on_disk(), ["bank.db"], "nothing is left behind");
}

#[test]
fn a_store_that_is_away() {
    let impatient = "[restore]\ntimeout = \"2s\"\n[shutdown]\ngrace = \"3s\"\napp_timeout = \"1s\"";
    let mut site = Site::in_s3("sidecar-away").with_settings(impatient);
    let gate = Gate::before(&crate::support::seaweed::Seaweed::shared().endpoint(), Mood::Refusing);
    site.replica = site.replica.at(&gate.endpoint());
    bank::seed(&site.db());
    for args in [&[][..], &["--once"]] {
        let mut sidecar = beside(&site, args);
        assert_eq!(sidecar.wait(SOON).code, 69, "{}", sidecar.log_text());
    }
    // Away while it runs: the app goes on, and a stop says what is missing.
    gate.set(Mood::Open);
    std::fs::remove_file(site.db()).unwrap();
    let mut sidecar = beside(&site, &[]);
    let mut app = app(&site, &["--rate", "50", "--on-term", "write-more"]);
    wait_until_replicating(&sidecar);
    gate.set(Mood::Refusing);
    site.wait_for_acks(site.acked() + 50);
    kill(app.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(app.wait(SOON).code, 0);
    let asked = sidecar.signal(Signal::SIGTERM);
    let ended = sidecar.wait(SOON);
    assert_eq!(ended.code, 74, "{}", sidecar.log_text());
    assert!(ended.at.duration_since(asked) < Duration::from_secs(4), "longer than the grace");
    assert!(sidecar.log_text().contains("everything after"), "{}", sidecar.log_text());
    // The disk is kept: the next one finishes it.
    gate.set(Mood::Open);
    let mut once = beside(&site, &["--once"]);
    assert_eq!(once.wait(SOON).code, 0, "{}", once.log_text());
    site.assert_replica_holds_everything("after the next run");
}

#[test]
fn another_writer_ends_it_with_75() {
    let site = Site::in_directory();
    let mut sidecar = beside(&site, &[]);
    let mut app = app(&site, &["--rate", "50"]);
    wait_until_replicating(&sidecar);
    site.wait_for_acks(20);
    let mut elsewhere = Site::in_directory();
    elsewhere.replica = site.replica.clone();
    let mut other = elsewhere.run_bank(&["--rate", "50"]);
    let ended = crate::support::wait_for("one of the two to be fenced", SOON, || {
        [&mut sidecar, &mut other].into_iter().position(|run| !run.is_running())
    });
    let loser = [&mut sidecar, &mut other].into_iter().nth(ended).unwrap();
    assert_eq!(loser.wait(SOON).code, 75, "{}", loser.log_text());
    assert!(app.is_running(), "it is not ours to end");
}

#[test]
fn once_uploads_what_is_there_and_ends() {
    for site in [Site::in_directory(), Site::in_s3("sidecar-once").with_pid1()] {
        let mut first = beside(&site, &["--once"]);
        assert_eq!(first.wait(SOON).code, 66, "{}", first.log_text());
        assert!(first.log_text().contains("there is no database"), "{}", first.log_text());
        let mut app = app(&site, &["--rate", "100"]);
        site.wait_for_acks(20);
        for _ in 0..3 {
            site.wait_for_acks(site.acked() + 10);
            let before_ms = crate::support::now_ms();
            let mut run = beside(&site, &["--once"]);
            assert_eq!(run.wait(SOON).code, 0, "an app that goes on does not keep it: {}", run.log_text());
            site.judge_replica(Some(before_ms)).unwrap();
        }
        kill(app.pid(), Signal::SIGTERM).unwrap();
        app.wait(SOON);
        let mut last = beside(&site, &["--once"]);
        assert_eq!(last.wait(SOON).code, 0, "{}", last.log_text());
        site.assert_replica_holds_everything("after the last");
        // Nothing new: nothing is written.
        let objects = site.replica.objects();
        let mut again = beside(&site, &["--once"]);
        assert_eq!(again.wait(SOON).code, 0, "{}", again.log_text());
        assert!(objects == site.replica.objects());
        // What is missing stays missing.
        site.wipe();
        let mut none = beside(&site, &["--once"]);
        assert_eq!(none.wait(SOON).code, 66, "{}", none.log_text());
        assert!(!site.db().exists());
    }
}

/// PID 1 of a shared namespace: whoever loses his parent becomes our child.
#[test]
fn orphans_are_reaped_and_other_signals_do_no_harm() {
    let site = Site::in_directory().with_pid1();
    let mut sidecar = beside(&site, &[]);
    sidecar.wait_for_log("an empty start", SOON, |line| line.contains("starting empty"));
    let pid = sidecar.pid();
    for signal in [Signal::SIGUSR1, Signal::SIGWINCH, Signal::SIGCHLD, Signal::SIGALRM] {
        sidecar.signal(signal);
    }
    sidecar.wait_for_log("the signals", SOON, |line| line.contains("SIGALRM received"));
    let orphan =
        ["--target", &pid.to_string(), "--pid", "sh", "-c", "sh -c 'sleep 0.2' & sh -c 'exit 3' & exit 0"];
    assert!(Command::new("nsenter").args(orphan).status().unwrap().success());
    wait_until("no child, dead or alive", SOON, || process::children(pid).is_empty());
    assert!(sidecar.is_running());
    assert_eq!(sidecar.stop().code, 0, "{}", sidecar.log_text());
}

#[test]
fn stops_before_and_during_the_start() {
    let mut site = Site::in_s3("sidecar-start");
    site.make_history(50);
    site.wipe();
    let gate = Gate::before(&crate::support::seaweed::Seaweed::shared().endpoint(), Mood::Silent);
    site.replica = site.replica.at(&gate.endpoint());
    for kind in [As::Process, As::Pid1] {
        let seen = gate.requests();
        let mut sidecar = Litevisor::replicate(kind, &site.config(), &[]);
        wait_until("the restore to begin", SOON, || gate.requests() > seen);
        let asked = sidecar.signal(Signal::SIGTERM);
        let ended = sidecar.wait(SOON);
        assert_eq!(ended.code, 143, "{}", sidecar.log_text());
        assert!(ended.at.duration_since(asked) < Duration::from_secs(3));
        assert!(site.files_on_disk().is_empty(), "{:?}", site.files_on_disk());
    }
    // A terminal that goes, and an app's own stop signal in the same configuration.
    let site = Site::in_directory();
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut sidecar = beside(&site, &[]);
        wait_for_status("the sidecar replicates", &site.config(), |status| status["phase"] == "running");
        sidecar.signal(signal);
        assert_eq!(sidecar.wait(SOON).code, 0, "{signal}: {}", sidecar.log_text());
    }
}

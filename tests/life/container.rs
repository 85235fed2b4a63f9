//! The main job from outside: a container's life with a disk that goes away, on both kinds of replica, as a
//! plain process and as PID 1.

use crate::support::litevisor::{As, Litevisor};
use crate::support::replica::Replica;
use crate::support::seaweed::{ACCESS_KEY, CA_FILE, SECRET_KEY, Seaweed};
use crate::support::site::Site;
use crate::support::{SOON, bank, litestream, litevisor, wait_until};
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::Duration;

/// Write, stop, wipe, start: three lives of one database.
fn lives_on(site: &Site) {
    for life in 1..=3 {
        let before = site.acked();
        let mut run = site.run_bank(&["--rate", "200"]);
        site.wait_for_acks(before + 100);
        let ended = run.stop();
        assert_eq!(ended.code, 0, "life {life}:\n{}", run.log_text());
        site.assert_replica_holds_everything(&format!("after life {life}"));
        site.assert_disk_holds_everything(&format!("after life {life}"));
        site.wipe();
    }
    let mut last = site.run_bank(&["--count", "1"]);
    assert_eq!(last.wait(SOON).code, 0, "{}", last.log_text());
    site.assert_disk_holds_everything("after three wiped disks");
    let report = site.check_disk().unwrap();
    assert!(report.contains("opened 4 times"), "each life must build on the one before: {report}");
}

#[test]
fn data_survive_wiped_disks_with_a_directory_as_replica() {
    lives_on(&Site::in_directory());
}

#[test]
fn data_survive_wiped_disks_with_s3_as_replica() {
    lives_on(&Site::in_s3("lives"));
}

#[test]
fn data_survive_wiped_disks_as_pid_1() {
    lives_on(&Site::in_s3("lives-pid1").with_pid1());
}

#[test]
fn the_command_line_alone_is_enough() {
    let site = Site::in_directory();
    let mut args =
        vec!["--db".into(), site.db().into(), "--replica".into(), site.replica.url().into(), "--".into()];
    args.extend(site.bank_words(&["--count", "5"]).into_iter().map(Into::into));
    let mut run = Litevisor::run(As::Process, &args);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    site.assert_replica_holds_everything("after the stop");
}

#[test]
fn the_apps_database_holds_no_foreign_object() {
    let site = Site::in_directory();
    let mut run = site.run_bank(&["--rate", "max", "--count", "3000"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    let plain = site.path("plain.db");
    let mut alone = Command::new(bank::binary());
    alone.args(["run", "--rate", "max", "--count", "10", "--db"]).arg(&plain);
    assert!(alone.status().unwrap().success());
    assert_eq!(bank::schema(&site.db()), bank::schema(&plain), "on the disk");
    site.assert_replica_holds_everything("after the stop");
    assert_eq!(bank::schema(&site.path("judged.db")), bank::schema(&plain), "in the replica");
    assert_eq!(bank::dump(&site.db()), bank::dump(&site.path("judged.db")), "disk and replica");
}

#[test]
fn two_databases_live_side_by_side() {
    let site = Site::in_directory();
    let second = Second::beside(&site);
    for life in 1..=2 {
        let mut run = second.run_both();
        let before = (site.acked(), bank::acked(&second.ack));
        wait_until("both banks to write", SOON, || {
            site.acked() > before.0 + 50 && bank::acked(&second.ack) > before.1 + 50
        });
        // The shell dies of its SIGTERM; the two banks below it are told, waited for, and flushed.
        assert_eq!(run.stop().code, 143, "life {life}:\n{}", run.log_text());
        site.assert_replica_holds_everything("the first database");
        let out = site.path("second-judged.db");
        litestream::restore(&second.replica, &out).unwrap();
        bank::check(&out, &second.ack, None).unwrap();
        site.wipe();
    }
}

/// Another database on the same disk with a replica of its own.
struct Second<'a> {
    site: &'a Site,
    db: std::path::PathBuf,
    ack: std::path::PathBuf,
    replica: Replica,
}

impl Second<'_> {
    fn beside(site: &Site) -> Second<'_> {
        let replica = Replica::Directory(site.path("bucket-2"));
        Second { site, db: site.disk().join("second.db"), ack: site.path("ack-2"), replica }
    }

    fn run_both(&self) -> Litevisor {
        let bank = bank::binary().display();
        let (db, ack) = (self.db.display(), self.ack.display());
        let other = format!("{bank} run --rate 200 --db {db} --ack {ack}");
        let line = format!("{} & {other} & wait", self.site.bank_line(&["--rate", "200"]));
        let config = self.site.config();
        let text = std::fs::read_to_string(&config).unwrap();
        let more = format!("\n[[database]]\npath = \"{db}\"\n\n[database.replica]\n{}", self.replica.toml());
        std::fs::write(&config, text + &more).unwrap();
        let args = ["--config", config.to_str().unwrap(), "--", "sh", "-c", &line].map(Into::into);
        Litevisor::run(As::Process, &args)
    }
}

/// flush → forward → the app's end → flush → exit, told by what the replica held at each moment.
fn order_of_a_stop(site: &Site) {
    // After the first upload nothing is due for long: whatever arrives later was flushed by the stop.
    let app = format!(
        "trap 'cp -r {bucket} {at_term}; {bank} --count 7; cp -r {bucket} {at_end}; echo leaving >> {log}; \
         exit 3' TERM; {bank} --count 20; {bank} --count 20; echo written >> {log}; while :; do sleep 0.05; \
         done",
        bank = site.bank_line(&["--rate", "max"]),
        log = site.path("order").display(),
        bucket = site.path("bucket").display(),
        at_term = site.path("at-term").display(),
        at_end = site.path("at-end").display(),
    );
    let mut run = site.run(&["sh", "-c", &app]);
    let order = || std::fs::read_to_string(site.path("order")).unwrap_or_default();
    wait_until("the app to have written", SOON, || order().contains("written"));
    let ended = run.stop();
    assert_eq!(ended.code, 3, "the app's own status\n{}", run.log_text());
    assert_eq!(order(), "written\nleaving\n");
    let transfers = |bucket: &str| {
        let out = site.path("moment.db");
        litestream::restore(&Replica::Directory(site.path(bucket)), &out).unwrap();
        let count = "SELECT count(*) FROM ledger";
        bank::read_only(&out).query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(transfers("at-term"), 40, "all that was committed is flushed before the app is told to stop");
    assert!((40..=47).contains(&transfers("at-end")));
    assert_eq!(transfers("bucket"), 47, "what the app wrote while stopping is flushed before the exit");
    site.assert_replica_holds_everything("after the stop");
}

#[test]
fn a_stop_flushes_then_tells_the_app_then_flushes_again() {
    order_of_a_stop(&Site::in_directory().with_replica_settings("sync_interval = \"30s\""));
}

#[test]
fn a_stop_flushes_then_tells_the_app_then_flushes_again_as_pid_1() {
    order_of_a_stop(&Site::in_directory().with_replica_settings("sync_interval = \"30s\"").with_pid1());
}

#[test]
fn the_last_line_of_the_log_sums_the_run_up() {
    let site = Site::in_directory();
    let mut run = site.run_bank(&["--count", "3", "--exit", "9", "--rate", "max"]);
    assert_eq!(run.wait(SOON).code, 9, "{}", run.log_text());
    let log = run.log();
    let last = log.last().unwrap();
    assert!(
        serde_json::from_str::<serde_json::Value>(last).is_ok_and(|line| line.is_object()),
        "no JSON: {last}"
    );
    assert!(last.contains(site.db().to_str().unwrap()), "names the database: {last}");
    assert!(last.contains("status 9"), "tells how the app ended: {last}");
}

#[test]
fn secrets_reach_neither_the_most_talkative_log_nor_the_app() {
    const SSE_C: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let mut site = Site::in_s3("talkative").with_settings("[log]\nlevel = \"trace\"");
    site.replica = site.replica.at(&Seaweed::shared().https_endpoint());
    let more = format!("ca_file = \"{CA_FILE}\"\nsse_c_key = \"${{LV_TEST_SSE_C:-{SSE_C}}}\"");
    let site = site.with_replica_settings(&more);
    let environment = site.path("environment");
    let app = format!(
        "tr '\\0' '\\n' < /proc/self/environ > {}; {}",
        environment.display(),
        site.bank_line(&["--count", "3"])
    );
    let mut run = site.run(&["sh", "-c", &app]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    let (log, environment) = (run.log_text(), std::fs::read_to_string(environment).unwrap());
    assert!(log.contains("\"trace\"") || log.contains("\"debug\""), "the log is not talkative: {log}");
    assert!(environment.contains("PATH="), "{environment}");
    for secret in [SECRET_KEY, ACCESS_KEY, SSE_C] {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!environment.contains(secret), "{secret} is in the app's environment");
    }
}

#[test]
fn restore_writes_a_copy_and_leaves_the_live_database_alone() {
    for site in [Site::in_directory(), Site::in_s3("copies")] {
        site.make_history(300);
        let before = std::fs::read(site.db()).unwrap();
        let out = site.path("copy.db");
        let done = litevisor::restore(&site.config(), &site.db(), &out);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        bank::check(&out, &site.ack(), None).unwrap();
        assert_eq!(bank::dump(&out), bank::dump(&site.db()));
        assert_eq!(std::fs::read(site.db()).unwrap(), before);
        let again = litevisor::restore(&site.config(), &site.db(), &out);
        assert!(!again.status.success(), "an existing file must not be replaced unasked");
    }
}

#[test]
fn kill_of_everything_with_the_disk_kept_loses_nothing() {
    for (site, limit) in [(Site::in_directory(), 10), (Site::in_s3("killed").with_pid1(), 10)] {
        let site = site.with_replica_settings("sync_interval = \"30s\"");
        let mut run = site.run_bank(&["--rate", "500"]);
        site.wait_for_acks(400);
        run.kill_everything();
        let acked = site.acked();
        assert!(site.judge_replica(None).is_err(), "nothing was left to upload: the test tests nothing");
        // The next app never opens the database: what arrives, litevisor found by itself.
        let mut next = site.run(&["sleep", "60"]);
        wait_until("the killed run's commits in the replica", Duration::from_secs(limit), || {
            site.judge_replica(None).is_ok()
        });
        next.signal(Signal::SIGTERM);
        assert_eq!(next.wait(SOON).code, 143, "{}", next.log_text());
        site.assert_replica_holds_everything("after the stop");
        assert_eq!(site.acked(), acked);
    }
}

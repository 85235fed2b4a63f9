//! Whatever way the app ends, its last commit is in the replica and its status is ours.

use crate::support::litevisor::As;
use crate::support::site::Site;
use crate::support::{SOON, wait_until};
use nix::sys::signal::{Signal, kill};
use std::time::Duration;

/// The same on a directory as a plain process and on S3 as PID 1.
fn sites(bucket: &str, settings: &str, replica: &str) -> [Site; 2] {
    [Site::in_directory(), Site::in_s3(bucket).with_pid1()]
        .map(|site| site.with_settings(settings).with_replica_settings(replica))
}

/// Uploads are spaced so far apart that only the last flush can bring the last commits.
const SPACED: &str = "sync_interval = \"30s\"";

/// An app that ends by itself.
fn ends_with(site: &Site, options: &[&str], code: i32) {
    let mut run = site.run_bank(options);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, code, "{options:?}\n{}", run.log_text());
    assert!(site.acked() > 0);
    site.assert_replica_holds_everything(&format!("{options:?}"));
}

/// An app that is told to stop.
fn stops_with(site: &Site, options: &[&str], code: i32) {
    let mut run = site.run_bank(&[&["--rate", "200"], options].concat());
    site.wait_for_acks(50);
    let ended = run.stop();
    assert_eq!(ended.code, code, "{options:?}\n{}", run.log_text());
    site.assert_replica_holds_everything(&format!("{options:?}"));
}

#[test]
fn a_job_of_a_few_milliseconds() {
    for site in sites("short-job", "", "") {
        ends_with(&site, &["--count", "1", "--rate", "max"], 0);
    }
}

#[test]
fn a_job_that_fails() {
    for site in sites("failing-job", "", "") {
        ends_with(&site, &["--count", "20", "--rate", "max", "--exit", "7"], 7);
    }
}

#[test]
fn a_job_in_rollback_journal_mode() {
    for site in sites("journal-job", "", "") {
        ends_with(&site, &["--count", "20", "--rate", "200", "--journal", "delete"], 0);
    }
}

#[test]
fn an_app_that_leaves_with_143_like_java() {
    for site in sites("java", "", SPACED) {
        stops_with(&site, &["--exit", "143"], 143);
    }
}

#[test]
fn an_app_that_dies_of_sigterm() {
    for site in sites("dies", "", SPACED) {
        stops_with(&site, &["--on-term", "default"], 143);
    }
}

#[test]
fn an_app_that_writes_more_after_sigterm() {
    for site in sites("writes-more", "", SPACED) {
        stops_with(&site, &["--on-term", "write-more"], 0);
    }
}

#[test]
fn an_app_that_is_killed() {
    for site in sites("killed-app", "", SPACED) {
        let mut run = site.run_bank(&["--rate", "500"]);
        site.wait_for_acks(100);
        kill(run.bank(), Signal::SIGKILL).unwrap();
        assert_eq!(run.wait(SOON).code, 137, "{}", run.log_text());
        site.assert_replica_holds_everything("after the app was killed");
    }
}

#[test]
fn an_app_that_ignores_sigterm_is_killed_inside_the_budget() {
    let budget = "[shutdown]\ngrace = \"4s\"\napp_timeout = \"1500ms\"\npre_sync_timeout = \"500ms\"";
    for site in sites("ignores", budget, SPACED) {
        let mut run = site.run_bank(&["--rate", "200", "--on-term", "ignore"]);
        site.wait_for_acks(50);
        let sent = run.signal(Signal::SIGTERM);
        let ended = run.wait(SOON);
        assert_eq!(ended.code, 137, "{}", run.log_text());
        let took = ended.at - sent;
        assert!((Duration::from_millis(1300)..Duration::from_secs(4)).contains(&took), "took {took:?}");
        site.assert_replica_holds_everything("after the kill");
    }
}

#[test]
fn a_second_sigterm_shortens_the_apps_time_but_not_the_flush() {
    for site in sites("twice", "[shutdown]\ngrace = \"15s\"", SPACED) {
        let mut run = site.run_bank(&["--rate", "200", "--on-term", "ignore"]);
        site.wait_for_acks(50);
        let sent = run.signal(Signal::SIGTERM);
        // Once more may only end the flush before the stop; the next is for the app.
        for _ in 0..2 {
            let before = site.acked();
            wait_until("more transfers, or the end", SOON, || {
                site.acked() > before + 20 || !run.is_running()
            });
            if run.is_running() {
                run.signal(Signal::SIGTERM);
            }
        }
        let ended = run.wait(SOON);
        assert_eq!(ended.code, 137, "{}", run.log_text());
        assert!(ended.at - sent < Duration::from_secs(8), "took {:?}", ended.at - sent);
        site.assert_replica_holds_everything("after the kill");
    }
}

#[test]
fn an_app_behind_a_shell_that_forwards_nothing() {
    for site in sites("shell", "", SPACED) {
        let line = format!("{}; true", site.bank_line(&["--rate", "200", "--on-term", "write-more"]));
        let mut run = site.run(&["sh", "-c", &line]);
        site.wait_for_acks(50);
        assert_eq!(run.stop().code, 143, "the shell's own end\n{}", run.log_text());
        site.assert_replica_holds_everything("after the stop");
    }
}

#[test]
fn a_helper_that_outlives_the_app_is_waited_for() {
    for site in sites("helper", "", SPACED) {
        let line = format!(
            "{} & exec {}",
            site.bank_line(&["--rate", "200", "--on-term", "write-more"]),
            "sleep 0.5"
        );
        let mut run = site.run(&["sh", "-c", &line]);
        site.wait_for_acks(20);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        let acked = site.acked();
        site.assert_replica_holds_everything("after the end");
        assert_eq!(site.acked(), acked, "nobody may write after litevisor's end");
    }
}

#[test]
fn commands_that_cannot_run_give_126_and_127() {
    let site = Site::in_directory();
    let file = site.path("not-executable");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    for (command, code) in [("no-such-command-anywhere", 127), (file.to_str().unwrap(), 126)] {
        let mut run = site.run(&[command]);
        assert_eq!(run.wait(SOON).code, code, "{command}\n{}", run.log_text());
        assert!(run.log_text().contains(command), "the command is named:\n{}", run.log_text());
    }
}

#[test]
fn wrong_usage_gives_64_and_a_wrong_configuration_78() {
    let mut unknown = crate::support::litevisor::Litevisor::run(As::Process, &["--no-such-option".into()]);
    assert_eq!(unknown.wait(SOON).code, 64, "{}", unknown.log_text());
    let site = Site::in_directory();
    let marker = site.path("started");
    let site = site.with_settings("no_such_key = 1");
    let mut run = site.run(&["touch", marker.to_str().unwrap()]);
    assert_eq!(run.wait(SOON).code, 78, "{}", run.log_text());
    assert!(run.log_text().contains("no_such_key"), "{}", run.log_text());
    assert!(!marker.exists());
}

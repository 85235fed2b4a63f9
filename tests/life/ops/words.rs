//! Sentences of the log that must be true at the moment in which they are said.

use crate::support::gate::{Gate, Mood};
use crate::support::litevisor::{As, Litevisor};
use crate::support::process::Process;
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, side_by_side, wait_until};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Level and line of the log in which `part` stands.
fn line(run: &Litevisor, part: &str) -> Value {
    let line = run.wait_for_log(part, SOON, |line| line.contains(part));
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
}

fn last(run: &Litevisor) -> Value {
    line(run, "\"message\":\"done")
}

/// Nobody asked the app to end: that is a warning, and it says who may have done it.
#[test]
fn a_kill_that_litevisor_did_not_send_is_a_warning() {
    let site = Site::in_directory();
    let mut run = site.run(&["sleep", "600"]);
    run.wait_for_app();
    let app = run.app();
    kill(app, Signal::SIGKILL).unwrap();
    assert_eq!(run.wait(SOON).code, 137, "{}", run.log_text());
    let ended = line(&run, "was killed by SIGKILL");
    assert_eq!(ended["level"], "warn", "{ended}");
    assert!(ended["message"].as_str().unwrap().contains("OOM killer"), "{ended}");
}

/// An app that ignores SIGTERM, and does so already.
fn run_deaf(site: &Site) -> Litevisor {
    let deaf = site.path("deaf");
    let script = format!("trap '' TERM; : > {}; while :; do sleep 0.1; done", deaf.display());
    let run = site.run(&["sh", "-c", &script]);
    wait_until("the app to ignore SIGTERM", SOON, || deaf.exists());
    run
}

/// The kill at the end of the app's time names the time, the signal and the key; a second signal is another
/// reason.
#[test]
fn a_kill_of_ours_says_why() {
    let budget = "[shutdown]\ngrace = \"4s\"\napp_timeout = \"1s\"";
    let site = Site::in_directory().with_settings(budget);
    let mut run = run_deaf(&site);
    assert_eq!(run.stop().code, 137, "{}", run.log_text());
    let killed = line(&run, "SIGKILL sent");
    let text = killed["message"].as_str().unwrap();
    assert!(text.contains("of SIGTERM (shutdown.app_timeout)") && killed["level"] == "warn", "{killed}");
    assert_eq!(line(&run, "was killed by SIGKILL")["level"], "info", "litevisor did it, and has said so");

    let site = Site::in_directory().with_settings("[shutdown]\ngrace = \"30s\"");
    let mut run = run_deaf(&site);
    run.signal(Signal::SIGTERM);
    line(&run, "sent to the app");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait(SOON).code, 137, "{}", run.log_text());
    let killed = line(&run, "SIGKILL sent");
    assert!(killed["message"].as_str().unwrap().starts_with("a second stop signal came"), "{killed}");
}

/// A replica that is away is spoken of soon and seldom; nothing is called flushed where nothing was started.
#[test]
fn a_bucket_that_is_away_at_the_start_is_few_lines() {
    let cases = [("words-refusing", Mood::Refusing), ("words-silent", Mood::Silent)];
    side_by_side(2, cases, |(bucket, mood)| {
        let mut site = Site::in_s3(bucket).with_settings("[restore]\ntimeout = \"8s\"");
        let gate = Gate::before(&Seaweed::shared().endpoint(), mood);
        site.replica = site.replica.at(&gate.endpoint());
        let begun = Instant::now();
        let mut run = site.run(&["true"]);
        let first = run.wait_for_log("the first word", SOON, |line| {
            line.contains("trying again") || line.contains("looking at the replica")
        });
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}: {first}", begun.elapsed());
        assert_eq!(run.wait(SOON * 2).code, 69, "{}", run.log_text());
        let about =
            run.log().iter().filter(|line| line.contains("trying again") || line.contains("looking")).count();
        assert!(about <= 4, "{about} lines in 8 s:\n{}", run.log_text());
        let last = last(&run);
        assert!(
            last["flushed"].is_null() && last["app"].as_str().unwrap().starts_with("not started"),
            "{last}"
        );
    });
}

/// The app is told which variables it does not get.
#[test]
fn variables_that_are_kept_from_the_app_are_named() {
    let site = Site::in_s3("words-kept");
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.args(["run", "--config"]).arg(site.config()).args([
        "--",
        "sh",
        "-c",
        "env | grep -c ^AWS_ACCESS_KEY",
    ]);
    command.env("AWS_ACCESS_KEY_ID", "x-the-key").env("AWS_SECRET_ACCESS_KEY", "x-the-secret");
    let mut run = Process::start(command);
    assert_eq!(run.wait(SOON).code, 1, "the app does not see them: {}", run.log_text());
    let kept = run.wait_for_log("the names", SOON, |line| line.contains("kept from the app"));
    assert!(
        kept.contains("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY") && kept.contains("pass_credentials"),
        "{kept}"
    );
    assert!(!run.log_text().contains("x-the-"), "names, no values: {}", run.log_text());
}

/// Whatever the limit of threads is in the way of, it is named.
#[test]
fn a_limit_of_threads_is_named() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let site = Site::in_directory();
    for path in [site.path(""), site.disk(), site.path("bucket")] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    // Where another user reaches it.
    let binary = site.path("litevisor");
    std::fs::copy(env!("CARGO_BIN_EXE_litevisor"), &binary).unwrap();
    let mut named = 0;
    for limit in 3..=6 {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nproc={limit}")).arg(&binary);
        command.args(["run", "--config"]).arg(site.config()).args(["--", "true"]);
        // A user of whom nothing else runs.
        command.uid(42_990 + limit).gid(42_990);
        let mut run = Process::start(command);
        let ended = run.wait(SOON * 2);
        let log = run.log_text();
        if ended.code != 0 {
            assert!(
                log.contains("pids.max") || log.contains("no log"),
                "limit {limit}, status {}:\n{log}",
                ended.code
            );
            assert!([70, 78, 126].contains(&ended.code), "limit {limit}, status {}:\n{log}", ended.code);
            named += 1;
        }
    }
    assert!(named > 0, "no limit was in the way");
}

/// A bad bundle is named, and so is the variable that names it.
#[test]
fn a_bad_certificate_file_is_named() {
    let site = Site::in_s3("words-certificates").with_settings("[restore]\ntimeout = \"2s\"");
    let config = site.config();
    let text = std::fs::read_to_string(&config).unwrap().replace("http://", "https://");
    std::fs::write(&config, text).unwrap();
    let bundle = site.path("bundle.pem");
    std::fs::write(&bundle, "no certificate\n").unwrap();
    for file in [bundle, "/nowhere/bundle.pem".into()] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
        command.args(["run", "--config"]).arg(&config).args(["--", "true"]).env("SSL_CERT_FILE", &file);
        command.env_remove("SSL_CERT_DIR").env_remove("AWS_CA_BUNDLE");
        let mut run = Process::start(command);
        run.wait(SOON);
        let named = run.wait_for_log("the file", SOON, |line| line.contains(file.to_str().unwrap()));
        assert!(named.contains("named by SSL_CERT_FILE"), "{named}");
    }
}

/// A first run with a database in a rollback journal reads like a story, not like a problem.
#[test]
fn the_switch_to_wal_is_no_riddle() {
    let site = Site::in_directory();
    rusqlite::Connection::open(site.db()).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
    let mut run =
        Litevisor::run(As::Process, &["--config".into(), site.config().into(), "--".into(), "true".into()]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    let switched = line(&run, "WAL mode");
    assert!(switched["level"] == "info" && !switched.to_string().contains("locked"), "{switched}");
}

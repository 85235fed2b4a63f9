//! `[notify]` and `[heartbeat]`: what the user's services get to hear, and that nothing waits for them.

use crate::support::azurite::CA_FILE;
use crate::support::litevisor::{self, Litevisor};
use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::standin::{StandIn, answer};
use crate::support::{SOON, exchange, wait_until};
use nix::sys::signal::{Signal, kill};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn hook() -> StandIn {
    StandIn::start(|_| answer(204, ""))
}

fn told(hook: &StandIn) -> Vec<serde_json::Value> {
    hook.asked().iter().map(|request| serde_json::from_str(&request.body).unwrap()).collect()
}

fn events(hook: &StandIn) -> Vec<String> {
    told(hook).iter().map(|told| told["event"].as_str().unwrap().to_owned()).collect()
}

fn notify(site: &mut Site, url: &str, more: &str) {
    site.settings = format!("[notify]\nurl = \"{url}/T0/SECRET\"\n{more}\n");
}

/// Nothing that is shown has the secret part of a URL.
fn assert_hidden(run: &Litevisor) {
    assert!(!run.log_text().contains("SECRET"), "{}", run.log_text());
}

/// A restore with both services behind https; `authority`: the certificate file that the environment names.
fn restore_behind_tls(hook: &StandIn, authority: Option<&str>) -> (Site, Process) {
    let mut site = Site::in_directory();
    site.make_history(20);
    site.wipe();
    let heartbeat = format!("[heartbeat]\nurl = \"{}/ping/SECRET\"\ninterval = \"1s\"", hook.url());
    notify(&mut site, &hook.url(), &heartbeat);
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command
        .args(["run", "--config", site.config().to_str().unwrap(), "--"])
        .args(site.bank_words(&["--rate", "10"]));
    for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env_remove(name);
    }
    command.envs(authority.map(|file| ("SSL_CERT_FILE", file)));
    (site, Process::start(command))
}

fn stop_behind_tls(mut run: Process) {
    kill(run.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    assert!(!run.log_text().contains("SECRET"), "{}", run.log_text());
}

#[test]
fn https_with_an_authority_of_ones_own() {
    let hook = StandIn::start_tls(|_| answer(204, ""));
    let (_site, run) = restore_behind_tls(&hook, Some(CA_FILE));
    let asked = |wanted: &str| {
        hook.asked().iter().any(|request| format!("{} {}", request.method, request.path) == wanted)
    };
    wait_until("both requests", SOON, || asked("POST /T0/SECRET") && asked("GET /ping/SECRET"));
    let told = hook.asked().into_iter().find(|request| request.method == "POST").unwrap();
    assert!(told.body.contains("\"event\":\"restored\""), "{told:?}");
    stop_behind_tls(run);
}

/// Nothing is sent, the log says why, and the app runs.
#[test]
fn a_certificate_that_is_not_trusted_is_refused() {
    let hook = StandIn::start_tls(|_| answer(204, ""));
    let (site, run) = restore_behind_tls(&hook, None);
    for key in ["notify.url", "heartbeat.url"] {
        run.wait_for_log(key, SOON, |line| line.contains(key) && line.contains("certificate"));
    }
    site.wait_for_acks(30);
    assert!(hook.asked().is_empty(), "{:?}", hook.asked());
    stop_behind_tls(run);
}

#[test]
fn a_restore_is_told_and_a_start_on_its_own_disk_is_not() {
    let mut site = Site::in_directory();
    site.make_history(20);
    let hook = hook();
    notify(&mut site, &hook.url(), "");
    let mut run = site.run_bank(&["--count", "1"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    assert_eq!(events(&hook), [""; 0], "the file was kept");
    site.wipe();
    let mut run = site.run_bank(&["--count", "1"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    let [told] = told(&hook).try_into().unwrap();
    assert_eq!(
        (&told["event"], &told["database"]),
        (&"restored".into(), &site.db().to_str().unwrap().into())
    );
    assert_eq!(told["replica"], site.replica.url());
    assert!(told["text"].as_str().unwrap().starts_with("litevisor on "), "{told}");
    let request = &hook.asked()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/T0/SECRET"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_hidden(&run);
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_litevisor"))
        .args(["check", "--config", site.config().to_str().unwrap()])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(shown.contains(&format!("url = \"{}/***\"", hook.url())) && !shown.contains("SECRET"), "{shown}");
}

/// Also what happens in the last second of the run arrives.
#[test]
fn an_incomplete_flush_and_a_replica_that_is_away_are_told() {
    let mut site = Site::in_directory();
    site.make_history(20);
    let hook = hook();
    notify(&mut site, &hook.url(), "after = \"1s\"\n[shutdown]\ngrace = \"4s\"");
    let app = format!("{}; sleep 60", site.bank_line(&["--rate", "100", "--count", "100000"]));
    let mut run = site.run(&["sh", "-c", &app]);
    site.wait_for_acks(30);
    let bucket = site.path("bucket");
    std::fs::write(site.path("gone"), "no directory").unwrap();
    exchange(&bucket, &site.path("gone"));
    wait_until("the notification", SOON, || events(&hook) == ["not-replicated"]);
    assert_eq!(run.stop().code, 74, "{}", run.log_text());
    assert_eq!(events(&hook), ["not-replicated", "flushed-incompletely"], "{}", run.log_text());
    assert_hidden(&run);
}

#[test]
fn another_writer_is_told() {
    let mut site = Site::in_directory();
    let hook = hook();
    notify(&mut site, &hook.url(), "events = [\"taken-over\"]");
    let app = format!("{}; sleep 60", site.bank_line(&["--rate", "20", "--count", "100000"]));
    let mut run = site.run(&["sh", "-c", &app]);
    site.wait_for_acks(5);
    // Another disk, the same replica.
    let db = site.path("other.db");
    std::fs::create_dir(site.path("elsewhere")).unwrap();
    let args =
        ["run", "--db", db.to_str().unwrap(), "--replica", &site.replica.url(), "--"].map(str::to_owned);
    let script = format!("sqlite3 {} 'create table other (x)'; sleep 2", db.display());
    let other = std::process::Command::new(env!("CARGO_BIN_EXE_litevisor"))
        .args(args)
        .args(["sh", "-c", &script])
        .output();
    assert!(other.is_ok());
    assert_eq!(run.wait(SOON).code, 75, "{}", run.log_text());
    assert_eq!(events(&hook), ["taken-over"], "{}", run.log_text());
}

/// Tried again after an answer that may heal.
#[test]
fn a_webhook_that_stumbles_is_asked_again() {
    let mut site = Site::in_directory();
    site.make_history(20);
    site.wipe();
    let tries = AtomicUsize::new(0);
    let hook = StandIn::start(move |_| {
        answer(if tries.fetch_add(1, Ordering::Relaxed) < 2 { 503 } else { 200 }, "")
    });
    notify(&mut site, &hook.url(), "");
    let mut run = site.run(&["sleep", "60"]);
    wait_until("three tries", SOON, || hook.asked().len() == 3);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert_eq!((events(&hook).len(), run.log_text().contains("not told")), (3, false), "{}", run.log_text());
}

/// The app starts at once, and the end comes in its time.
#[test]
fn a_webhook_that_never_answers_delays_nothing() {
    let mut site = Site::in_directory();
    site.make_history(20);
    site.wipe();
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    notify(
        &mut site,
        &format!("http://{}", mute.local_addr().unwrap()),
        "[heartbeat]\nurl = \"http://127.0.0.1:9/\"",
    );
    let mut run = site.run(&["sleep", "60"]);
    run.wait_for_log("the app", SOON, |line| line.contains("the app is started"));
    let begun = Instant::now();
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    // Two seconds, and what the machine makes of them.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(run.log_text().contains("1 notifications were not told before the end"), "{}", run.log_text());
    assert_hidden(&run);
}

#[test]
fn a_sign_of_life_comes_while_all_is_well_and_stops_when_not() {
    let mut site = Site::in_directory();
    let service = hook();
    site.settings = format!("[heartbeat]\nurl = \"{}/ping/SECRET\"\ninterval = \"1s\"\n", service.url());
    let app = format!("{}; sleep 60", site.bank_line(&["--rate", "100", "--count", "100000"]));
    let mut run = site.run(&["sh", "-c", &app]);
    wait_until("two signs", SOON, || service.asked().len() >= 2);
    assert!(service.asked().iter().all(|request| request.method == "GET" && request.path == "/ping/SECRET"));
    let bucket = site.path("bucket");
    std::fs::write(site.path("gone"), "no directory").unwrap();
    exchange(&bucket, &site.path("gone"));
    run.wait_for_complaint("bank.db", SOON);
    let before = service.asked().len();
    // One may have been on its way. None comes in the time of three.
    wait_until("a lag of three seconds", SOON, || {
        let (_, status) = litevisor::ask(&site.config(), &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        status["databases"][0]["lag_seconds"].as_f64().is_some_and(|lag| lag > 3.0)
    });
    assert!(service.asked().len() <= before + 1, "{before} {:?}", service.asked());
    exchange(&bucket, &site.path("gone"));
    let before = service.asked().len();
    wait_until("signs again", 3 * SOON, || service.asked().len() > before + 1);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert_hidden(&run);
}

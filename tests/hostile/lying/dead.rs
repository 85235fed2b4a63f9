//! Connections that are dead without a word, while new ones work: as behind a NAT or a load balancer that has
//! forgotten them. The last flush gets through within its grace, and while the app runs the replica is
//! seconds behind, not half a minute. And credentials that are late: at the start, and at the stop.

use crate::support::gate::{Gate, Mood};
use crate::support::process::Process;
use crate::support::seaweed::{ACCESS_KEY, REGION, SECRET_KEY, Seaweed};
use crate::support::site::Site;
use crate::support::standin::{Answer, StandIn, answer};
use crate::support::{SOON, side_by_side, wait_until};
use nix::sys::signal::{Signal, kill};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

fn behind_gate(bucket: &str, grace: &str) -> (Site, Gate) {
    let mut site = Site::in_s3(bucket).with_settings(&format!("[shutdown]\ngrace = \"{grace}\""));
    let gate = Gate::before(&Seaweed::shared().endpoint(), Mood::Telling);
    site.replica = site.replica.at(&gate.endpoint());
    (site, gate)
}

/// Transfers at the start, and five more for each time that `more` appears, and when it is told to stop.
fn app(site: &Site) -> String {
    let some = |count: &str| site.bank_line(&["--rate", "max", "--count", count]);
    let more = site.path("more").display().to_string();
    format!(
        "{first}; trap '{last}; exit 0' TERM; while :; do [ -e {more} ] && {again} && rm -f {more}; sleep 0.05; done",
        first = some("20"),
        last = some("5"),
        again = some("5"),
    )
}

/// Nothing has been asked of the store for this long.
fn wait_for_quiet(gate: &Gate, span: Duration) {
    let (mut seen, mut since) = (gate.requests(), Instant::now());
    wait_until("a quiet time", Duration::from_secs(300), || {
        let now = gate.requests();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        since.elapsed() >= span
    });
}

fn last_flush_over_a_dead_connection(bucket: &str, grace: &str, idle: Duration) {
    let (site, gate) = behind_gate(bucket, grace);
    let mut run = site.run(&["sh", "-c", &app(&site)]);
    site.wait_for_acks(19);
    wait_for_quiet(&gate, idle);
    gate.blacken();
    run.signal(Signal::SIGTERM);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 0, "grace {grace}, idle for {idle:?}:\n{}", run.log_text());
    assert_eq!(site.acked(), 25);
    site.assert_replica_holds_everything("after the last flush");
}

/// 3 s here; as long as `LITEVISOR_DEAD_IDLE` says in the long one, with graces of 5, 10 and 30 s.
#[test]
fn the_last_flush_finds_another_connection() {
    let Ok(idle) = std::env::var("LITEVISOR_DEAD_IDLE") else {
        return last_flush_over_a_dead_connection("lying-dead", "5s", Duration::from_secs(3));
    };
    for grace in ["5s", "10s", "30s"] {
        for seconds in idle.split(',').map(|seconds| seconds.parse().unwrap()) {
            let bucket = format!("lying-dead-{grace}-{seconds}");
            last_flush_over_a_dead_connection(&bucket, grace, Duration::from_secs(seconds));
        }
    }
}

#[test]
fn a_commit_over_a_dead_connection_is_seconds_late() {
    let (site, gate) = behind_gate("lying-dead-running", "10s");
    let mut run = site.run(&["sh", "-c", &app(&site)]);
    site.wait_for_acks(19);
    wait_for_quiet(&gate, Duration::from_secs(3));
    gate.blacken();
    let before = site.replica.newest_txid();
    std::fs::write(site.path("more"), "").unwrap();
    site.wait_for_acks(24);
    let begun = Instant::now();
    wait_until("the commit in the replica", SOON, || site.replica.newest_txid() > before);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}:\n{}", begun.elapsed(), run.log_text());
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    site.assert_replica_holds_everything("at the end");
}

/// What a container's agent answers: keys that are good until then.
fn keys(expiration: &str) -> Answer {
    let body = serde_json::json!({
        "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": "", "Expiration": expiration,
    });
    answer(200, body.to_string())
}

/// litevisor with an app, whose keys come from such an agent.
fn run_with_agent(site: &Site, agent: &StandIn, command: &[&str]) -> Process {
    with_agent(site, agent, "run", &[&["--"], command].concat())
}

fn with_agent(site: &Site, agent: &StandIn, subcommand: &str, words: &[&str]) -> Process {
    let config = site.config();
    let text = std::fs::read_to_string(&config).unwrap();
    let text: String =
        text.lines().filter(|line| !line.contains("access_key")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&config, text).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    run.arg(subcommand).arg("--config").arg(&config).args(words).env_clear();
    run.env("PATH", std::env::var("PATH").unwrap()).env("HOME", "/nonexistent").env("AWS_REGION", REGION);
    run.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url());
    Process::start(run)
}

/// At the start the agent has too much to do for three seconds.
#[test]
fn credentials_that_are_late_at_the_start_are_waited_for() {
    let site = Site::in_s3("lying-late-start");
    let first = OnceLock::new();
    let agent =
        StandIn::start(move |_| match first.get_or_init(Instant::now).elapsed() < Duration::from_secs(3) {
            true => answer(429, "slow down"),
            false => keys("2099-01-01T00:00:00Z"),
        });
    let mut run =
        run_with_agent(&site, &agent, &["sh", "-c", &site.bank_line(&["--rate", "max", "--count", "20"])]);
    let ended = run.wait(SOON + Duration::from_secs(20));
    assert_eq!(ended.code, 0, "{}", run.log_text());
    assert!(agent.asked().len() > 1, "{}", run.log_text());
    site.assert_replica_holds_everything("after a late start");
}

/// The same without an app: as a sidecar, and once.
#[test]
fn credentials_that_are_late_are_waited_for_by_replicate() {
    side_by_side(2, [false, true], |once| {
        let site = Site::in_s3(if once { "lying-late-once" } else { "lying-late-sidecar" });
        let bank = site.bank_line(&["--rate", "max", "--count", "20"]);
        assert!(Command::new("sh").args(["-c", &bank]).status().unwrap().success());
        let first = OnceLock::new();
        let agent = StandIn::start(move |_| {
            match first.get_or_init(Instant::now).elapsed() < Duration::from_secs(3) {
                true => answer(429, "slow down"),
                false => keys("2099-01-01T00:00:00Z"),
            }
        });
        let mut run = with_agent(&site, &agent, "replicate", if once { &["--once"] } else { &[] });
        if !once {
            wait_until("the first upload", SOON, || site.replica.newest_txid() > 0);
            kill(run.pid(), Signal::SIGTERM).unwrap();
        }
        let ended = run.wait(SOON + Duration::from_secs(20));
        assert_eq!(ended.code, 0, "once {once}: {}", run.log_text());
        assert!(agent.asked().len() > 1, "{}", run.log_text());
        site.assert_replica_holds_everything("after a late start");
    });
}

/// A sidecar's keys end while it is stopped, and for four seconds there are no new ones.
#[test]
fn credentials_that_are_late_at_the_stop_of_a_sidecar_are_waited_for() {
    late_at_the_stop("lying-late-sidecar-stop", |site, agent| with_agent(site, agent, "replicate", &[]), 0);
}

/// What the agent says for good is final, and at once.
#[test]
fn credentials_that_are_refused_are_not_waited_for() {
    let site = Site::in_s3("lying-refused-start");
    let agent = StandIn::start(|_| answer(403, r#"{"code":"AccessDenied","message":"no"}"#));
    let begun = Instant::now();
    let mut run = run_with_agent(&site, &agent, &["true"]);
    assert_eq!(run.wait(SOON).code, 69, "{}", run.log_text());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let (told, blamed) = (run.log_text(), format!("no credentials from {}", agent.url()));
    assert!(told.contains(&blamed) && told.contains("AccessDenied"), "{told}");
}

/// The keys end while the app is stopped, and for four seconds there are no new ones.
#[test]
fn credentials_that_are_late_at_the_stop_are_waited_for() {
    let run = |site: &Site, agent: &StandIn| run_with_agent(site, agent, &["sh", "-c", &app(site)]);
    late_at_the_stop("lying-late-stop", run, 1);
}

/// `start` begins it. The app runs in it (`apps` is 1), or beside it.
fn late_at_the_stop(bucket: &str, start: impl FnOnce(&Site, &StandIn) -> Process, apps: u32) {
    let site = Site::in_s3(bucket).with_settings("[shutdown]\ngrace = \"10s\"");
    let (stopping, since) =
        (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(None::<Instant>)));
    let (is_stopping, begun) = (Arc::clone(&stopping), Arc::clone(&since));
    let agent = StandIn::start(move |_| {
        if !is_stopping.load(Ordering::SeqCst) {
            return keys(&(jiff::Timestamp::now() + Duration::from_secs(3)).to_string());
        }
        let first = *begun.lock().unwrap().get_or_insert_with(Instant::now);
        match first.elapsed() < Duration::from_secs(4) {
            true => answer(429, "slow down"),
            false => keys("2099-01-01T00:00:00Z"),
        }
    });
    let mut run = start(&site, &agent);
    let beside = (apps == 0).then(|| {
        run.wait_for_log("an empty start", SOON, |line| line.contains("starting empty"));
        let mut bank = Command::new("sh");
        bank.args(["-c", &app(&site)]);
        Process::start(bank)
    });
    site.wait_for_acks(19);
    wait_until("the first upload", SOON, || site.replica.newest_txid() > 0);
    stopping.store(true, Ordering::SeqCst);
    // The keys that it has are over by then.
    let over = Instant::now() + Duration::from_secs(4);
    wait_until("the end of the keys", SOON, || Instant::now() > over);
    beside.iter().for_each(|bank| kill(bank.pid(), Signal::SIGTERM).unwrap());
    kill(run.pid(), Signal::SIGTERM).unwrap();
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 0, "{}", run.log_text());
    assert!(since.lock().unwrap().is_some(), "the agent was not asked at the stop");
    site.assert_replica_holds_everything("after a late stop");
}

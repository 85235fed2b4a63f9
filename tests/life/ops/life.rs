//! One life as operators see it: restoring, running, store away, stopping.

use crate::support::asking::{Asked, client, said, wait_for_status};
use crate::support::gate::Mood;
use crate::support::{SOON, wait_until};
use nix::sys::signal::Signal;

const BUDGET: &str = "[shutdown]\ngrace = \"6s\"\napp_timeout = \"4s\"\npre_sync_timeout = \"500ms\"";

fn replicated(value: &serde_json::Value) -> &serde_json::Value {
    &value["databases"][0]
}

#[test]
fn every_phase_is_told_to_whoever_asks() {
    let asked = Asked::new("ops-life", BUDGET);
    let (site, config) = (&asked.site, asked.site.config());
    site.make_history(50);
    site.wipe();

    asked.gate.set(Mood::Silent);
    let mut run = site.run_bank(&["--rate", "100", "--on-term", "ignore"]);
    let value = wait_for_status("an answer while it restores", &config, |value| {
        !replicated(value)["state"].is_null()
    });
    assert_eq!((&value["phase"], &value["ready"]), (&"restoring".into(), &false.into()), "{value:#}");
    assert_eq!((&replicated(&value)["state"], &value["app"]["pid"].is_null()), (&"restoring".into(), &true));
    assert_eq!(asked.http("GET", "/healthz"), (200, "ok\n".to_owned()));
    let (code, told) = asked.http("GET", "/readyz");
    assert!(code == 503 && told.contains("restoring"), "{code} {told}");
    assert_eq!((asked.ask(&["healthcheck", "--live"]).code, asked.ask(&["healthcheck"]).code), (0, 1));
    let early = asked.ask(&["sync"]);
    assert!(early.code == 69 && early.err.contains("restored"), "{early:?}");

    asked.gate.set(Mood::Open);
    asked.wait_until_ready();
    let value = wait_for_status("everything in the replica", &config, |value| {
        let db = replicated(value);
        db["state"] == "replicating" && !db["uploaded"].is_null() && db["uploads"].as_u64() > Some(0)
    });
    assert_eq!(value["app"]["pid"].as_i64(), Some(i64::from(run.bank().as_raw())), "{value:#}");
    let restore = &replicated(&value)["restore"];
    assert!(restore["outcome"] == "restored" && restore["bytes"].as_u64() > Some(1000), "{restore}");
    assert_eq!(asked.ask(&["healthcheck"]).code, 0);
    let table = asked.ask(&["status"]);
    assert!(
        table.out.contains(site.db().to_str().unwrap()) && table.out.contains("replicating"),
        "{table:?}"
    );

    asked.gate.set(Mood::Refusing);
    let value = wait_for_status("that the store is away", &config, |value| {
        let db = replicated(value);
        db["state"] == "failing"
            && db["lag_seconds"].as_f64() > Some(2.0)
            && db["lag_bytes"].as_u64() > Some(100_000)
    });
    assert!(replicated(&value)["problem"].as_str().unwrap().contains("bank.db"), "{value:#}");
    // The app must not notice, and neither must its users.
    let (code, told) = asked.http("GET", "/readyz");
    assert!(code == 200 && told.contains("bank.db"), "{code} {told}");
    assert_eq!(asked.ask(&["healthcheck"]).code, 0);

    run.signal(Signal::SIGTERM);
    wait_for_status("the stop", &config, |value| value["phase"] == "stopping");
    let (code, told) = asked.http("GET", "/readyz");
    assert!(code == 503 && told.contains("stopping"), "{code} {told}");
    let sick = asked.ask(&["healthcheck"]);
    assert!(sick.code == 1 && sick.err.contains("stopping"), "{sick:?}");
    asked.gate.set(Mood::Open);
    assert_eq!(run.wait(SOON).code, 137, "{}", run.log_text());
    site.assert_replica_holds_everything("after the stop");
    let gone = asked.ask(&["status"]);
    assert!(gone.code == 69 && gone.err.contains("litevisor.sock"), "{gone:?}");
    assert!(!site.path("litevisor.sock").exists());
}

#[test]
fn a_lag_that_is_too_long_is_told_to_those_who_asked_for_it() {
    let mut asked = Asked::new("ops-lag", "");
    asked.site.settings += "max_lag = \"1s\"\n";
    let mut run = asked.site.run_bank(&["--rate", "100"]);
    asked.wait_until_ready();
    asked.gate.set(Mood::Refusing);
    wait_until("/readyz to say no", SOON, || {
        let (code, told) = asked.http("GET", "/readyz");
        code == 503 && told.contains("are not in the replica")
    });
    assert_eq!(asked.ask(&["healthcheck"]).code, 1);
    asked.gate.set(Mood::Open);
    asked.wait_until_ready();
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

#[test]
fn an_app_that_is_started_again_is_counted() {
    let asked = Asked::new("ops-restarts", "");
    let marker = asked.site.path("lives");
    let line = format!("echo x >> {m}; [ $(wc -l < {m}) -ge 3 ] && sleep 600; exit 3", m = marker.display());
    let table = "[app]\nrestart = \"on-failure\"\nbackoff = { delay = \"50ms\" }\n";
    let mut site = asked.site;
    site.settings = format!("{table}{}", site.settings);
    let mut run = site.run(&["sh", "-c", &line]);
    let value = wait_for_status("the third life", &site.config(), |value| value["app"]["restarts"] == 2);
    assert!(value["app"]["ended"].as_str().unwrap().contains('3'), "{value:#}");
    let (_, metrics) = crate::support::asking::http(asked.port, "GET", "/metrics");
    assert!(metrics.contains("\nlitevisor_app_restarts_total 2\n"), "{metrics}");
    run.signal(Signal::SIGTERM);
    run.wait(SOON);
}

#[test]
fn nobody_there_is_an_error_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    for (words, code) in [(vec!["status"], 69), (vec!["sync"], 69), (vec!["healthcheck"], 1)] {
        let said = said(client(&words).args(["--socket", socket]).output().unwrap());
        assert!(
            said.code == code && said.err.contains("none.sock") && said.out.is_empty(),
            "{words:?}: {said:?}"
        );
    }
    // A configuration that cannot be used.
    let config = directory.path().join("supervisor.toml");
    std::fs::write(&config, "[status]\nsockte = \"/x\"\n").unwrap();
    for (words, code) in [(vec!["status"], 78), (vec!["sync"], 78), (vec!["healthcheck"], 1)] {
        let said = crate::support::asking::ask(&config, &words);
        assert!(said.code == code && said.err.contains("did you mean \"socket\""), "{words:?}: {said:?}");
    }
}

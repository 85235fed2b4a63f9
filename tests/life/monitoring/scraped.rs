//! A real Prometheus scrapes an owner behind a gate, its standby and a read-only copy: every query of the
//! dashboard is answered, every rule is evaluated, and when the store is away an alert fires and is over
//! again.

use super::dashboard::{dashboard, queries, variables};
use super::{assert_content, names, read, rules, text};
use crate::support::asking::http;
use crate::support::litevisor::{As, Litevisor};
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{SOON, exchange, repository, wait_for, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// For what needs some scrapes on a slow machine.
const LATE: Duration = Duration::from_secs(60);
/// What the dashboard shows only after a fault.
const AFTER_A_FAULT: &str = "result!=\"ok\"";

/// Ports that stay distinct: all are held until all are chosen.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn instance(mut site: Site, status: u16, gate: u16, app: u16, handover: &str) -> (Site, Litevisor) {
    let socket = site.path("litevisor.sock");
    site.settings = format!(
        "[status]\nsocket = {socket:?}\nlisten = \"127.0.0.1:{status}\"\n[verify]\ninterval = \"2s\"\n\
         [handover]\nenabled = true\npoll = \"200ms\"\nheartbeat = \"1s\"\n{handover}\n\
         [[gate]]\nlisten = \"127.0.0.1:{gate}\"\napp = \"127.0.0.1:{app}\"\nset_port = true\naccept = \"ready\"\n"
    );
    site.database_settings = "levels = [\"1s\"]\nsnapshot = { interval = \"5s\" }\n".to_owned();
    let server = repository().join("tests/life/handover/server.py");
    let db = site.db();
    let run = site.run(&["python3", "-S", server.to_str().unwrap(), db.to_str().unwrap()]);
    (site, run)
}

fn copy(owner: &Site, status: u16) -> Litevisor {
    let config = owner.path("copy.toml");
    let (db, socket) = (owner.path("copy.db"), owner.path("copy.sock"));
    let text = format!(
        "[follow]\npoll = \"200ms\"\n[status]\nsocket = {socket:?}\nlisten = \"127.0.0.1:{status}\"\n\
         [[database]]\npath = {db:?}\n[database.replica]\n{}",
        owner.replica.toml()
    );
    fs::write(&config, text).unwrap();
    let args =
        ["--follow".into(), "--config".into(), config.into(), "--".into(), "sleep".into(), "600".into()];
    Litevisor::run(As::Process, &args)
}

/// Sends requests through the gate until it is told to end. The last answer may never come.
fn write_on(gate: u16, ended: &AtomicBool) {
    for number in 0.. {
        if ended.load(Ordering::Acquire) {
            return;
        }
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", gate)) else { continue };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(format!("put {number}\n").as_bytes());
        let _ = BufReader::new(stream).read_line(&mut String::new());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The shipped rules, with short waits.
fn prometheus(targets: &[u16]) -> Server {
    let server = Server::start("prometheus", |port, directory| {
        let targets: Vec<String> = targets.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        let config = read("prometheus.yml")
            .replace("15s", "1s")
            .replace("[\"app-1:9090\", \"app-2:9090\"]", &format!("[{}]", targets.join(", ")));
        fs::write(directory.join("prometheus.yml"), config).unwrap();
        fs::write(directory.join("litevisor.rules.yml"), without_waiting(&read("litevisor.rules.yml")))
            .unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", directory.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command
    });
    // It listens before it can answer.
    wait_until("Prometheus to be ready", LATE, || answer(&server, "/-/ready").contains(" 200 "));
    server
}

/// Every `for: …m` is a second.
fn without_waiting(rules: &str) -> String {
    let short = |line: &str| {
        if line.trim_start().starts_with("for: ") { "        for: 1s".into() } else { line.to_owned() }
    };
    rules.lines().map(short).collect::<Vec<_>>().join("\n")
}

/// Head and body. HTTP/1.0: one answer, in one piece, then the end.
fn answer(prometheus: &Server, target: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", prometheus.port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {target} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The `data` of an answer of Prometheus' API; panics at an error.
fn asked(prometheus: &Server, path: &str, parameters: &[(&str, &str)]) -> Value {
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let parameters: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let answer = answer(prometheus, &format!("/api/v1/{path}?{}", parameters.join("&")));
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let value: Value =
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{path} {parameters:?}: {answer}"));
    assert_eq!(value["status"], "success", "{path} {parameters:?}: {answer}");
    value["data"].clone()
}

fn samples(prometheus: &Server, query: &str) -> Vec<Value> {
    asked(prometheus, "query", &[("query", query)])["result"].as_array().unwrap().clone()
}

/// As Grafana asks when all is chosen and the panel shows the last minutes.
fn filled_in(query: &str) -> String {
    ["$job", "$instance", "$db"]
        .iter()
        .fold(query.replace("$__rate_interval", "10s"), |query, name| query.replace(name, ".*"))
}

fn wait_for_data(prometheus: &Server, what: &str, mut queries: Vec<String>) {
    let end = std::time::Instant::now() + LATE;
    while !queries.is_empty() {
        queries.retain(|query| samples(prometheus, &filled_in(query)).is_empty());
        assert!(std::time::Instant::now() < end, "{what}: no data for {queries:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn firing(prometheus: &Server) -> BTreeSet<String> {
    let alerts = samples(prometheus, "ALERTS{alertstate=\"firing\"}");
    alerts.iter().map(|alert| text(&alert["metric"], "alertname").to_owned()).collect()
}

fn assert_rules_are_evaluated(prometheus: &Server) {
    let groups = wait_for("an evaluation of the rules", SOON, || {
        let groups = asked(prometheus, "rules", &[])["groups"].clone();
        let all = groups[0]["rules"].as_array().unwrap().clone();
        all.iter().all(|rule| rule["health"] != "unknown").then_some(all)
    });
    assert_eq!(groups.len(), rules().len());
    groups.iter().for_each(|rule| assert_eq!(rule["health"], "ok", "{rule}"));
}

/// Every metric that is used exists, and every one that exists is in the documentation's table.
fn assert_names(real: &BTreeSet<String>) {
    let dashboard = dashboard();
    let shown = queries(&dashboard)
        .into_iter()
        .chain(variables(&dashboard).into_iter().map(|(selector, _)| selector));
    let used = shown.chain(rules().into_iter().map(|rule| text(&rule, "expr").to_owned()));
    for query in used {
        let unknown: Vec<_> = names(&query).into_iter().filter(|name| !real.contains(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?} of {query} are in no /metrics");
    }
    let operations = fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let documented = names(&operations);
    let missing: Vec<_> = real.iter().filter(|name| !documented.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/operations.md does not name {missing:?}");
}

fn away(bucket: &Path, gone: &Path) {
    fs::write(gone, "no directory").unwrap();
    exchange(bucket, gone);
}

fn back(bucket: &Path, gone: &Path) {
    exchange(bucket, gone);
    fs::remove_file(gone).unwrap();
}

#[test]
fn a_real_prometheus_scrapes_asks_and_alerts() {
    let [status, gate, app, standby_status, standby_gate, standby_app, copy_status] = free_ports();
    let (owner, mut first) = instance(Site::in_directory(), status, gate, app, "");
    wait_until("the owner", SOON, || http(status, "GET", "/readyz").0 == 200);
    let mut other = Site::in_directory();
    other.replica = owner.replica.clone();
    let (_other, mut second) = instance(other, standby_status, standby_gate, standby_app, "standby = true");
    let (ended, targets) = (AtomicBool::new(false), [status, standby_status, copy_status]);
    let metrics = || targets.map(|port| http(port, "GET", "/metrics").1);
    std::thread::scope(|threads| {
        threads.spawn(|| write_on(gate, &ended));
        // Also when an assertion fails.
        let _end = Ends(&ended);
        wait_until("the first upload", SOON, || owner.replica.newest_txid() > 0);
        let mut reader = copy(&owner, copy_status);
        let prometheus = prometheus(&targets);
        wait_until("three targets", LATE, || samples(&prometheus, "up{job=\"litevisor\"} == 1").len() == 3);
        let (faults, usual): (Vec<_>, Vec<_>) =
            queries(&dashboard()).into_iter().partition(|query| query.contains(AFTER_A_FAULT));
        assert_eq!(faults.len(), 1);
        wait_for_data(&prometheus, "all is well", usual);
        for (selector, label) in variables(&dashboard()) {
            let values =
                asked(&prometheus, &format!("label/{label}/values"), &[("match[]", &filled_in(&selector))]);
            assert!(!values.as_array().unwrap().is_empty(), "{label} of {selector}");
        }
        assert_rules_are_evaluated(&prometheus);
        metrics().iter().for_each(|text| assert_content(&["check", "metrics"], text));
        assert_names(&metrics().iter().flat_map(|text| names(text)).collect());
        assert!(!firing(&prometheus).contains("LitevisorStoreAway"), "{:?}", firing(&prometheus));

        let (bucket, gone) = (owner.path("bucket"), owner.path("gone"));
        away(&bucket, &gone);
        wait_until("the alerts", LATE, || {
            let firing = firing(&prometheus);
            firing.contains("LitevisorStoreAway") && firing.contains("LitevisorGateHolds")
        });
        wait_for_data(&prometheus, "after a fault", faults);
        back(&bucket, &gone);
        wait_until("the end of the alerts", LATE, || {
            let firing = firing(&prometheus);
            !firing.contains("LitevisorStoreAway") && !firing.contains("LitevisorGateHolds")
        });
        ended.store(true, Ordering::Release);
        for run in [&mut reader, &mut second, &mut first] {
            let code = run.stop().code;
            assert!([0, 143].contains(&code), "{code}: {}", run.log_text());
        }
    });
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

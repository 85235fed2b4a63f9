//! `GET /` in a real browser: Chromium without a window, which tells its document, its console and its
//! requests.

use crate::support::asking::{free_port, http, status};
use crate::support::litevisor::{As, Litevisor};
use crate::support::standin::{StandIn, answer};
use crate::support::{SOON, wait_until};
use serde_json::Value;
use std::process::Command;

/// What the browser made of a page.
#[derive(Debug)]
struct Seen {
    /// The document as it stands in the end, as HTML.
    document: String,
    /// Messages in the console, also those of the page's policy.
    console: Vec<String>,
    /// What the page asked for, itself included; not what the browser does on its own.
    requests: Vec<String>,
}

fn browse(url: &str) -> Seen {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("net.json");
    let mut command = Command::new("timeout");
    command.args([
        "--kill-after=1",
        "60",
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
    ]);
    command.args(["--disable-background-networking", "--disable-dev-shm-usage", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
    command.arg(format!("--log-net-log={}", log.display())).env("HOME", home.path());
    // The page has this long, by its own clock, for whatever it loads or does later.
    command.args(["--virtual-time-budget=5000", "--dump-dom", url]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{:?}; is chromium there (tests/setup.sh)? {said}", output.status);
    Seen {
        document: String::from_utf8(output.stdout).unwrap(),
        console: said.lines().filter(|line| line.contains(":CONSOLE:")).map(str::to_owned).collect(),
        requests: requests(&serde_json::from_slice(&std::fs::read(&log).unwrap()).unwrap(), url),
    }
}

/// Of the browser's own log of the network.
fn requests(log: &Value, page: &str) -> Vec<String> {
    let begun = &log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"];
    let origin = page.trim_end_matches('/');
    let events = log["events"].as_array().unwrap().iter().filter(|event| event["type"] == *begun);
    let of_page = |event: &&Value| {
        let text = |key: &str| event["params"][key].as_str().unwrap_or_default();
        text("initiator") == origin || text("url").starts_with(origin)
    };
    events.filter(of_page).map(|event| event["params"]["url"].as_str().unwrap().to_owned()).collect()
}

/// What the next test relies on: a page with faults is seen to have them.
#[test]
fn a_page_with_faults_is_told_from_one_without() {
    let page = "<!doctype html><title>x</title><p>before</p><img src=\"http://127.0.0.1:9/x.png\"><style>p{color:red}</style>";
    let service = StandIn::start(move |request| {
        let mut answer = answer(if request.path == "/" { 200 } else { 404 }, page);
        answer.headers.push(("Content-Type", "text/html".into()));
        answer.headers.push(("Content-Security-Policy", "img-src http:; style-src 'none'".into()));
        answer
    });
    let url = service.url() + "/";
    let seen = browse(&url);
    assert!(seen.document.contains("<p>before</p>"), "{seen:?}");
    assert!(seen.console.iter().any(|line| line.contains("style")), "{seen:?}");
    assert!(
        seen.requests.contains(&url) && seen.requests.contains(&"http://127.0.0.1:9/x.png".to_owned()),
        "{seen:?}"
    );
}

#[test]
fn the_page_shows_what_is_replicated_and_loads_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let names = ["a.db", "b <b> & \"quoted\".db"];
    let (config, port) = (directory.path().join("supervisor.toml"), free_port());
    let mut text =
        format!("[status]\nsocket = {:?}\nlisten = \"127.0.0.1:{port}\"\n", directory.path().join("l.sock"));
    for (number, name) in names.iter().enumerate() {
        let (path, replica) =
            (directory.path().join(name), directory.path().join(format!("replica{number}")));
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
            .unwrap();
        text += &format!(
            "[[database]]\npath = '{}'\n[database.replica]\nurl = 'file://{}'\n",
            path.display(),
            replica.display()
        );
    }
    std::fs::write(&config, text).unwrap();
    // The first life makes the history that the second one shows.
    let live = |app: &[&str]| {
        let args = [
            ["--config".into(), config.clone().into(), "--".into()].to_vec(),
            app.iter().map(Into::into).collect(),
        ];
        Litevisor::run(As::Process, &args.concat())
    };
    assert_eq!(live(&["true"]).wait(SOON).code, 0);
    let mut run = live(&["sleep", "600"]);
    wait_until("/readyz", SOON, || http(port, "GET", "/readyz").0 == 200);
    // Nothing is written any more: the page and the status tell the same.
    wait_until(
        "both databases, with the moments that can be restored and the first sample of the lag",
        SOON,
        || {
            let page = http(port, "GET", "/").1;
            let both = |part: &str| page.matches(part).count() == 2;
            both("<dd class=\"good\">replicating</dd>") && both("<caption>Moments") && both(">Lag: ")
        },
    );
    let url = format!("http://127.0.0.1:{port}/");
    let seen = browse(&url);
    assert_eq!(seen.console, [""; 0], "{seen:?}");
    assert_eq!(seen.requests, [url.as_str()], "{seen:?}");
    let document = &seen.document;
    assert!(document.contains("<title>litevisor: ready</title>"), "{document}");
    assert_eq!(
        (document.matches("<article ").count(), document.matches("<svg ").count()),
        (2, 4),
        "{document}"
    );
    for name in names {
        let shown = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        assert!(document.contains(&format!("{shown}</h3>")), "{shown} is not in {document}");
    }
    assert!(!document.contains("<b>") && !document.contains("<script"), "{document}");
    for database in status(&config)["databases"].as_array().unwrap() {
        for (term, key) in [("Committed TXID", "committed"), ("Uploaded TXID", "uploaded")] {
            let txid = database[key].as_str().unwrap();
            assert!(
                document.contains(&format!("<dt>{term}</dt><dd>{txid}</dd>")),
                "{term} {txid}: {document}"
            );
        }
    }
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

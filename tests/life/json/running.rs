//! The commands that ask a running litevisor, in the situations that it can be in: before the restore, with
//! gate and proofs, while the replica is away, as owner, standby and retired, beside read-only copies, and
//! without a database.

use super::Documents;
use crate::support::asking::{free_port, wait_for_status};
use crate::support::litevisor::{As, Litevisor};
use crate::support::site::Site;
use crate::support::{SOON, bank, exchange, repository, wait_for, wait_until};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A proof and a hand-over, on a slow machine.
const LATE: Duration = Duration::from_secs(60);

/// `sections` stand before the databases.
fn site(sections: &str) -> Site {
    let mut site = Site::in_directory();
    let socket = site.path("l.sock");
    site.settings = format!("{sections}\n[status]\nsocket = {socket:?}\n");
    site
}

fn ask(documents: &Documents, site: &Site, schema: &str, what: &str, line: &str, code: i32) -> Value {
    let config = site.config();
    let mut words: Vec<&str> = line.split(' ').collect();
    words.extend(["--config", config.to_str().unwrap()]);
    documents.ask(schema, what, &site.path("."), &words, code)
}

/// Until `status --json` shows it, which is then a document.
fn see(documents: &Documents, site: &Site, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let value = wait_for_status(what, &site.config(), wanted);
    documents.keep("status", what, &value.to_string());
    value
}

/// The body of GET /status.
fn body(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn before_the_restore(documents: &Documents) {
    let gate =
        format!("[[gate]]\nlisten = \"127.0.0.1:{}\"\napp = \"127.0.0.1:{}\"\n", free_port(), free_port());
    let mut site = site(&format!("{gate}[restore]\ntimeout = \"5m\""));
    // A bucket that never answers.
    let keys = format!(
        "endpoint = \"http://127.0.0.1:{}\"\naccess_key_id = \"a\"\nsecret_access_key = \"b\"\n",
        free_port()
    );
    let socket = site.path("l.sock");
    let config = site.path("away.toml");
    let text = format!(
        "{}[[database]]\npath = {:?}\n[database.replica]\nurl = \"s3://bucket/app\"\nregion = \"r\"\n{keys}",
        site.settings,
        site.db()
    );
    fs::write(&config, text).unwrap();
    site.kind = As::Process;
    let mut run =
        Litevisor::run(As::Process, &["--config".into(), config.clone().into(), "--".into(), "true".into()]);
    wait_until("the socket", SOON, || socket.exists());
    let ask = |schema: &str, what: &str, words: &[&str], code: i32| {
        let words: Vec<&str> = words.iter().copied().chain(["--config", config.to_str().unwrap()]).collect();
        documents.ask(schema, what, &site.path("."), &words, code)
    };
    // The socket is there before the database is known.
    let state =
        |value: &Value| value["phase"] == "restoring" && value["databases"][0]["state"] == "restoring";
    wait_for_status("restoring", &config, state);
    assert!(state(&ask("status", "restoring", &["status"], 0)));
    ask("sync", "restoring", &["sync"], 69);
    ask("healthcheck", "restoring", &["healthcheck"], 1);
    ask("handover", "restoring", &["promote"], 78);
    run.stop();
    ask("status", "nobody answers", &["status"], 69);
    ask("verify-history", "not configured", &["verify", "none.db", "--history"], 64);
}

/// A gate in front of an app that has failed once, proofs, and a replica that goes and comes back.
fn with_everything(documents: &Documents) {
    let (port, app) = (free_port(), free_port());
    let site = site(&format!(
        "[app]\nrestart = \"on-failure\"\nbackoff = {{ delay = \"10ms\" }}\n[verify]\ninterval = \"1s\"\n[[gate]]\n\
         listen = \"127.0.0.1:{port}\"\napp = \"127.0.0.1:{app}\"\nset_port = true\n"
    ))
    .with_database_settings("levels = [\"1s\"]");
    let server = repository().join("tests/life/gate/server.py");
    let flag = site.path("flag");
    let line = format!(
        "test -e {flag:?} || {{ touch {flag:?}; exit 3; }}; exec python3 -S {server:?} {:?} 0",
        site.db()
    );
    let mut run = site.run(&["sh", "-c", &line]);
    let mut client =
        BufReader::new(wait_for("the gate", SOON, || TcpStream::connect(("127.0.0.1", port)).ok()));
    client.get_ref().set_read_timeout(Some(SOON)).unwrap();
    let mut put = |key: &str| client.get_mut().write_all(format!("put {key}\n").as_bytes()).unwrap();
    put("a");
    let value = see(documents, &site, "a sound proof", |value| {
        value["databases"][0]["proof"]["last"]["sound"] == true
    });
    assert_eq!(
        (&value["app"]["restarts"], &value["gates"][0]["connections"]),
        (&1.into(), &1.into()),
        "{value:#}"
    );
    documents.keep("status", "body", &body(&site.path("l.sock")));
    ask(documents, &site, "sync", "done", "sync --timeout 20s", 0);
    ask(documents, &site, "sync", "another database", "sync none.db", 64);
    ask(documents, &site, "healthcheck", "ready", "healthcheck", 0);
    ask(documents, &site, "healthcheck", "live", "healthcheck --live", 0);
    ask(documents, &site, "handover", "off", "promote", 78);
    ask(documents, &site, "verify-history", "sound", "verify --history", 0);
    // A file of the newest state is damaged: the next proof says so.
    damage_snapshot(&site.path("bucket/ltx/9"));
    see(documents, &site, "a failed proof", |value| value["databases"][0]["proof"]["last"]["sound"] == false);
    wait_until("the record of a failed proof", LATE, || {
        let value = ask(documents, &site, "verify-history", "failed", "verify --history", 0);
        value[0]["proofs"].as_array().unwrap().iter().any(|one| one["sound"] == false)
    });
    let bank =
        ask(documents, &site, "restore", "in place", &format!("restore {} --force", site.db().display()), 0);
    assert!(bank[0]["restored"]["remark"].is_string(), "{bank:#}");
    // The replica is away.
    let mut client = wait_for("the gate again", SOON, || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"put b\n").ok()?;
        let mut line = String::new();
        BufReader::new(stream.try_clone().ok()?).read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(stream)
    });
    let (bucket, away) = (site.path("bucket"), site.path("away"));
    fs::write(&away, "in the way").unwrap();
    exchange(&bucket, &away);
    client.write_all(b"put c\n").unwrap();
    see(documents, &site, "an answer that is held", |value| {
        value["gates"][0]["oldest_held_seconds"].is_number()
    });
    see(documents, &site, "a failing replica", |value| value["databases"][0]["state"] == "failing");
    let value = ask(documents, &site, "sync", "not in time", "sync --timeout 500ms", 74);
    assert!(value["problem"].is_null() && value["databases"][0]["problem"].is_string(), "{value:#}");
    exchange(&bucket, &away);
    fs::remove_file(&away).unwrap();
    run.kill_everything();
}

fn damage_snapshot(directory: &Path) {
    let newest = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()).max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(newest, bytes).unwrap();
}

fn owner_and_standby(documents: &Documents) {
    let keys =
        "[handover]\nenabled = true\npoll = \"100ms\"\nheartbeat = \"3s\"\ntrial = \"1s\"\nwait = \"5s\"\n";
    let owner = site(keys);
    let mut first = owner.run_bank(&["--rate", "20"]);
    let state = |wanted: &'static str| move |value: &Value| value["handover"]["state"] == wanted;
    // A standby has a copy once there is something to restore.
    see(documents, &owner, "owner", |value| {
        state("owner")(value) && value["databases"][0]["uploaded"].is_string()
    });
    let mut standby = site(&format!("{keys}standby = true\n"));
    standby.replica = owner.replica.clone();
    let mut second = standby.run_bank(&["--rate", "20"]);
    see(documents, &standby, "standby", |value| {
        let standby = &value["handover"]["standby"];
        standby["heard_seconds_ago"].is_number()
            && standby["positions"].as_object().is_some_and(|all| !all.is_empty())
    });
    ask(documents, &owner, "handover", "owns it", "promote", 64);
    ask(documents, &standby, "handover", "does not own it", "handover", 64);
    ask(documents, &standby, "handover", "promoted", "promote", 0);
    see(documents, &owner, "retired", state("retired"));
    [&mut second, &mut first].into_iter().for_each(Litevisor::kill_everything);
}

fn copies(documents: &Documents) {
    let site = site("[follow]\npoll = \"100ms\"");
    bank::seed(&site.db());
    let mut once = Litevisor::replicate(As::Process, &site.config(), &["--once"]);
    assert_eq!(once.wait(SOON).code, 0, "{}", once.log_text());
    site.wipe();
    let words = [
        "--config".into(),
        site.config().into(),
        "--follow".into(),
        "--".into(),
        "sleep".into(),
        "600".into(),
    ];
    let mut run = Litevisor::run(As::Process, &words);
    see(documents, &site, "following", |value| value["databases"][0]["follow"]["position"].is_string());
    ask(documents, &site, "sync", "of copies", "sync", 64);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

fn without_a_database(documents: &Documents) {
    let site = site("");
    let mut run = site.run(&["sleep", "600"]);
    see(documents, &site, "absent", |value| {
        value["databases"][0]["state"] == "absent" && value["phase"] == "running"
    });
    let value = ask(documents, &site, "sync", "absent", "sync", 66);
    assert_eq!(value["databases"][0]["exit_status"], 66, "{value:#}");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

#[test]
fn documents_of_a_running_litevisor() {
    let documents = Documents::new();
    let situations = [before_the_restore, with_everything, owner_and_standby, copies, without_a_database];
    crate::support::side_by_side(2, situations, |situation| situation(&documents));
    // What takes other places to see: a rollback journal behind a gate, a copy that became a new file, a
    // proof without room.
    let but =
        ["/unprovable/items/database", "/unprovable/items/reason", "/readers_of_old_file", "/undecided"];
    documents.judge(&["status", "sync", "verify-history", "handover", "healthcheck"], &but);
}

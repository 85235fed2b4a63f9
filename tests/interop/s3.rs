//! Litestream 0.5.17 and litevisor on the same real servers, moto and s3rver: each restores what the other
//! wrote. (On SeaweedFS: `interop`.) And no secret in anything that litevisor says or hands on.

use crate::support::litestream::Replicate;
use crate::support::process::Process;
use crate::support::replica::Replica;
use crate::support::seaweed::{ACCESS_KEY, SECRET_KEY, block_on};
use crate::support::site::Site;
use crate::support::{SOON, bank, litevisor};
use crate::support::{moto, s3rver, seaweed};
use std::process::Command;

fn on_moto(name: &str) -> Site {
    let endpoint = moto::shared().endpoint();
    // One that is there already is fine.
    let _ = block_on(seaweed::sdk_client(&endpoint).create_bucket().bucket("interop").send());
    at(&endpoint, "interop", name)
}

fn on_s3rver(name: &str) -> Site {
    at(&s3rver::shared().endpoint(), s3rver::BUCKET, name)
}

fn at(endpoint: &str, bucket: &str, prefix: &str) -> Site {
    let mut site = Site::in_directory();
    site.replica = Replica::S3 { endpoint: endpoint.into(), bucket: bucket.into(), prefix: prefix.into() };
    site
}

/// We write, Litestream judges; the disk is lost; we restore and go on; Litestream judges again.
fn they_restore_what_we_write(site: &Site) {
    site.make_history(200);
    site.wipe();
    site.make_history(50);
    site.assert_disk_holds_everything("restored by us");
}

#[test]
fn litestream_restores_what_we_wrote_to_moto() {
    they_restore_what_we_write(&on_moto("ours.db"));
}

#[test]
fn litestream_restores_what_we_wrote_to_s3rver() {
    they_restore_what_we_write(&on_s3rver("ours.db"));
}

fn we_restore_what_they_write(site: &Site) {
    let peer = Replicate::start(&site.replica, &site.db());
    let words = site.bank_words(&["--rate", "300", "--count", "400"]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let mut bank = Process::start(command);
    let out = site.path("ours.db");
    assert_eq!(bank.wait(SOON).code, 0, "{}", bank.log_text());
    peer.stop();
    site.assert_replica_holds_everything("by Litestream's own restore");
    let done = litevisor::restore(&site.config(), &site.db(), &out);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    bank::check(&out, &site.ack(), None).unwrap();
    assert_eq!(bank::dump(&out), bank::dump(&site.path("judged.db")), "both tools read the same");
    // And we go on where they stopped.
    site.wipe();
    site.make_history(20);
}

#[test]
fn we_restore_what_litestream_wrote_to_moto() {
    we_restore_what_they_write(&on_moto("theirs.db"));
}

#[test]
fn we_restore_what_litestream_wrote_to_s3rver() {
    we_restore_what_they_write(&on_s3rver("theirs.db"));
}

#[test]
fn a_store_without_conditions_is_told_of_once() {
    let site = on_s3rver("told.db");
    let mut run = site.run_bank(&["--rate", "max", "--count", "200"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    assert_eq!(run.log_text().matches("ignores conditional writes").count(), 1, "{}", run.log_text());
}

const SECRETS: [&str; 4] =
    ["hunter2-secret", "hunter2-session", "aHVudGVyMi1zc2UtYy1rZXktMzItYnl0ZXMhISEhISE=", "hunter2-env"];

fn assert_clean(what: &str, text: &str) {
    assert!(!text.is_empty(), "{what} is empty");
    for secret in SECRETS.iter().chain([&SECRET_KEY]) {
        assert!(!text.contains(secret), "{what} tells {secret}:\n{text}");
    }
}

/// At the finest level, whether it goes well or not, also in what the app gets.
#[test]
fn no_secret_is_ever_told() {
    let site = Site::in_s3("secrets").with_settings("[log]\nlevel = \"trace\"");
    let mut run = site.run(&["sh", "-c", "env; tr '\\0' '\\n' </proc/self/environ"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    assert_clean("a run that goes well", &run.log_text());
    let config = std::fs::read_to_string(site.config()).unwrap();
    let lines = [
        String::new(),
        format!("session_token = \"{}\"\n", SECRETS[1]),
        format!("sse_c_key = \"{}\"\n", SECRETS[2]),
    ];
    for line in lines {
        let text = config.replace(SECRET_KEY, SECRETS[0]) + &line;
        let file = site.path("wrong.toml");
        std::fs::write(&file, text).unwrap();
        for args in [["run", "--config"], ["check", "--config"], ["list", "--config"]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
            command.args(args).arg(&file).env("AWS_SESSION_TOKEN", SECRETS[3]);
            if args[0] == "run" {
                command.args(["--", "true"]);
            }
            let output = command.output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(args[0] == "check" || !output.status.success(), "{args:?} {line}: {told}");
            assert_clean(args[0], &told);
        }
    }
}

#[test]
fn keys_of_our_environment_do_not_reach_the_app() {
    let site = Site::in_s3("environment");
    let text = std::fs::read_to_string(site.config()).unwrap();
    let own: Vec<&str> = text.lines().filter(|line| !line.contains("_key")).collect();
    let file = site.path("from-env.toml");
    std::fs::write(&file, own.join("\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.args(["run", "--config"]).arg(&file).args(["--", "env"]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let output = command.output().unwrap();
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("PATH="), "{told}");
    assert_clean("the app's environment", &told);
}

/// A URL whose path is not a plain key, on a real server: both programs make the same key of it, or litevisor
/// refuses it at the start.
#[test]
fn a_url_with_an_unusual_path_is_the_same_key_for_both() {
    let servers = [(moto::shared().endpoint(), "moto"), (seaweed::Seaweed::shared().endpoint(), "seaweed")];
    for (endpoint, server) in servers {
        let _ = block_on(seaweed::sdk_client(&endpoint).create_bucket().bucket("unusual").send());
        for path in ["a//b", "trail/", "p%20q", "r s", "a+b", "x%3Fy", "100%25"] {
            let site = Unusual::new(&endpoint, path);
            let mut run = site.run();
            assert_eq!(run.wait(SOON).code, 0, "{server} {path}: {}", run.log_text());
            let out = site.root.path().join("theirs.db");
            let said = site.litestream(&["restore", "-o", out.to_str().unwrap(), "-config"]);
            assert!(out.exists(), "{server} {path}: {said}");
            let rows =
                rusqlite::Connection::open(&out).unwrap().query_row("SELECT x FROM t", [], |row| row.get(0));
            assert_eq!(rows, Ok(7), "{server} {path}");
        }
        for path in ["a$b", "a%24b", "back\\slash", "back%5Cslash"] {
            let site = Unusual::new(&endpoint, path);
            let mut run = site.run();
            assert_eq!(run.wait(SOON).code, 78, "{server} {path}: {}", run.log_text());
            assert!(run.log_text().contains("url"), "{}", run.log_text());
        }
    }
}

/// A database whose replica is given by a URL, to both programs alike.
struct Unusual {
    root: tempfile::TempDir,
}

impl Unusual {
    fn new(endpoint: &str, path: &str) -> Unusual {
        let root = tempfile::tempdir().unwrap();
        let db = root.path().join("a.db");
        // YAML and TOML take both as they are, in single quotes.
        let url = format!("'s3://unusual/{path}'");
        let toml = format!(
            "[[database]]\npath = '{}'\n[database.replica]\nurl = {url}\nendpoint = '{endpoint}'\nregion = 'us-east-1'\n\
             force_path_style = true\naccess_key_id = '{ACCESS_KEY}'\nsecret_access_key = '{SECRET_KEY}'\n",
            db.display()
        );
        let yaml = format!(
            "dbs:\n  - path: {}\n    replica:\n      url: {url}\n      endpoint: {endpoint}\n      region: us-east-1\n      \
             force-path-style: true\n      access-key-id: {ACCESS_KEY}\n      secret-access-key: {SECRET_KEY}\n",
            db.display()
        );
        std::fs::write(root.path().join("supervisor.toml"), toml).unwrap();
        std::fs::write(root.path().join("litestream.yml"), yaml).unwrap();
        Unusual { root }
    }

    fn db(&self) -> String {
        self.root.path().join("a.db").display().to_string()
    }

    /// An app that writes one row.
    fn run(&self) -> Process {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=20)\n\
                      c.execute('PRAGMA journal_mode=wal')\nc.executescript('CREATE TABLE t(x); INSERT INTO t VALUES (7)')";
        let mut run = Command::new(env!("CARGO_BIN_EXE_litevisor"));
        run.arg("run").arg("--config").arg(self.root.path().join("supervisor.toml"));
        run.args(["--", "python3", "-c", script, &self.db()]);
        Process::start(run)
    }

    fn litestream(&self, words: &[&str]) -> String {
        let mut command = Command::new(crate::support::peer(crate::support::litestream::VERSION));
        command.env_remove("AWS_CA_BUNDLE").env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        let output =
            command.args(words).arg(self.root.path().join("litestream.yml")).arg(self.db()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

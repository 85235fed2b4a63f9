//! The recipes in examples/: what each promises about its platform stands in its files, its `supervisor.toml`
//! passes `check`, and litevisor runs with it: a local store in place of the cloud's, the bank in place of
//! the app, through the loss of the disk. What cannot be tried without the platform is named in each README.

mod files;
mod gates;

use crate::support::litevisor::{As, Litevisor};
use crate::support::process::Process;
use crate::support::{SOON, bank, wait_until};
use nix::sys::signal::{Signal, kill};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

const RECIPES: [&str; 8] = [
    "compose",
    "ecs-fargate",
    "fly",
    "grafana-cloud-run",
    "hedgedoc-kubernetes",
    "railway",
    "render",
    "systemd",
];

fn recipe(name: &str) -> PathBuf {
    crate::support::repository().join("examples").join(name)
}

/// The environment that the platform gives.
fn with_environment(command: &mut Command, keys: &Path) {
    for (name, value) in [
        ("REPLICA_BUCKET", "bucket"),
        ("REPLICA_ENDPOINT", "https://s3.example.com"),
        ("REPLICA_KEY", "key-in-the-environment"),
        ("REPLICA_SECRET", "secret-in-the-environment"),
        ("BUCKET_NAME", "bucket"),
        ("AWS_ENDPOINT_URL_S3", "https://s3.example.com"),
    ] {
        command.env(name, value);
    }
    for (name, file) in [("REPLICA_KEY_FILE", "replica_key"), ("REPLICA_SECRET_FILE", "replica_secret")] {
        command.env(name, keys.join(file));
        std::fs::write(keys.join(file), "key-in-a-file\n").unwrap();
    }
    command.env("CREDENTIALS_DIRECTORY", keys);
}

#[test]
fn every_recipe_is_here_and_says_what_was_tried() {
    for name in RECIPES {
        let text = std::fs::read_to_string(recipe(name).join("README.md")).unwrap();
        for part in ["## What bites", "## Tried, and not", "Not tried here"] {
            assert!(text.contains(part), "{name} has no `{part}`");
        }
    }
}

#[test]
fn every_configuration_passes_check_and_shows_no_secret() {
    let keys = tempfile::tempdir().unwrap();
    for name in RECIPES {
        // Who the app's user is only its image knows.
        let text = std::fs::read_to_string(recipe(name).join("supervisor.toml")).unwrap();
        let users = ["grafana", "app", "hedgedoc"];
        let text = users.iter().fold(text, |text, user| text.replace(&format!("\"{user}\""), "\"0:0\""));
        let config = keys.path().join("supervisor.toml");
        std::fs::write(&config, text).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_litevisor"));
        check.args(["check", "--config"]).arg(&config);
        with_environment(&mut check, keys.path());
        let output = check.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {text}");
        assert!(!text.contains("secret-in") && !text.contains("key-in-a-file"), "{name}: {text}");
        // And without what it needs it names it.
        let mut bare = Command::new(env!("CARGO_BIN_EXE_litevisor"));
        bare.args(["check", "--config"]).arg(recipe(name).join("supervisor.toml")).env_clear();
        let output = bare.output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{name} without its environment");
    }
}

/// A value as it may stand behind a key: JSON's strings and numbers are TOML's.
fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        toml::Value::Array(array) => format!("[{}]", array.iter().map(inline).collect::<Vec<_>>().join(", ")),
        plain => serde_json::to_string(plain).unwrap(),
    }
}

/// A recipe's configuration with what stands for the platform: another disk, a directory as store, no other
/// user.
struct Local {
    dir: tempfile::TempDir,
    stop: Signal,
}

impl Local {
    fn new(name: &str) -> Local {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bucket")).unwrap();
        let text = std::fs::read_to_string(recipe(name).join("supervisor.toml")).unwrap();
        let mut table: toml::Table = text.parse().unwrap();
        let app = table["app"].as_table_mut().unwrap();
        app.remove("user");
        app.remove("working_dir");
        app.remove("command");
        let database = table["database"].as_array_mut().unwrap()[0].as_table_mut().unwrap();
        database.remove("owner");
        database.insert("path".into(), dir.path().join("disk/bank.db").to_str().unwrap().into());
        let replica = toml::Table::from_iter([(
            "url".to_owned(),
            toml::Value::from(format!("file://{}", dir.path().join("bucket").display())),
        )]);
        database.insert("replica".into(), replica.into());
        if let Some(status) = table.get_mut("status").and_then(toml::Value::as_table_mut) {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            status.insert("listen".into(), free.to_string().into());
        }
        let lines: Vec<String> =
            table.iter().map(|(key, value)| format!("{key} = {}\n", inline(value))).collect();
        std::fs::write(dir.path().join("supervisor.toml"), lines.concat()).unwrap();
        let stop = if name == "fly" { Signal::SIGINT } else { Signal::SIGTERM };
        Local { dir, stop }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("supervisor.toml")
    }

    /// The disk is new.
    fn wipe(&self) {
        let disk = self.dir.path().join("disk");
        let _ = std::fs::remove_dir_all(&disk);
        std::fs::create_dir(disk).unwrap();
    }

    fn ack(&self) -> PathBuf {
        self.dir.path().join("ack")
    }

    fn bank(&self) -> Vec<OsString> {
        let db = self.dir.path().join("disk/bank.db");
        let options = ["--rate", "100", "--on-term", "write-more"].map(OsString::from);
        let mut words: Vec<OsString> = vec![bank::binary().into(), "run".into(), "--db".into(), db.into()];
        words.extend(["--ack".into(), self.ack().into()]);
        words.extend(options);
        words
    }

    fn wait_for_transfers(&self) {
        let before = bank::acked(&self.ack());
        wait_until("transfers", SOON, || bank::acked(&self.ack()) > before + 20);
    }

    fn assert_complete(&self, name: &str) {
        let out = self.dir.path().join("judged.db");
        let _ = std::fs::remove_file(&out);
        let url = format!("file://{}", self.dir.path().join("bucket").display());
        let output = crate::support::litevisor::restore_url(&url, &out);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        bank::check(&out, &self.ack(), None).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
    }
}

#[test]
fn every_recipe_survives_the_loss_of_its_disk() {
    for name in RECIPES {
        let local = Local::new(name);
        // Fly.io's own init and systemd are PID 1 there.
        let kind = if matches!(name, "fly" | "systemd") { As::Process } else { As::Pid1 };
        for life in 0..2 {
            local.wipe();
            let mut args: Vec<OsString> = vec!["--config".into(), local.config().into(), "--".into()];
            args.extend(local.bank());
            let mut run = Litevisor::run(kind, &args);
            local.wait_for_transfers();
            run.signal(local.stop);
            assert_eq!(run.wait(SOON).code, 0, "{name}, life {life}: {}", run.log_text());
            local.assert_complete(name);
        }
    }
}

/// What the startup probe of the recipe asks.
fn ready(local: &Local) -> bool {
    let table: toml::Table = std::fs::read_to_string(local.config()).unwrap().parse().unwrap();
    let Ok(mut server) = TcpStream::connect(table["status"]["listen"].as_str().unwrap()) else {
        return false;
    };
    let mut answer = String::new();
    server.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    server.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// hedgedoc-kubernetes/sidecar.yaml: the same configuration with `replicate`; the app is stopped first.
#[test]
fn the_sidecar_survives_the_loss_of_its_disk() {
    let local = Local::new("hedgedoc-kubernetes");
    for life in 0..2 {
        local.wipe();
        let mut sidecar = Litevisor::replicate(As::Pid1, &local.config(), &[]);
        wait_until("the startup probe", SOON, || ready(&local));
        let words = local.bank();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let mut app = Process::start(command);
        local.wait_for_transfers();
        kill(app.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(app.wait(SOON).code, 0);
        assert_eq!(sidecar.stop().code, 0, "life {life}: {}", sidecar.log_text());
        local.assert_complete("the sidecar");
    }
}

//! Litestream 0.5.17: the judge of what we write, and the writer of what we must read.

use super::fake_gcs::FakeGcs;
use super::peer;
use super::process::{Ended, Process};
use super::replica::Replica;
use nix::sys::signal::{Signal, kill};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const VERSION: &str = "litestream-0.5/bin/litestream";

fn command(program: &str) -> Command {
    let mut command = Command::new(peer(program));
    // 0.5.17's S3 client refuses to start with a certificate bundle in the environment.
    for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "LITESTREAM_CONFIG"] {
        command.env_remove(name);
    }
    if let Some(server) = FakeGcs::started() {
        command.env("STORAGE_EMULATOR_HOST", server.address().to_string());
    }
    command
}

/// A litestream.yml for one database, written to `directory`.
fn config(directory: &Path, replica: &Replica, db: &Path) -> PathBuf {
    let path = directory.join("litestream.yml");
    let text = format!("dbs:\n  - path: {}\n    replica:\n{}", db.display(), replica.yaml());
    std::fs::write(&path, text).unwrap();
    path
}

/// `litestream restore` of the latest state into `out`, which is replaced. Err is what it said.
pub fn restore(replica: &Replica, out: &Path) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("any.db");
    restore_by(VERSION, &config(directory.path(), replica, &db), &db, out)
}

/// What `litestream ltx` lists. Err is what it said.
pub fn ltx(replica: &Replica) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("any.db");
    let config = config(directory.path(), replica, &db);
    let output = command(VERSION).arg("ltx").arg("-config").arg(config).arg(db).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The state right after this transaction.
pub fn restore_at(replica: &Replica, txid: &str, out: &Path) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("any.db");
    restore_with(VERSION, &config(directory.path(), replica, &db), &db, out, &["-txid", txid])
}

/// `litestream restore -f`: keeps the file up with the replica until it is dropped.
pub struct Follow {
    process: Process,
    _directory: tempfile::TempDir,
}

pub fn follow(replica: &Replica, out: &Path) -> Follow {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("any.db");
    let mut restore = command(VERSION);
    restore.args(["restore", "-f", "-follow-interval", "100ms", "-config"]).arg(config(
        directory.path(),
        replica,
        &db,
    ));
    restore.arg("-o").arg(out).arg(&db);
    Follow { process: Process::start(restore), _directory: directory }
}

impl Follow {
    pub fn log_text(&self) -> String {
        self.process.log_text()
    }
}

fn restore_by(version: &str, config: &Path, db: &Path, out: &Path) -> Result<(), String> {
    restore_with(version, config, db, out, &[])
}

fn restore_with(version: &str, config: &Path, db: &Path, out: &Path, more: &[&str]) -> Result<(), String> {
    for side in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{side}", out.display()));
    }
    let output = command(version)
        .arg("restore")
        .args(more)
        .arg("-config")
        .arg(config)
        .arg("-o")
        .arg(out)
        .arg(db)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() && out.exists() { Ok(()) } else { Err(said) }
}

/// `litestream replicate` beside an app that somebody else runs.
pub struct Replicate {
    process: Process,
    /// Makes its last sync, then ends.
    ends_by: Signal,
    _directory: tempfile::TempDir,
}

impl Replicate {
    pub fn start(replica: &Replica, db: &Path) -> Replicate {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path(), replica, db);
        Replicate::by(VERSION, &config, Signal::SIGTERM, directory)
    }

    fn by(version: &str, config: &Path, ends_by: Signal, directory: tempfile::TempDir) -> Replicate {
        let mut replicate = command(version);
        replicate.arg("replicate").arg("-config").arg(config);
        Replicate { process: Process::start(replicate), ends_by, _directory: directory }
    }

    pub fn stop(mut self) -> Ended {
        kill(self.process.pid(), self.ends_by).unwrap();
        let ended = self.process.wait(super::SOON);
        assert_eq!(ended.code, 0, "litestream replicate:\n{}", self.process.log_text());
        ended
    }
}

/// Earlier 0.5, whose pages have no flags.
pub mod older {
    use super::{Path, Replica, Replicate, Signal, config, restore_by};

    /// The first of 0.5 that can be had, and the last that refuses what 0.5.16 and later write.
    pub const FIRST: &str = "litestream-0.5.5/bin/litestream";
    pub const LAST: &str = "litestream-0.5.15/bin/litestream";

    pub fn restore(version: &str, replica: &Replica, out: &Path) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let db = directory.path().join("any.db");
        restore_by(version, &config(directory.path(), replica, &db), &db, out)
    }

    pub fn replicate(version: &str, replica: &Replica, db: &Path) -> Replicate {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path(), replica, db);
        Replicate::by(version, &config, Signal::SIGTERM, directory)
    }
}

/// Litestream 0.3.13: what people come from.
pub mod v3 {
    use super::{Path, PathBuf, Replica, Replicate, Signal, restore_by};

    const VERSION: &str = "litestream-0.3/bin/litestream";

    /// `more`: keys of the replica, indented by eight.
    fn config(directory: &Path, replica: &Replica, db: &Path, more: &str) -> PathBuf {
        let path = directory.join("litestream.yml");
        let keys = replica.yaml().replace("\n      ", "\n        ").replacen("      ", "      - ", 1);
        std::fs::write(&path, format!("dbs:\n  - path: {}\n    replicas:\n{keys}{more}", db.display()))
            .unwrap();
        path
    }

    /// Of the latest state into `out`, which is replaced. Err is what it said.
    pub fn restore(replica: &Replica, db: &Path, out: &Path) -> Result<(), String> {
        restore_with(replica, db, out, "")
    }

    pub fn restore_with(replica: &Replica, db: &Path, out: &Path, more: &str) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        restore_by(VERSION, &config(directory.path(), replica, db, more), db, out)
    }

    pub fn replicate(replica: &Replica, db: &Path) -> Replicate {
        replicate_with(replica, db, "")
    }

    pub fn replicate_with(replica: &Replica, db: &Path, more: &str) -> Replicate {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path(), replica, db, more);
        Replicate::by(VERSION, &config, Signal::SIGINT, directory)
    }
}

//! Litestream 0.5.17: the judge of what we write, and the writer of what we must read.

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
    for side in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{side}", out.display()));
    }
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("any.db");
    let mut restore = command(VERSION);
    restore.arg("restore").arg("-config").arg(config(directory.path(), replica, &db)).arg("-o").arg(out).arg(&db);
    let output = restore.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() && out.exists() { Ok(()) } else { Err(said) }
}

/// `litestream replicate` beside an app that somebody else runs.
pub struct Replicate {
    process: Process,
    _directory: tempfile::TempDir,
}

impl Replicate {
    pub fn start(replica: &Replica, db: &Path) -> Replicate {
        let directory = tempfile::tempdir().unwrap();
        let mut replicate = command(VERSION);
        replicate.arg("replicate").arg("-config").arg(config(directory.path(), replica, db));
        Replicate { process: Process::start(replicate), _directory: directory }
    }

    /// SIGTERM: its last sync, then the end.
    pub fn stop(mut self) -> Ended {
        kill(self.process.pid(), Signal::SIGTERM).unwrap();
        let ended = self.process.wait(super::SOON);
        assert_eq!(ended.code, 0, "litestream replicate:\n{}", self.process.log_text());
        ended
    }
}

/// Litestream 0.3.13: what people come from.
pub mod v3 {
    use super::{Path, PathBuf, Process, Replica, Signal, command, kill};

    const VERSION: &str = "litestream-0.3/bin/litestream";

    fn config(directory: &Path, replica: &Replica, db: &Path) -> PathBuf {
        let path = directory.join("litestream.yml");
        let keys = replica.yaml().replace("\n      ", "\n        ").replacen("      ", "      - ", 1);
        std::fs::write(&path, format!("dbs:\n  - path: {}\n    replicas:\n{keys}", db.display())).unwrap();
        path
    }

    /// Of the latest state into `out`, which is replaced. Err is what it said.
    pub fn restore(replica: &Replica, db: &Path, out: &Path) -> Result<(), String> {
        let _ = std::fs::remove_file(out);
        let directory = tempfile::tempdir().unwrap();
        let mut restore = command(VERSION);
        restore.arg("restore").arg("-config").arg(config(directory.path(), replica, db)).arg("-o").arg(out).arg(db);
        let output = restore.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() && out.exists() { Ok(()) } else { Err(said) }
    }

    pub struct Replicate {
        process: Process,
        _directory: tempfile::TempDir,
    }

    impl Replicate {
        pub fn start(replica: &Replica, db: &Path) -> Replicate {
            let directory = tempfile::tempdir().unwrap();
            let mut replicate = command(VERSION);
            replicate.arg("replicate").arg("-config").arg(config(directory.path(), replica, db));
            Replicate { process: Process::start(replicate), _directory: directory }
        }

        /// SIGINT: its last sync, then the end.
        pub fn stop(mut self) {
            kill(self.process.pid(), Signal::SIGINT).unwrap();
            let ended = self.process.wait(super::super::SOON);
            assert_eq!(ended.code, 0, "litestream 0.3 replicate:\n{}", self.process.log_text());
        }
    }
}

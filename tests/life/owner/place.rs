//! A site with its own socket, and commands on it.

use crate::support::litevisor::Litevisor;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use std::path::Path;
use std::process::{Command, Output};

pub fn site() -> Site {
    with_socket(Site::in_directory())
}

pub fn with_socket(mut site: Site) -> Site {
    site.settings = format!("[status]\nsocket = {:?}\n", site.path("litevisor.sock"));
    site
}

/// `litevisor --config FILE WORDS`, to its end.
pub fn litevisor(config: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command
        .arg("--config")
        .arg(config)
        .args(words)
        .env_remove("LITEVISOR_CONFIG")
        .env_remove("XDG_RUNTIME_DIR");
    command.output().unwrap()
}

/// Status, and everything that was said.
pub fn said(output: &Output) -> (i32, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

/// The bank runs and everything is in the replica up to now.
pub fn running(site: &Site) -> Litevisor {
    let run = site.run_bank(&["--rate", "50"]);
    let before = site.acked();
    site.wait_for_acks(before + 20);
    run
}

/// It goes on, ends with 0, and nothing is missing.
pub fn assert_unharmed(site: &Site, run: &mut Litevisor, what: &str) {
    let acked = site.acked();
    site.wait_for_acks(acked + 10);
    assert!(run.is_running(), "{what}: {}", run.log_text());
    let ended = run.stop();
    assert_eq!(ended.code, 0, "{what}: {}", run.log_text());
    site.assert_disk_holds_everything(what);
    site.assert_replica_holds_everything(what);
}

/// Rows by a process of its own that keeps the database open, in `mode`; ends with its stdin.
pub fn app_without_litevisor(db: &Path, mode: &str) -> std::process::Child {
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                  c.execute('PRAGMA journal_mode=' + sys.argv[2])\nc.execute('CREATE TABLE IF NOT EXISTS t(x)')\n\
                  c.execute('INSERT INTO t VALUES (1)')\nopen(sys.argv[1] + '.ready', 'w').close()\nsys.stdin.read()";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(db).arg(mode).stdin(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let ready = format!("{}.ready", db.display());
    wait_until("the app's first row", SOON, || Path::new(&ready).exists());
    std::fs::remove_file(ready).unwrap();
    child
}

pub fn dump(db: &Path) -> String {
    bank::dump(db)
}

//! Read-only copies of a replica that another litevisor writes: `litevisor follow`, and an app beside them
//! (`run --follow`).

mod app;
mod together;
mod trouble;

use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const READER: &str = include_str!("reader.py");

/// A writer's place whose replica gets commits quickly, and forgets quickly what it has merged.
fn site() -> Site {
    let site = Site::in_directory()
        .with_settings("[status]\nsocket = \"none\"")
        .with_database_settings(
            "levels = [\"1s\", \"2s\"]\nsnapshot = { interval = \"5s\" }\nretention = { snapshots = \"3s\", l0 = \"1s\" }",
        )
        .with_replica_settings("sync_interval = \"100ms\"");
    // The copies' readers may be other users.
    fs::set_permissions(site.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    site
}

fn follow(site: &Site, out: &Path, more: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.args(["follow", "--poll", "100ms"]).args(more).arg("-o").arg(out).arg(site.replica.url());
    Process::start(command)
}

/// What a reader has seen.
#[derive(Debug)]
struct Seen {
    looks: u64,
    wrong: u64,
    states: u64,
    integrity: String,
    uid: u32,
    role: String,
    attempts: String,
    failed: String,
}

impl Seen {
    fn read(out: &Path) -> Seen {
        let text = fs::read_to_string(out).unwrap();
        let parts: Vec<&str> = text.split('|').collect();
        let number = |at: usize| parts[at].parse::<u64>().unwrap();
        let text = |at: usize| parts[at].to_owned();
        Seen {
            looks: number(0),
            wrong: number(1),
            states: number(2),
            integrity: text(3),
            uid: u32::try_from(number(4)).unwrap(),
            role: text(5),
            attempts: text(6),
            failed: text(7),
        }
    }

    fn assert_whole(&self) {
        assert_eq!((self.wrong, self.integrity.as_str()), (0, "ok"), "{self:?}");
        assert!(self.looks > 0, "{self:?}");
    }
}

/// A program that has a copy open.
struct Reader {
    process: Process,
    out: PathBuf,
}

impl Reader {
    fn start(copy: &Path, out: PathBuf) -> Reader {
        let mut command = Command::new("python3");
        command.args(["-c", READER]).arg(copy).arg(&out);
        let process = Process::start(command);
        wait_until("the reader's first look", SOON, || first(&out).exists());
        Reader { process, out }
    }

    fn end(mut self) -> Seen {
        kill(self.process.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(self.process.wait(SOON).code, 7, "{}", self.process.log_text());
        Seen::read(&self.out)
    }
}

fn first(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".first");
    name.into()
}

fn stop(mut follower: Process) {
    kill(follower.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(follower.wait(SOON).code, 0, "{}", follower.log_text());
}

/// The copy holds what the writer's database holds, once the writer has ended.
fn wait_for_everything(site: &Site, copy: &Path) {
    let wanted = bank::dump(&site.db());
    wait_until("the copy to have everything", SOON, || bank::dump(copy) == wanted);
}

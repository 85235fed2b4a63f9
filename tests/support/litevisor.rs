//! The shipped binary: started as a plain process or as PID 1 of a namespace, watched through its log.

use super::process::{self, Ended, Process};
use super::{SOON, bank, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    Process,
    /// PID 1 of its own PID namespace, as in a container.
    Pid1,
}

/// A litevisor that runs.
pub struct Litevisor {
    process: Process,
    kind: As,
}

impl Litevisor {
    /// `litevisor run ARGS...`
    pub fn run(kind: As, args: &[OsString]) -> Litevisor {
        Litevisor::run_with(kind, args, &[])
    }

    /// The same with variables in its environment.
    pub fn run_with(kind: As, args: &[OsString], env: &[(String, String)]) -> Litevisor {
        Litevisor::start(kind, "run", args, env)
    }

    /// `litevisor replicate --config FILE ARGS...`
    pub fn replicate(kind: As, config: &Path, args: &[&str]) -> Litevisor {
        Litevisor::replicate_with(kind, config, args, &[])
    }

    pub fn replicate_with(kind: As, config: &Path, args: &[&str], env: &[(String, String)]) -> Litevisor {
        let config = ["--config".into(), config.as_os_str().to_owned()];
        let args: Vec<OsString> = config.into_iter().chain(args.iter().map(OsString::from)).collect();
        Litevisor::start(kind, "replicate", &args, env)
    }

    fn start(kind: As, word: &str, args: &[OsString], env: &[(String, String)]) -> Litevisor {
        let mut command = match kind {
            As::Process => Command::new(env!("CARGO_BIN_EXE_litevisor")),
            As::Pid1 => {
                let mut unshare = Command::new("unshare");
                if !nix::unistd::geteuid().is_root() {
                    unshare.arg("--map-root-user");
                }
                unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
                unshare.arg(env!("CARGO_BIN_EXE_litevisor"));
                unshare
            }
        };
        command.arg(word).args(args);
        clean(&mut command);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        Litevisor { process: Process::start(command), kind }
    }

    /// litevisor itself, also when it is PID 1 in there.
    pub fn pid(&self) -> Pid {
        match self.kind {
            As::Process => self.process.pid(),
            As::Pid1 => {
                wait_for("the namespace", SOON, || process::children(self.process.pid()).first().copied())
            }
        }
    }

    pub fn signal(&self, signal: Signal) -> Instant {
        let sent = Instant::now();
        kill(self.pid(), signal).unwrap();
        sent
    }

    /// The bank's process somewhere below litevisor.
    pub fn bank(&self) -> Pid {
        wait_for("the bank's process", SOON, || process::find_descendant(self.process.pid(), bank::binary()))
    }

    /// Waits until something runs below litevisor: the restore is over.
    pub fn wait_for_app(&self) {
        self.app();
    }

    /// The app's first process: a child that is another program. The guard of litevisor is a child from the
    /// start.
    pub fn app(&self) -> Pid {
        let is_app = |pid: &Pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            !name.is_empty() && !name.starts_with("litevisor")
        };
        wait_for("an app below litevisor", SOON, || process::children(self.pid()).into_iter().find(is_app))
    }

    pub fn wait(&mut self, limit: Duration) -> Ended {
        self.process.wait(limit)
    }

    /// SIGTERM, then the end.
    pub fn stop(&mut self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.wait(SOON)
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// kill -9 of litevisor, the app and all else at once: the machine is gone, the disk is not.
    pub fn kill_everything(&mut self) {
        self.process.kill_tree();
    }

    pub fn log_text(&self) -> String {
        self.process.log_text()
    }

    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }

    pub fn wait_for_log(&self, what: &str, limit: Duration, matches: impl Fn(&str) -> bool) -> String {
        self.process.wait_for_log(what, limit, matches)
    }

    /// Warnings and errors that name `subject`.
    pub fn wait_for_complaint(&self, subject: &str, limit: Duration) -> String {
        let what = format!("a warning or an error about {subject}");
        self.wait_for_log(&what, limit, |line| line.contains(subject) && is_complaint(line))
    }
}

fn is_complaint(line: &str) -> bool {
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(line) else { return false };
    let level =
        fields.get("level").or(fields.get("severity")).and_then(|value| value.as_str()).unwrap_or_default();
    matches!(level.to_ascii_lowercase().as_str(), "warn" | "warning" | "error")
}

/// `litevisor restore URL -o OUT`, for what needs no keys.
pub fn restore_url(url: &str, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.args(["restore", url]).arg("-o").arg(out);
    clean(&mut command);
    command.output().unwrap()
}

/// `litevisor restore DB --config FILE -o OUT`.
pub fn restore(config: &Path, db: &Path, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.arg("restore").arg(db).arg("--config").arg(config).arg("-o").arg(out);
    clean(&mut command);
    command.output().unwrap()
}

/// The exit status of `litevisor check --connect --config FILE`, and what it says.
pub fn check_connect(config: &Path) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.args(["check", "--connect", "--config"]).arg(config);
    clean(&mut command);
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

/// A command to the running supervisor of this configuration: its exit status, and what it says.
pub fn ask(config: &Path, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.arg("--config").arg(config).args(words);
    clean(&mut command);
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

/// Nothing of this shell's own settings may reach the binary under test.
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["AWS_", "BANK_", "LITEVISOR_", "LITESTREAM_", "NOTIFY_", "WATCHDOG_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(&*name);
        }
    }
}

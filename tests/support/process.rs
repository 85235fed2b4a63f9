//! Child processes that never outlive their test: each dies with the thread that started it, leads its own
//! process group, and is killed with everything below it when its guard is dropped.

use super::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub struct Process {
    child: Child,
    name: String,
    log: Arc<Mutex<Vec<String>>>,
    log_closed: Arc<AtomicBool>,
}

/// How a process ended: its code, or 128 + the signal's number.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub at: Instant,
}

impl Process {
    /// Starts it with stderr collected line by line and nothing on stdin and stdout.
    pub fn start(mut command: Command) -> Process {
        let name = format!("{:?}", command.get_program());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        super::signals::with_default_signals(&mut command);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (log, log_closed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (lines, closed) = (Arc::clone(&log), Arc::clone(&log_closed));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                lines.lock().unwrap().push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            closed.store(true, Ordering::SeqCst);
        });
        Process { child, name, log, log_closed }
    }

    pub fn pid(&self) -> Pid {
        pid(self.child.id())
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn log_text(&self) -> String {
        self.log().join("\n")
    }

    pub fn wait_for_log(&self, what: &str, limit: Duration, matches: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + limit;
        loop {
            if let Some(line) = self.log().into_iter().find(|line| matches(line)) {
                return line;
            }
            let time_is_up = Instant::now() >= end;
            assert!(
                !time_is_up,
                "{}: no log line within {limit:?} with {what}; log:\n{}",
                self.name,
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end; the whole log is there afterwards.
    pub fn wait(&mut self, limit: Duration) -> Ended {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let at = Instant::now();
                // Somebody left behind may hold the pipe open: that is for the test to notice, not to hang
                // on.
                let drained = Instant::now() + Duration::from_secs(2);
                while !self.log_closed.load(Ordering::SeqCst) && Instant::now() < drained {
                    std::thread::sleep(Duration::from_millis(2));
                }
                return Ended { code: code(status), at };
            }
            let time_is_up = Instant::now() >= end;
            assert!(!time_is_up, "{} still runs after {limit:?}; log:\n{}", self.name, self.log_text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// kill -9 of it and of everything below it, at once.
    pub fn kill_tree(&mut self) {
        let mut all = descendants(self.pid());
        all.push(self.pid());
        for pid in &all {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        let _ = self.child.wait();
        wait_for("killed processes to be gone", super::SOON, || {
            all.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            for pid in descendants(self.pid()) {
                let _ = kill(pid, Signal::SIGKILL);
            }
            let _ = kill(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

pub fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap())
}

/// Neither gone nor a zombie.
pub fn is_alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// State and parent.
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces and parentheses itself.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, Pid::from_raw(fields.next()?.parse().ok()?)))
}

pub fn children(of: Pid) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| Some(Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)));
    pids.filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == of)).collect()
}

pub fn descendants(of: Pid) -> Vec<Pid> {
    let mut found = children(of);
    let mut next = 0;
    while next < found.len() {
        let below = children(found[next]);
        found.extend(below);
        next += 1;
    }
    found
}

/// The descendant whose first word is `program`.
pub fn find_descendant(of: Pid, program: &Path) -> Option<Pid> {
    descendants(of).into_iter().find(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).next() == Some(program.as_os_str().as_encoded_bytes())
    })
}

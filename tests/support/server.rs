//! A server program of somebody else's on loopback, for tests: started on a port of its own, waited for, and
//! gone with the test's process, however that ends.

#![allow(dead_code)]

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Slow machines, cold caches.
const READY: Duration = Duration::from_secs(60);

pub struct Server {
    pub port: u16,
    child: Mutex<Child>,
    /// What it writes to.
    pub directory: tempfile::TempDir,
}

impl Server {
    /// `command` gets a free port and an empty directory. Ready is when the port accepts.
    pub fn start(name: &str, command: impl Fn(u16, &Path) -> Command) -> Server {
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let port = free_port();
            let mut command = command(port, directory.path());
            let log = std::fs::File::create(directory.path().join("server.log")).unwrap();
            command.stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
            let child = Mutex::new(spawn(command));
            let server = Server { port, child, directory };
            if server.is_ready() {
                return server;
            }
            eprintln!("{name} did not start:\n{}", server.log());
        }
        panic!("{name} did not start; see its log above");
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        let limit = Instant::now() + READY;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            // A port may be lost to somebody else between the choice and the start.
            if Instant::now() > limit || self.child.lock().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        let _ = child.wait();
    }
}

/// A program of tests/setup.sh. Missing is a failure, never a skip.
pub fn program(path: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/peers").join(path);
    assert!(program.exists(), "{} is missing: run tests/setup.sh", program.display());
    program
}

/// Below the range that the kernel hands out by itself.
fn free_port() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    loop {
        let candidate = 22_000 + (RandomState::new().hash_one(0) % 9_000) as u16;
        if TcpListener::bind(("127.0.0.1", candidate)).is_ok() {
            return candidate;
        }
    }
}

/// The server's parent is a thread that stays: the kernel sends the "parent died" signal when the spawning
/// thread ends, and a test's thread ends with its test.
fn spawn(mut command: Command) -> Child {
    let (started, child) = channel();
    command.process_group(0);
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
    }
    std::thread::spawn(move || {
        started.send(command.spawn().unwrap()).unwrap();
        loop {
            std::thread::park();
        }
    });
    child.recv().unwrap()
}

//! A real OpenSSH server for tests: on loopback, with its own port, host keys and login keys. It ends with
//! the test that owns it, or with the test's process, however that ends. Runs as whoever runs the tests; only
//! a login with a password needs root, because it needs a user of its own.

#![allow(dead_code)]

use litevisor::testing::model::Secret;
use litevisor::testing::store::{Scheme, SftpSettings, StoreSettings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

const SERVER: &str = "/usr/sbin/sshd";
const READY: Duration = Duration::from_secs(30);
/// Host keys, in the order in which a server names them.
pub const KINDS: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

pub struct Sshd {
    /// Keys, configuration, log.
    home: tempfile::TempDir,
    port: u16,
    config: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Sshd {
    pub fn start() -> Sshd {
        Sshd::with("Subsystem sftp internal-sftp -u 0077\n", &KINDS)
    }

    /// With its own subsystem line (and more), and with some host keys only.
    pub fn with(options: &str, host_keys: &[&str]) -> Sshd {
        assert!(Path::new(SERVER).exists(), "{SERVER} is missing: run tests/setup.sh");
        if nix::unistd::geteuid().is_root() {
            // sshd insists on it, and Debian makes it at boot only.
            let _ = fs::create_dir_all("/run/sshd");
        }
        let home = tempfile::tempdir().unwrap();
        // The data are inside: another user must be able to pass.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| home.path().join(name);
        let mut authorized = String::new();
        for kind in KINDS {
            keygen(&["-t", kind, "-N", "", "-f", at(&format!("host_{kind}")).to_str().unwrap()]);
            keygen(&["-t", kind, "-N", "", "-f", at(&format!("id_{kind}")).to_str().unwrap()]);
            authorized += &fs::read_to_string(at(&format!("id_{kind}.pub"))).unwrap();
        }
        fs::write(at("authorized_keys"), authorized).unwrap();
        fs::create_dir(at("data")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let shown = |name: &str| at(name).display().to_string();
        let keys: String =
            host_keys.iter().map(|kind| format!("HostKey {}\n", shown(&format!("host_{kind}")))).collect();
        let text = format!(
            "ListenAddress 127.0.0.1\nPort {port}\n{keys}PidFile none\nStrictModes no\nUsePAM no\nLogLevel VERBOSE\n\
             AuthorizedKeysFile {}\nPermitRootLogin yes\nKbdInteractiveAuthentication no\nMaxStartups 100\nMaxAuthTries 10\n\
             {options}",
            shown("authorized_keys"),
        );
        fs::write(at("sshd_config"), text).unwrap();
        let server = Sshd { port, config: at("sshd_config"), home, child: Mutex::new(None) };
        server.launch();
        server
    }

    /// The one server that all tests of a binary may share; never stopped by a test.
    pub fn shared() -> &'static Sshd {
        static SHARED: OnceLock<Sshd> = OnceLock::new();
        SHARED.get_or_init(Sshd::start)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Where the data are: a directory of this machine, too.
    pub fn data(&self, name: &str) -> PathBuf {
        self.home.path().join("data").join(name)
    }

    pub fn host_key(&self, kind: &str) -> String {
        fs::read_to_string(self.file(&format!("host_{kind}.pub"))).unwrap().trim().to_owned()
    }

    /// As `ssh-keygen -l` says.
    pub fn fingerprint(&self, kind: &str) -> String {
        let told =
            keygen(&["-l", "-E", "sha256", "-f", self.file(&format!("host_{kind}.pub")).to_str().unwrap()]);
        told.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// What a replica in the directory `name` is configured with.
    pub fn settings(&self, name: &str) -> StoreSettings {
        let path = self.data(name).display().to_string();
        let url = format!("sftp://{}@127.0.0.1:{}{path}", user(), self.port);
        let sftp = SftpSettings {
            user: user(),
            host: "127.0.0.1".to_owned(),
            port: self.port,
            key_file: Some(self.file("id_ed25519")),
            host_key: Some(self.fingerprint("ed25519")),
            ..SftpSettings::default()
        };
        StoreSettings { sftp, ..StoreSettings::new(Scheme::Sftp, url, String::new(), path) }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// SIGKILL to the server and every connection of it.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            for pid in below(child.id()).into_iter().chain([child.id()]) {
                let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
            }
            let _ = child.wait();
        }
    }

    /// SIGKILL to every connection; the server goes on.
    pub fn cut(&self) {
        let id = self.child.lock().unwrap().as_ref().unwrap().id();
        for pid in below(id) {
            let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
        }
    }

    /// Holds every connection of it, or lets them go on.
    pub fn signal_connections(&self, signal: Signal) {
        let id = self.child.lock().unwrap().as_ref().unwrap().id();
        for pid in below(id) {
            let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
        }
    }

    /// Again, on the same port.
    pub fn launch(&self) {
        let log = fs::File::options().create(true).append(true).open(self.file("log")).unwrap();
        let (config, errors) = (self.config.clone(), log.try_clone().unwrap());
        let mut command = Command::new(SERVER);
        command.arg("-D").arg("-e").arg("-f").arg(config).stdin(Stdio::null()).stdout(log).stderr(errors);
        command.process_group(0);
        // It ends with the thread that starts it: one that lives as long as the process.
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            sender.send(command.spawn().unwrap()).unwrap();
            loop {
                std::thread::park();
            }
        });
        *self.child.lock().unwrap() = Some(receiver.recv().unwrap());
        let end = Instant::now() + READY;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "sshd is not there after {READY:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A user of the machine with a password, for as long as this lives. Needs root.
pub struct Guest {
    pub name: String,
    pub password: Secret,
}

impl Guest {
    /// None when the tests do not run as root: nobody else may make users.
    pub fn new(name: &str) -> Option<Guest> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("logins with a password are tested as root only");
            return None;
        }
        let guest = Guest {
            name: format!("lv-{name}-{}", std::process::id()),
            password: Secret::new("pa ss/w@rd%1"),
        };
        run(Command::new("useradd").args(["-M", "-d", "/", "-s", "/bin/sh", &guest.name]));
        let mut set = Command::new("chpasswd").stdin(Stdio::piped()).spawn().unwrap();
        let line = format!("{}:{}\n", guest.name, guest.password.reveal());
        std::io::Write::write_all(&mut set.stdin.take().unwrap(), line.as_bytes()).unwrap();
        assert!(set.wait().unwrap().success(), "chpasswd failed");
        Some(guest)
    }

    /// Gives it a directory of its own.
    pub fn own(&self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        run(Command::new("chown").arg(&self.name).arg(directory));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = Command::new("userdel").args(["-f", &self.name]).stderr(Stdio::null()).status();
    }
}

pub fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name
}

/// Runs ssh-keygen and returns what it says.
pub fn keygen(arguments: &[&str]) -> String {
    let output = Command::new("ssh-keygen").args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("ssh-keygen: {error}; run tests/setup.sh"));
    assert!(output.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Every process below one, the nearest first.
fn below(of: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

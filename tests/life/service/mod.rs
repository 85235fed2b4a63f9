//! What litevisor tells a service manager by sd_notify(3), and what it hears from an app that speaks it. The
//! tests bind the manager's socket.

mod app;
mod told;
mod watchdog;

use crate::support::litevisor::{self, Litevisor};
use crate::support::site::Site;
use crate::support::{SOON, wait_for, wait_until};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The socket of a service manager, and what has come.
struct Manager {
    address: String,
    messages: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Manager {
    fn at_path(site: &Site) -> Manager {
        let path = site.path("manager.sock");
        Manager::reading(UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned())
    }

    fn abstract_name(site: &Site) -> Manager {
        let name = site.path("manager").to_str().unwrap().to_owned();
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Manager::reading(socket, format!("@{name}"))
    }

    fn reading(socket: UnixDatagram, address: String) -> Manager {
        let messages = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&messages);
        std::thread::spawn(move || {
            let mut buffer = [0; 9000];
            while let Ok(read) = socket.recv(&mut buffer) {
                let text = String::from_utf8(buffer[..read].to_vec()).unwrap();
                taken.lock().unwrap().push((Instant::now(), text));
            }
        });
        Manager { address, messages }
    }

    fn env(&self, watchdog: Option<Duration>) -> Vec<(String, String)> {
        let usec = watchdog.map(|watchdog| ("WATCHDOG_USEC".to_owned(), watchdog.as_micros().to_string()));
        std::iter::once(("NOTIFY_SOCKET".to_owned(), self.address.clone())).chain(usec).collect()
    }

    /// The assignments in their order.
    fn lines(&self) -> Vec<String> {
        let messages = self.messages.lock().unwrap();
        messages.iter().flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Those of this name.
    fn values(&self, name: &str) -> Vec<String> {
        let value = |line: String| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        self.lines().into_iter().filter_map(value).collect()
    }

    fn has(&self, line: &str) -> bool {
        self.lines().iter().any(|told| told == line)
    }

    fn wait_for(&self, line: &str) {
        wait_until(line, SOON, || self.has(line));
    }

    fn wait_for_status(&self, part: &str) {
        wait_until(part, SOON, || self.values("STATUS").iter().any(|status| status.contains(part)));
    }

    fn last_fed(&self) -> Option<Instant> {
        let messages = self.messages.lock().unwrap();
        messages.iter().rev().find(|(_, text)| text.contains("WATCHDOG=1")).map(|(at, _)| *at)
    }
}

/// Sends what is written to `say`; while there is a file `beat`, it sends WATCHDOG=1. Says in `env` what it
/// was given.
const APP: &str = r#"
import os, socket, sys, time
home = sys.argv[1]
names = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']
with open(home + '/env.new', 'w') as file:
    file.write(str(os.getpid()) + '\n' + '\n'.join(os.environ.get(name, '-') for name in names))
os.rename(home + '/env.new', home + '/env')
to = os.environ['NOTIFY_SOCKET']
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(text): s.sendto(text.encode(), '\0' + to[1:] if to[0] == '@' else to)
while True:
    if os.path.exists(home + '/say'):
        with open(home + '/say') as file: text = file.read()
        os.unlink(home + '/say')
        say(text)
    if os.path.exists(home + '/beat'): say('WATCHDOG=1')
    time.sleep(0.05)
"#;

/// One that every user may run: version managers live in a home directory.
fn python() -> &'static str {
    if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" }
}

struct Talker(Site);

impl Talker {
    /// `settings`: behind `[app]`.
    fn new(settings: &str) -> Talker {
        let mut site = Site::in_directory();
        let socket = site.path("litevisor.sock");
        site.settings = format!("[status]\nsocket = {socket:?}\n[app]\nready = \"notify\"\n{settings}\n");
        std::fs::create_dir(site.path("home")).unwrap();
        for path in [site.path(""), site.path("home"), site.disk()] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        Talker(site)
    }

    fn home(&self, name: &str) -> PathBuf {
        self.0.path("home").join(name)
    }

    fn words(&self) -> Vec<String> {
        [python(), "-S", "-c", APP, self.0.path("home").to_str().unwrap()].map(str::to_owned).to_vec()
    }

    fn run(&self) -> Litevisor {
        let words = self.words();
        self.0.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn say(&self, text: &str) {
        std::fs::write(self.home("say.new"), text).unwrap();
        std::fs::rename(self.home("say.new"), self.home("say")).unwrap();
        wait_until("the app to say it", SOON, || !self.home("say").exists());
    }

    /// PID, NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID as the app sees them.
    fn env(&self) -> [String; 4] {
        let text = wait_for("the app", SOON, || std::fs::read_to_string(self.home("env")).ok());
        text.lines().map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()
    }

    /// Whether the app is ready, and what is said of it.
    fn ready(&self) -> (bool, String) {
        let (code, text) = litevisor::ask(&self.0.config(), &["healthcheck"]);
        (code == 0, text)
    }
}
